"""Cancels a handler when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

_Response = TypeVar("_Response")


async def unless_disconnected(
    request: Request, response: Coroutine[Any, Any, _Response]
) -> _Response:
    """Return the result. Cancels it and raises ClientDisconnect when the client disconnects."""
    responding = asyncio.create_task(response)
    disconnecting = asyncio.create_task(_until_disconnected(request))
    try:
        await asyncio.wait({responding, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not responding.done():
            raise ClientDisconnect
        return responding.result()
    finally:
        responding.cancel()
        disconnecting.cancel()


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
