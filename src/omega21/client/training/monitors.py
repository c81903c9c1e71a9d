"""Tasks beside the results poller of a segment: evaluations, status, checkpoints, loggers."""

from collections.abc import Awaitable, Callable

from omega21.client.concurrency import together
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
        evaluating: EvaluationMonitor,
        pulse: StatusPoller,
        pulling: CheckpointDownloads,
        feeds: Feeds,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._evaluating = evaluating
        self._pulse = pulse
        self._pulling = pulling
        self._feeds = feeds
        self._emit = emit

    async def tell(self, event: Event) -> None:
        """Emit an event of the results poller, and act on new results."""
        await self._emit(event)
        if isinstance(event, StepsDone):
            self._pulse.begin()
            self._evaluating.reached(event.rows[-1].step)
            self._feeds.wake()
            for failure in self._feeds.failures():
                await self._emit(Notice(failure))

    async def run(self) -> None:
        """Run all monitors until `stop`."""
        await together(self._pulling.from_time_to_time, self._evaluating.run, self._pulse.run)

    def stop(self) -> None:
        """Stop the monitors."""
        self._pulling.stop()
        self._evaluating.stop()
        self._pulse.stop()
