"""Groups of tasks that fail together."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from omega21.protocol.errors import OmegaError

_First = TypeVar("_First")
_Second = TypeVar("_Second")

EXPECTED: Final = (OmegaError, OSError, sqlite3.Error)
"""Expected failures: of the server, of the link, of this machine's disk."""


async def run_all(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run tasks concurrently; the first expected failure cancels the others and is raised.

    (A task group would wrap it, and every caller would have to unwrap it.)
    """
    failures: list[Exception] = []

    async with anyio.create_task_group() as group:

        async def guarded(task: Callable[[], Awaitable[None]]) -> None:
            try:
                await task()
            except EXPECTED as error:
                failures.append(error)
                group.cancel_scope.cancel()

        for task in tasks:
            group.start_soon(guarded, task)
    if failures:
        raise failures[0]


async def gather(
    first: Callable[[], Awaitable[_First]], second: Callable[[], Awaitable[_Second]]
) -> tuple[_First, _Second]:
    """Run two calls concurrently and return both results; fails as `run_all` does."""
    firsts: list[_First] = []
    seconds: list[_Second] = []

    async def ask_first() -> None:
        firsts.append(await first())

    async def ask_second() -> None:
        seconds.append(await second())

    await run_all(ask_first, ask_second)
    return firsts[0], seconds[0]
