"""How a training is run by this client: where its folder is, what is pulled, who is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from omega21.client.loggers import LoggerChoice

Pull: TypeAlias = Literal["auto", "never", "end"] | float
"""When a checkpoint is pulled: never, at the end, every so many seconds and at the end, or `auto`:
at the end where the server is on this machine or behind an SSH forward, whose bytes are not
counted, and the steps took longer than a minute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """What of a training is this client's choice, and changes no result.

    The run's folder is in `workdir`, by default the user's data folder. While the server is
    unreachable it is tried again for `patience` seconds. Checkpoints are pulled into the folder as
    `pull` says. Each of `loggers` gets the metrics: `tensorboard`, `mlflow`, `wandb`, `trackio`, or
    one of your own.
    """

    workdir: Path | None = None
    patience: float = 600.0
    pull: Pull = "never"
    loggers: Sequence[LoggerChoice] = ()
