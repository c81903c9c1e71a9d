"""Long polls: requests that wait until a run changes.

The engine's threads notify that a run has changed. For each run with long polls, its summary is
then read once, at most every 20 ms, and given to all of them. A step that none of them waits for is
not read: that would take CPU time from the compute threads. A run without long polls costs nothing;
a long poll is one entry, which only it removes.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from anyio.to_thread import run_sync

from omega21.protocol.errors import OmegaError
from omega21.protocol.runs import RunSummary

logger = logging.getLogger(__name__)

READ_INTERVAL: Final = 0.02
"""Minimum seconds between two reads of a run: a step may take 5 ms, no client reads that fast."""


_Summary = TypeVar("_Summary", bound=RunSummary)


class _LongPoll(Generic[_Summary]):
    """One waiting request, until a summary answers it.

    No step before `due` answers it, unless something else changes too.
    """

    def __init__(self, due_after: Callable[[_Summary], int | None]) -> None:
        self.due = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due_after = due_after

    def show(self, summary: _Summary) -> None:
        due = self._due_after(summary)
        if due is None:
            self.end()
        else:
            self.due = due

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class LongPolls(Generic[_Summary]):
    """The waiting requests, by run. Everything except `notify` is for the event loop's thread only.

    `closed` is set when the server is stopping, and nothing can be read any more.
    """

    def __init__(self, read: Callable[[str], _Summary]) -> None:
        self._read = read
        self._waiting: dict[str, set[_LongPoll[_Summary]]] = {}
        self._changed: set[str] = set()
        self._due: dict[str, int] = {}
        self._read_at: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: set[asyncio.Task[None]] = set()
        self.closed = False

    def notify(self, run: str, step: int | None = None) -> None:
        """Notify that `run` has changed, only by `step` if it is given.

        From any thread, returns at once.
        """
        loop = self._loop
        # A run in `_changed` will be read, and that read includes this change.
        if loop is None or run not in self._waiting or run in self._changed:
            return
        if step is not None and step < self._due.get(run, 0):
            return
        self._changed.add(run)
        try:
            loop.call_soon_threadsafe(self._read_soon, run)
        except RuntimeError:  # the loop has closed, with its requests
            self._changed.discard(run)

    async def wait(
        self, run: str, due_after: Callable[[_Summary], int | None], *, seconds: float
    ) -> None:
        """Wait until a summary of the run answers it, the run is gone, or the time is over.

        `due_after` returns None for a summary that answers it; else the first step that may do so
        if only steps change.
        """
        if self.closed:
            return
        self._loop = asyncio.get_running_loop()
        long_poll = _LongPoll(due_after)
        self._waiting.setdefault(run, set()).add(long_poll)
        self._due[run] = 0
        self.notify(run)  # changes before this long poll
        try:
            async with asyncio.timeout(seconds):
                await long_poll.over
        except TimeoutError:
            pass
        finally:
            self._remove(run, long_poll)

    def close(self) -> None:
        """End every long poll, now and later."""
        self.closed = True
        for run in self._waiting:
            self._end(run)

    def _remove(self, run: str, long_poll: _LongPoll[_Summary]) -> None:
        self._waiting[run].discard(long_poll)
        if not self._waiting[run]:
            del self._waiting[run]
            self._read_at.pop(run, None)
            self._due.pop(run, None)

    def _set_due(self, run: str) -> None:
        # Only a state change can make a long poll due earlier.
        if long_polls := self._waiting.get(run):
            self._due[run] = min(long_poll.due for long_poll in long_polls)

    def _end(self, run: str) -> None:
        for long_poll in self._waiting.get(run, ()):
            long_poll.end()

    def _read_soon(self, run: str) -> None:
        loop = asyncio.get_running_loop()
        wait = self._read_at.get(run, 0.0) + READ_INTERVAL - loop.time()
        loop.call_later(max(0.0, wait), self._start_reading, run)

    def _start_reading(self, run: str) -> None:
        task = asyncio.get_running_loop().create_task(self._show(run))
        self._reading.add(task)  # the loop itself has no reference to it
        task.add_done_callback(self._reading.discard)

    async def _show(self, run: str) -> None:
        self._changed.discard(run)  # before the read: later changes are new ones
        if run not in self._waiting:
            return
        self._read_at[run] = asyncio.get_running_loop().time()
        try:
            summary = await run_sync(self._read, run)
        except OmegaError as error:  # such as a removed run: the request reports it
            logger.debug("long_polls of %s end: %s", run, error)
            self._end(run)
            return
        for long_poll in tuple(self._waiting.get(run, ())):
            long_poll.show(summary)
        self._set_due(run)
