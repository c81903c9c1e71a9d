"""Computes one step of a run, in micro-batches if needed, and applies its result."""

import logging
import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field

from omega21.engine.registry import Registry
from omega21.engine.run import Position, Run
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.step_values import metrics_to_store, vectors_to_store
from omega21.engine.storage.steps import StoredStep
from omega21.executors.base import (
    Batch,
    Device,
    DeviceMemoryExhausted,
    Executor,
    StepDropped,
    StepOutcome,
    batch_size,
)
from omega21.language import _
from omega21.protocol.errors import OutOfDeviceMemory
from omega21.protocol.runs import Environment
from omega21.protocol.steps import float32_as_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BegunStep:
    """A step that an executor has: its batch, and when it was handed over."""

    number: int
    batch: Batch
    micro_batch_size: int
    at: float


@dataclass
class StepRunner:
    """Runs steps; worker thread only. What decides a step's bits is on disk before the step.

    `steps_done` counts planned steps and inline batches.
    """

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    device: Device
    steps_done: int = 0
    _ended: float = 0.0
    _in_force: dict[int, Environment] = field(default_factory=dict)  # by run: already compared
    # Added to monotonic times: setting the system's clock moves neither times nor speeds.
    _clock_offset: float = field(default_factory=lambda: time.time() - time.monotonic())

    def compute(
        self, run: Run, executor: Executor, *, before: Position, batch: Batch
    ) -> tuple[Position, StoredStep]:
        """Compute the step after `before`; return the position after it, and its record.

        Raises OutOfDeviceMemory when not even one sample fits.
        """
        begun = deque([self.begin(run, executor, number=before.step + 1, batch=batch)])
        return self.end(run, executor, before=before, begun=begun)

    def begin(self, run: Run, executor: Executor, *, number: int, batch: Batch) -> BegunStep:
        """Hand a step to the executor."""
        self._record_environment(run, number)
        recorded, samples = run.micro_batch_size_at(number), batch_size(batch)
        size = samples if recorded is None else min(recorded, samples)
        executor.begin_step(batch, number, micro_batch_size=size)
        return BegunStep(number, batch, size, time.monotonic())

    def end(
        self, run: Run, executor: Executor, *, before: Position, begun: deque[BegunStep]
    ) -> tuple[Position, StoredStep]:
        """Wait for the oldest step of `begun`, and take it out; see `compute`."""
        outcome = None
        while outcome is None:
            try:
                outcome = executor.end_step()
            except DeviceMemoryExhausted as error:
                self._shrink(run, executor, step=begun[0], error=error)
                self._begin_again(run, executor, begun)
        step, ended = begun.popleft(), time.monotonic()
        samples = batch_size(step.batch)
        position = before.after(outcome)
        record = _make_record(
            position,
            outcome,
            samples=samples,
            ended_at=self._clock_offset + ended,
            seconds=ended - max(step.at, self._ended),
            micro_batch_size=step.micro_batch_size if step.micro_batch_size < samples else None,
        )
        self._ended = ended
        return position, record

    def _shrink(self, run: Run, executor: Executor, *, step: BegunStep, error: Exception) -> None:
        """Halve the micro-batch from a step on; the size is on disk before it is tried."""
        size = step.micro_batch_size
        if size == 1:
            raise OutOfDeviceMemory(
                _("step {number}: one sample does not fit in the device's memory").format(
                    number=step.number
                )
            ) from error
        if executor.samples_mix:
            raise OutOfDeviceMemory(
                _("step {number}: {count} samples do not fit in the device's memory").format(
                    number=step.number, count=size
                ),
                hint=_(
                    "train a new run with --micro-batch {size}, or with a smaller --batch-size"
                ).format(size=size // 2),
            ) from error
        smaller = math.ceil(size / 2)
        logger.warning("step %d does not fit; %d samples at a time", step.number, smaller)
        self.folder.ledger.environments.add_micro_batch_size(
            run.key, from_step=step.number, size=smaller
        )
        with self.registry.locked():
            run.micro_batch_sizes[step.number] = smaller

    def _begin_again(self, run: Run, executor: Executor, begun: deque[BegunStep]) -> None:
        """Begin steps again, after the first of them was not computed."""
        again = list(begun)
        for _dropped in again[1:]:
            with suppress(StepDropped):
                executor.end_step()
        begun.clear()
        for step in again:
            begun.append(self.begin(run, executor, number=step.number, batch=step.batch))

    def _record_environment(self, run: Run, number: int) -> None:
        last = run.environments[-1] if run.environments else None
        if last is not None and last is self._in_force.get(run.key) and number >= last.from_step:
            return  # compared before: the environment of this process does not change
        environment = self.device.environment(run.config, from_step=number)
        known = run.environment_at(number)
        if known is not None and known.same_bits(environment):
            self._in_force[run.key] = known
            return
        self.folder.ledger.environments.add(run.key, environment)
        with self.registry.locked():
            earlier = [known for known in run.environments if known.from_step < number]
            run.environments = [*earlier, environment]
        self._in_force[run.key] = environment

    def accept(self, run: Run, position: Position, records: list[StoredStep]) -> None:
        """Apply the results of steps; the caller holds the lock."""
        run.position = position
        run.stepped_at = time.monotonic()
        self.steps_done += 1
        for record in records:
            if record.step > run.replay_until or self._differs(run, record):
                run.pending.append(record)
        run.check_divergence()

    def _differs(self, run: Run, record: StoredStep) -> bool:
        """Compare a replayed step with the record it had."""
        stored = self.folder.ledger.steps.digest_at(run.key, record.step)
        if stored in (None, record.digest):
            return stored is None
        logger.warning("run %s: step %d came out differently in a replay", run.name, record.step)
        self.folder.ledger.events.add(
            run.key, "replay_differs", f"step {record.step}, was {stored}"
        )
        return True


def _make_record(
    position: Position, outcome: StepOutcome, *, samples: int, ended_at: float, seconds: float,
    micro_batch_size: int | None,
) -> StoredStep:  # fmt: skip
    """Return the record of the step that led to `position`."""
    counted = outcome.applied
    return StoredStep(
        step=position.step,
        samples=samples,
        loss=float32_as_json(outcome.loss) if counted else None,
        metrics=metrics_to_store(outcome.metrics, counted=counted),
        digest=position.digest,
        ended_at=ended_at,
        seconds=seconds,
        non_finite=not outcome.applied and not outcome.skipped_by_scaler,
        skipped=outcome.skipped_by_scaler,
        micro_batch_size=micro_batch_size,
        vectors=vectors_to_store(outcome.vectors, counted=counted),
    )
