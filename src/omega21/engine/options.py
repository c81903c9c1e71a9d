"""How an engine uses its machine; none of it belongs to a run."""

from dataclasses import dataclass
from pathlib import Path

from omega21.executors.base import DeviceOptions


@dataclass(frozen=True, kw_only=True)
class EngineOptions(DeviceOptions):
    """Settings of one engine, those of its device among them.

    `disk_limit` is the most bytes that shards may take, by default 80 % of what is free when the
    engine starts. A checkpoint is taken every `checkpoint_seconds` or every `checkpoint_steps`. Of
    `resident_runs` runs the weights are in memory; others are put away to disk. `restarts` and
    `last_death` are what a supervisor knows of the processes before this one. `mirror` is a folder
    to which checkpoints are copied, and from which an empty data folder is filled.
    """

    disk_limit: int | None = None
    max_runs: int = 64
    resident_runs: int = 4
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int = 500
    mirror: Path | None = None
    restarts: int = 0
    last_death: str | None = None
