"""What runs beside the reading of results: evaluations, status, checkpoints, loggers."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from omega21.client.concurrency import run_all
from omega21.client.events import Event, Notice, StepsDone
from omega21.client.loggers.feeding import Feeds


class Monitor(Protocol):
    """Runs beside a training."""

    async def run(self) -> None:
        """Run until `stop`."""

    def reached(self, step: int) -> None:
        """Take note that results up to this step are there."""

    def stop(self) -> None:
        """Begin nothing more."""


class Monitors:
    """Runs monitors until `stop`, which the end of the results brings; hears of them by `tell`."""

    def __init__(
        self, *monitors: Monitor, feeds: Feeds, emit: Callable[[Event], Awaitable[None]]
    ) -> None:
        self._monitors = monitors
        self._feeds = feeds
        self._emit = emit

    async def tell(self, event: Event) -> None:
        """Pass an event on, and act on new results."""
        await self._emit(event)
        if isinstance(event, StepsDone):
            for monitor in self._monitors:
                monitor.reached(event.rows[-1].step)
            self._feeds.wake()
            for failure in self._feeds.failures():
                await self._emit(Notice(failure))

    async def run(self) -> None:
        """Run them all, until `stop`."""
        await run_all(*(monitor.run for monitor in self._monitors))

    def stop(self) -> None:
        """Begin nothing more."""
        for monitor in self._monitors:
            monitor.stop()
