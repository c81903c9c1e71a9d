"""Cancels a handler when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

_Answer = TypeVar("_Answer")


async def unless_left(request: Request, answer: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Return the result. Cancels it and raises ClientDisconnect when the client disconnects."""
    answering = asyncio.create_task(answer)
    leaving = asyncio.create_task(_until_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
