"""A run in the engine's memory."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from omega21.engine.batches import SegmentReader
from omega21.engine.storage.runs import StoredRun
from omega21.engine.storage.shards import ShardStore
from omega21.engine.storage.steps import StoredStep
from omega21.executors.base import Executor, StepOutcome
from omega21.protocol.digests import CHAIN_START, chain_result
from omega21.protocol.plan import PlanIndex, Segment
from omega21.protocol.printable import printable_lines
from omega21.protocol.runs import Environment, RunStatus, RunSummary
from omega21.protocol.steps import MOST_NON_FINITE_IN_A_ROW

MOST_WAITING_LISTED = 1000
"""Maximum number of missing shards in one reply."""


@dataclass(frozen=True)
class Position:
    """A run's position: the last step, and what later steps depend on besides the weights."""

    step: int = 0
    digest: str = CHAIN_START
    non_finite_in_a_row: int = 0

    def after(self, outcome: StepOutcome) -> "Position":
        """Return the position after one more step."""
        non_finite = self.non_finite_in_a_row
        if outcome.applied:
            non_finite = 0
        elif not outcome.skipped_by_scaler:
            non_finite += 1
        return Position(
            self.step + 1,
            chain_result(self.digest, self.step + 1, outcome.loss if outcome.applied else None),
            non_finite,
        )


@dataclass
class InlineTask:
    """An accepted inline batch: on disk, not yet trained."""

    batch: int
    reader: SegmentReader
    begun: bool = False
    done: "Future[StoredStep]" = field(default_factory=Future)


@dataclass
class Saves:
    """Time (monotonic), step and cost of a run's last checkpoint."""

    step: int = 0
    at: float = field(default_factory=time.monotonic)
    stall_seconds: float = 0.0
    write_seconds: float = 0.0
    writing: bool = False
    taken: bool = False


@dataclass(frozen=True)
class Deaths:
    """How many times in a row a run's executor died, and at which step."""

    step: int = 0
    count: int = 0

    def another(self, step: int) -> "Deaths":
        """Return the deaths after one more, at a step."""
        return Deaths(step, self.count + 1 if step == self.step else 1)


