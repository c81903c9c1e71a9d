"""Requests that wait until a run changes.

The engine says from its threads that a run changed. For each run that somebody watches, that
becomes one reading of its summary, at most every 20 ms, which all of the run's waiters
are shown.
A step that none of them waits for is not read: it would take a core for a while from the threads
that compute. A run that nobody watches costs nothing, a watcher that waits one entry, which it
alone removes.
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
"""Seconds between two readings of a run: a step may take 5 ms, and nobody reads that fast."""


_Summary = TypeVar("_Summary", bound=RunSummary)


class _LongPoll(Generic[_Summary]):
    """One request that waits, until a summary answers it.

    No step before `due` does, unless something else changes too.
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
    """The requests that wait, by run. All but `notify` belongs to the event loop's thread.

    `closed` tells that the server is stopping, and that there is nothing to read any more.
    """

    def __init__(self, read: Callable[[str], _Summary]) -> None:
        self._read = read
        self._watchers: dict[str, set[_LongPoll[_Summary]]] = {}
        self._changed: set[str] = set()
        self._due: dict[str, int] = {}
        self._read_at: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: set[asyncio.Task[None]] = set()
        self.closed = False

    def notify(self, run: str, step: int | None = None) -> None:
        """Say that `run` changed, by that step alone or otherwise: from any thread, at once."""
        loop = self._loop
        # A run in `_changed` is yet to be read, and the reading will see this change too.
        if loop is None or run not in self._watchers or run in self._changed:
            return
        if step is not None and step < self._due.get(run, 0):
            return
        self._changed.add(run)
        try:
            loop.call_soon_threadsafe(self._read_soon, run)
        except RuntimeError:  # the loop has closed, and its requests with it
            self._changed.discard(run)

    async def wait(
        self, run: str, due_after: Callable[[_Summary], int | None], *, seconds: float
    ) -> None:
        """Wait until a summary of the run ends it, the run is gone, or the time is over.

        `due_after` returns None for a summary that ends it; else the first step that may do so
        where nothing but steps changes.
        """
        if self.closed:
            return
        self._loop = asyncio.get_running_loop()
        watcher = _LongPoll(due_after)
        self._watchers.setdefault(run, set()).add(watcher)
        self._due[run] = 0
        self.notify(run)  # what changed before this watcher was here
        try:
            async with asyncio.timeout(seconds):
                await watcher.over
        except TimeoutError:
            pass
        finally:
            self._remove(run, watcher)

    def close(self) -> None:
        """End every wait, now and from now on."""
        self.closed = True
        for run in self._watchers:
            self._end(run)

    def _remove(self, run: str, watcher: _LongPoll[_Summary]) -> None:
        self._watchers[run].discard(watcher)
        if not self._watchers[run]:
            del self._watchers[run]
            self._read_at.pop(run, None)
            self._due.pop(run, None)

    def _set_due(self, run: str) -> None:
        # What comes to be due earlier than this does so by a change that is no step.
        if long_polls := self._watchers.get(run):
            self._due[run] = min(watcher.due for watcher in long_polls)

    def _end(self, run: str) -> None:
        for watcher in self._watchers.get(run, ()):
            watcher.end()

    def _read_soon(self, run: str) -> None:
        loop = asyncio.get_running_loop()
        wait = self._read_at.get(run, 0.0) + READ_INTERVAL - loop.time()
        loop.call_later(max(0.0, wait), self._start_reading, run)

    def _start_reading(self, run: str) -> None:
        task = asyncio.get_running_loop().create_task(self._show(run))
        self._reading.add(task)  # the loop itself keeps no reference to it
        task.add_done_callback(self._reading.discard)

    async def _show(self, run: str) -> None:
        self._changed.discard(run)  # before it is read: what changes from here on is another one
        if run not in self._watchers:
            return
        self._read_at[run] = asyncio.get_running_loop().time()
        try:
            summary = await run_sync(self._read, run)
        except OmegaError as error:  # such as a run that was removed: the request will say so
            logger.debug("long_polls of %s end: %s", run, error)
            self._end(run)
            return
        for watcher in tuple(self._watchers.get(run, ())):
            watcher.show(summary)
        self._set_due(run)
