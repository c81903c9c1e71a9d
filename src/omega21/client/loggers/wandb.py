"""Weights & Biases: one W&B run for each run, continued by its id.

Its environment variables apply (WANDB_MODE, WANDB_PROJECT, …); its files are in the run folder.
"""

from collections.abc import Sequence

import wandb

from omega21.client.loggers import LoggedRun, Logger, Point

_PROJECT = "omega21"


class WeightsAndBiases:
    """Logs through a W&B run of its own."""

    def start(self, run: LoggedRun) -> None:
        """Create the W&B run, or continue it."""
        self._run = wandb.init(
            project=wandb.setup().settings.project or _PROJECT,
            id=run.id,
            name=run.name,
            config=dict(run.parameters),
            dir=run.folder,
            resume="allow",
            reinit="create_new",  # another run of this process, in a notebook, is not affected
            settings=wandb.Settings(silent=True, console="off"),
        )
        # Evaluations are logged after later steps, and W&B requires its own step to rise.
        self._run.define_metric("omega21/step", hidden=True)
        self._run.define_metric("*", step_metric="omega21/step")

    def log(self, points: Sequence[Point]) -> None:
        """Log points at the run's own steps."""
        for point in points:
            self._run.log({**point.metrics, "omega21/step": point.step})

    def finish(self) -> None:
        """Send the remaining points."""
        self._run.finish()


def make() -> Logger:
    """Return the logger."""
    return WeightsAndBiases()
