"""Trackio: to its local database in TRACKIO_DIR, else its default folder.

One Trackio run for each run, continued by its name and the first digits of its id.
"""

from collections.abc import Sequence

import trackio

from omega21.client.loggers import LoggedRun, Logger, Point

_PROJECT = "omega21"


class Trackio:
    """Logs through a Trackio run of its own."""

    def start(self, run: LoggedRun) -> None:
        """Create the Trackio run, or continue it."""
        self._run = trackio.init(
            project=_PROJECT,
            name=f"{run.name}-{run.id[:6]}",
            config=dict(run.parameters),
            resume="allow",
            embed=False,
            auto_log_gpu=False,  # this machine's, which does not compute
            auto_log_cpu=False,
        )

    def log(self, points: Sequence[Point]) -> None:
        """Log points at the run's own steps."""
        for point in points:
            self._run.log(dict(point.metrics), step=point.step)

    def finish(self) -> None:
        """Write the remaining points."""
        self._run.finish()  # type: ignore[no-untyped-call]


def make() -> Logger:
    """Return the logger."""
    return Trackio()
