"""Settings of an engine on its machine; none of them belongs to a run."""

from dataclasses import dataclass
from pathlib import Path

from omega21.executors.options import DeviceOptions
from omega21.protocol.tasks.consent import NO_CODE, Consent


@dataclass(frozen=True, kw_only=True)
class EngineOptions(DeviceOptions):
    """Settings of one engine, including those of its device.

    `disk_limit` is the maximum size of all shards in bytes, by default 80 % of the free space at
    the start. A checkpoint is taken every `checkpoint_seconds` or every `checkpoint_steps`. The
    weights of at most `resident_runs` runs are in memory; others are evicted to disk. `restarts`
    and `last_death` describe the processes before this one, from the supervisor. `mirror` is a
    folder to which checkpoints are copied, and from which an empty data folder is restored.
    `allow_code` is the users' source that may be executed, `allow_install` whether its requirements
    are installed, `offers` the source that the server was started with: entries and digests.
    """

    disk_limit: int | None = None
    max_runs: int = 64
    resident_runs: int = 4
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int = 500
    mirror: Path | None = None
    restarts: int = 0
    last_death: str | None = None
    allow_code: Consent = NO_CODE
    allow_install: bool = False
    offers: tuple[tuple[str, str], ...] = ()
