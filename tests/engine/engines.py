"""Real engines on real folders, what tests feed them, and how they wait for what they did."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.models.corteza.config import TINY, run_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.plan import Segment, SegmentStored, ShardRef, Source
from omega21.protocol.runs import RunConfig, RunSummary
from omega21.protocol.shards import Tensors, encode_shard, pack, shard_samples
from tests.engine.local_device import local_engine

CONFIG = run_config(model=TINY, seed=7)
OPTIONS = EngineOptions(device="cpu", threads=1)
MOST_SECONDS = 60.0
"""A wait that takes longer has hung."""

FloatArray = NDArray[np.float32]


class Samples(NamedTuple):
    """x float32 [n, 1600], y float32 [n]."""

    x: FloatArray
    y: FloatArray


def make_samples(count: int, *, seed: int = 0) -> Samples:
    """Make samples that can be learned: those with label 1 are larger."""
    rng = np.random.default_rng(seed)
    y = (rng.random(count) < 0.3).astype(np.float32)
    x = rng.uniform(-1, 1, (count, TINY.features)).astype(np.float32)
    return Samples(x * (1 + y[:, None]), y)


@dataclass(frozen=True)
class Shard:
    """A shard as a client holds it."""

    tensors: Tensors
    sha256: str

    @property
    def ref(self) -> ShardRef:
        """How a segment lists it."""
        return ShardRef(sha256=self.sha256, samples=shard_samples(self.tensors))

    @property
    def body(self) -> bytes:
        """How it travels by default."""
        return encode_shard(self.tensors)

    @property
    def plain(self) -> bytes:
        """How it travels as a plain file."""
        return pack(self.tensors)


def make_shard(samples: Samples) -> Shard:
    """Make one shard of samples."""
    tensors = {"x": samples.x, "y": samples.y}
    return Shard(tensors, tensors_sha256(tensors))


def cut(samples: Samples, size: int) -> list[Shard]:
    """Cut samples into shards of `size`, the last one short."""
    starts = range(0, len(samples.y), size)
    return [make_shard(Samples(samples.x[s : s + size], samples.y[s : s + size])) for s in starts]


def make_segment(shards: Sequence[Shard], *, batch_size: int, **numbers: int) -> Segment:
    """Describe a segment that is whole: epochs, order_seed and samples as asked for."""
    refs = tuple(shard.ref for shard in shards)
    fields: dict[str, Any] = {"samples": sum(ref.samples for ref in refs), **numbers}
    return Segment(batch_size=batch_size, source=Source(kind="file"), shards=refs, **fields)


@contextmanager
def running(folder: Path, options: EngineOptions = OPTIONS) -> Iterator[Engine]:
    """Start an engine on a folder; stop it at the end."""
    engine = local_engine(folder, options)
    engine.start()
    try:
        yield engine
    finally:
        assert engine.stop(MOST_SECONDS)
        engine.close()


def wait_until(engine: Engine, run: str, holds: Callable[[RunSummary], bool]) -> RunSummary:
    """Wait until something holds of a run; each change of the run is a reason to look again."""
    changed = threading.Event()
    unsubscribe = engine.registry.subscribe(lambda *_: changed.set())
    try:
        while True:
            changed.clear()
            summary = engine.runs.summary(run)
            if holds(summary):
                return summary
            assert changed.wait(MOST_SECONDS), f"nothing changed any more: {summary}"
    finally:
        unsubscribe()


class Row(NamedTuple):
    """What a step's result says, but for the times; one that does not count has no values."""

    step: int
    loss: float | None
    metrics: dict[str, float]
    samples: int
    digest: str
    non_finite: bool
    micro_batch_size: int | None
    vectors: dict[str, list[float]]


class Outcome(NamedTuple):
    """All that must be equal where two runs are."""

    rows: list[Row]
    weights_sha256: str


@dataclass
class DrivenRun:
    """One run of an engine, as a client drives it."""

    engine: Engine
    name: str = "a-run"
    config: RunConfig = CONFIG
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.engine.runs.create(self.name, self.id, self.config)

    def on(self, engine: Engine) -> "DrivenRun":
        """Drive the same run on another engine."""
        return DrivenRun(engine, self.name, self.config, self.id)

    def upload(self, shards: Sequence[Shard]) -> None:
        """Send shards, in this order."""
        for shard in shards:
            self.engine.shards.put(shard.sha256, shard.body, compressed=True)

    def put(self, number: int, segment: Segment) -> SegmentStored:
        """Send a segment of the plan."""
        return self.engine.plans.put_segment(self.name, number, run_id=self.id, segment=segment)

    def advance(self, to: int) -> RunSummary:
        """Raise the target."""
        return self.engine.plans.advance(self.name, self.id, to)

    def control(self, revision: int, *, paused: bool) -> RunSummary:
        """Pause or resume."""
        return self.engine.plans.control(self.name, self.id, revision=revision, paused=paused)

    def wait(self, holds: Callable[[RunSummary], bool]) -> RunSummary:
        """Wait until something holds."""
        return wait_until(self.engine, self.name, holds)

    def wait_for_step(self, step: int) -> RunSummary:
        """Wait until a step is applied."""
        return self.wait(lambda summary: summary.step >= step)

    def plan_whole(self, shards: Sequence[Shard], segment: Segment) -> int:
        """Upload shards and append their segment; the last step of the plan is returned."""
        self.upload(shards)
        number = len(self.engine.plans.get(self.name).segments)
        return self.put(number, segment).plan_steps

    def train(self, shards: Sequence[Shard], segment: Segment) -> int:
        """Append a segment and train it to its end."""
        last = self.plan_whole(shards, segment)
        self.advance(last)
        self.wait_for_step(last)
        return last

    def rows(self) -> list[Row]:
        """Return all results so far."""
        return read_rows(self.engine, self.name)

    @property
    def summary(self) -> RunSummary:
        """Where the run is."""
        return self.engine.runs.summary(self.name)

    @property
    def weights_sha256(self) -> str:
        """The digest of the weights after the last step applied."""
        return self.engine.runs.state(self.name).weights_sha256

    @property
    def outcome(self) -> Outcome:
        """All that must be equal where two runs are."""
        return Outcome(self.rows(), self.weights_sha256)


def read_rows(engine: Engine, run: str) -> list[Row]:
    """Read all results of a run, page by page."""
    rows: list[Row] = []
    while page := engine.step_records.page(run, after=len(rows), limit=250, vectors=True).steps:
        rows += [
            Row(
                row.step, row.loss, _known(row.metrics), row.samples, row.digest, row.non_finite,
                row.micro_batch_size, {} if row.non_finite else row.vectors or {},
            )
            for row in page
        ]  # fmt: skip
    return rows


def _known(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
