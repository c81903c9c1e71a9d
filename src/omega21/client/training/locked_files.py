"""Waits for a file of the run folder that another program has locked."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from anyio.to_thread import run_sync

from omega21.client.events import Event, Notice
from omega21.language import _
from omega21.protocol.errors import FileLocked

PATIENCE_SECONDS: Final = 30 * 60.0
"""Maximum wait for another program; the server trains on meanwhile."""

_Done = TypeVar("_Done")


async def when_unlocked(
    write: Callable[[], _Done], *, emit: Callable[[Event], Awaitable[None]]
) -> _Done:
    """Write in a thread, with retries while another program has the file locked.

    Each attempt waits some seconds itself. Raises FileLocked when it was locked for too long.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    is_told = False
    while True:
        try:
            return await run_sync(write)
        except FileLocked as locked:
            if time.monotonic() >= give_up_at:
                raise
            if not is_told:
                is_told = True
                await emit(
                    Notice(
                        _("waiting for another program to close a file: {what}").format(
                            what=locked.message
                        )
                    )
                )