class Run:
    """A run's plan, target and position.

    The registry's lock guards every field except `executor`, which only the worker thread
    touches, and `pending`, to which only that thread appends.
    """

    def __init__(self, stored: StoredRun, segments: Sequence[Segment], shards: ShardStore) -> None:
        self.key = stored.key
        self.name = stored.name
        self.id = stored.id
        self.config = stored.config
        self.created_at = stored.created_at
        self.target = stored.target
        self.revision = stored.revision
        self.paused = stored.paused
        self.readers = [
            SegmentReader(segment, shards, schema=self.config.sample_schema) for segment in segments
        ]
        self.index = PlanIndex(segments)
        self.position = Position()
        self.durable_step = 0
        self.saves = Saves()
        self.stepped_at = 0.0
        self.executor: Executor | None = None
        self.pending: list[StoredStep] = []
        self.inline: deque[InlineTask] = deque()
        self.replay_until = 0
        self.environments: list[Environment] = []
        self.micro_batch_sizes: dict[int, int] = {}  # from a step on: samples in a micro-batch
        self.diverged: str | None = None
        self.failure: str | None = None
        self.failure_code: str | None = None
        self.deaths = Deaths()
        self.removed = False
        self.weights_sha256: tuple[int, str] | None = None

    @property
    def step(self) -> int:
        """The last step applied."""
        return self.position.step

    @property
    def segments(self) -> list[Segment]:
        """The plan."""
        return [reader.segment for reader in self.readers]

    def add_segment(self, reader: SegmentReader) -> None:
        """Append a segment to the plan."""
        self.readers.append(reader)
        self.index = PlanIndex(self.segments)

    def take_waiting_inline(self) -> list[InlineTask]:
        """Remove and return the inline batches whose training has not started."""
        waiting = [task for task in self.inline if not task.begun]
        for task in waiting:
            self.inline.remove(task)
        return waiting

    def next_is_ready(self) -> bool:
        """Whether the samples of the next step are on disk."""
        number, position = self.index.locate(self.step + 1)
        return self.readers[number].is_ready(position)

    def can_train(self) -> bool:
        """Whether the run's next planned step can be computed now."""
        stopped = self.paused or self.removed or self.diverged or self.failure
        return not stopped and self.step < self.target and self.next_is_ready()

    def can_train_inline(self) -> bool:
        """Whether an accepted inline batch can be trained now: the plan before it is finished."""
        stopped = self.removed or self.diverged or self.failure
        return bool(self.inline) and not stopped and self.step == self.index.steps

    def status(self) -> RunStatus:
        """Return the run's state."""
        if self.failure:
            return "failed"
        if self.diverged:
            return "diverged"
        if self.step >= self.target and not self.inline:
            return "paused" if self.paused else "idle"
        if self.paused:
            return "paused"
        return "training" if self.inline or self.next_is_ready() else "waiting"

    def summary(self) -> RunSummary:
        """Return the run's position for the wire."""
        return RunSummary(
            run=self.name,
            id=self.id,
            state=self.status(),
            step=self.step,
            target=self.target,
            plan_steps=self.index.steps,
            durable_step=self.durable_step,
            paused=self.paused,
            revision=self.revision,
            digest=self.position.digest,
            reason=self._reason(),
            reason_code=self.failure_code,
        )

    def _reason(self) -> str | None:
        """Why the run stopped, in the language of whoever asks."""
        reason = self.failure or self.diverged
        return reason and printable_lines(str(reason))

    def missing_shards(self, most: int) -> list[str]:
        """Return listed shards that later steps need and that are missing."""
        names: list[str] = []
        first = 0
        if self.step < self.index.steps:
            first, _ = self.index.locate(self.step + 1)
            for reader in self.readers[first:]:
                names += reader.missing(most - len(names))
        return names

    def pinned_shards(self) -> set[str]:
        """Return the shards that steps after the durable one need, also in a replay."""
        pinned = {ref.sha256 for task in self.inline for ref in task.reader.segment.shards}
        if self.durable_step < self.index.steps:
            first, _ = self.index.locate(self.durable_step + 1)
            for reader in self.readers[first:]:
                pinned.update(ref.sha256 for ref in reader.segment.shards)
        return pinned

    def move_to(self, position: Position) -> None:
        """Move to a checkpoint's position; known steps after it are replayed."""
        self.replay_until = max(self.replay_until, self.step)
        self.position = position
        self.durable_step = position.step
        self.saves.step = position.step
        self.weights_sha256 = None
        self.diverged = None
        self.check_divergence()

    def micro_batch_size_at(self, step: int) -> int | None:
        """Return the micro-batch size at a step, None if batches are computed whole.

        The smaller one of what the segment asks for and what fitted in memory before.
        """
        known = [from_step for from_step in self.micro_batch_sizes if from_step <= step]
        sizes = [self.micro_batch_sizes[max(known)]] if known else []
        if step <= self.index.steps:
            asked = self.readers[self.index.locate(step)[0]].segment.micro_batch
            sizes += [] if asked is None else [asked]
        return min(sizes, default=None)

    def environment_at(self, step: int) -> Environment | None:
        """Return the environment of a step, if it is recorded."""
        known = [environment for environment in self.environments if environment.from_step <= step]
        return known[-1] if known else None

    def check_divergence(self) -> None:
        """Stop the run after ten steps in a row that were not finite."""
        if self.position.non_finite_in_a_row < MOST_NON_FINITE_IN_A_ROW or self.diverged:
            return
        steps = range(self.step - MOST_NON_FINITE_IN_A_ROW + 1, self.step + 1)
        self.diverged = f"the loss or gradient of steps {steps[0]} to {steps[-1]} was not finite"
