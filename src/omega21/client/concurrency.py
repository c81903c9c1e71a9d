"""Tasks that stand or fall together."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from omega21.protocol.errors import OmegaError

EXPECTED: Final = (OmegaError, OSError, sqlite3.Error)
"""What can go wrong without a fault of omega21's own: the server, the link, this machine's disk."""


async def together(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run tasks side by side; the first expected failure ends the others and is raised as it is.

    (A task group would wrap it, and every caller would have to unwrap.)
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
