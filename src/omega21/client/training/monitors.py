"""Tasks beside the results poller of a segment: evaluations, status, checkpoints, loggers."""

from collections.abc import Awaitable, Callable

from omega21.client.concurrency import run_all
from omega21.client.events import Event, Notice, StepsDone
from omega21.client.loggers.feeding import Feeds
from omega21.client.training.checkpoint_download import CheckpointDownloads
from omega21.client.training.evaluation import EvaluationMonitor
from omega21.client.training.status_poller import StatusPoller


class Monitors:
    """Runs until `stop`, at the end of the segment; gets its events by `tell`."""

    def __init__(
        self,
        *,
        evaluations: EvaluationMonitor,
        status_poller: StatusPoller,
        downloads: CheckpointDownloads,
        feeds: Feeds,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._evaluations = evaluations
        self._status_poller = status_poller
        self._downloads = downloads
        self._feeds = feeds
        self._emit = emit

    async def tell(self, event: Event) -> None:
        """Emit an event of the results poller, and act on new results."""
        await self._emit(event)
        if isinstance(event, StepsDone):
            self._status_poller.begin()
            self._evaluations.reached(event.rows[-1].step)
            self._feeds.wake()
            for failure in self._feeds.failures():
                await self._emit(Notice(failure))

    async def run(self) -> None:
        """Run all monitors until `stop`."""
        await run_all(
            self._downloads.from_time_to_time, self._evaluations.run, self._status_poller.run
        )

    def stop(self) -> None:
        """Stop the monitors."""
        self._downloads.stop()
        self._evaluations.stop()
        self._status_poller.stop()
