"""Computes one step of a run, in micro-batches if needed, and applies its result."""

import logging
import math
import time
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
    StepOutcome,
    batch_size,
)
from omega21.language import _
from omega21.protocol.errors import OutOfDeviceMemory
from omega21.protocol.runs import Environment
from omega21.protocol.steps import float32_as_json

logger = logging.getLogger(__name__)


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
    _in_force: dict[int, Environment] = field(default_factory=dict)  # by run: already compared
    # Added to monotonic times: setting the system's clock moves neither times nor speeds.
    _clock_offset: float = field(default_factory=lambda: time.time() - time.monotonic())

    def compute(
        self, run: Run, executor: Executor, *, before: Position, batch: Batch
    ) -> tuple[Position, StoredStep]:
        """Compute the step after `before`; return the position after it, and its record.

        Raises OutOfDeviceMemory when not even one sample fits.
        """
        number = before.step + 1
        self._record_environment(run, number)
        started = time.monotonic()
        outcome, micro_batch_size = self._fit(run, executor, number=number, batch=batch)
        ended = time.monotonic()
        position = before.after(outcome)
        record = _make_record(
            position,
            outcome,
            samples=batch_size(batch),
            ended_at=self._clock_offset + ended,
            seconds=ended - started,
            micro_batch_size=micro_batch_size,
        )
        return position, record

    def _fit(
        self, run: Run, executor: Executor, *, number: int, batch: Batch
    ) -> tuple[StepOutcome, int | None]:
        """Halve the micro-batch until the step fits; each size is on disk before it is tried."""
        samples = batch_size(batch)
        while True:
            recorded = run.micro_batch_size_at(number)
            size = samples if recorded is None else min(recorded, samples)
            try:
                outcome = executor.step(batch, number, micro_batch_size=size)
            except DeviceMemoryExhausted as error:
                if size == 1:
                    raise OutOfDeviceMemory(
                        _("step {number}: one sample does not fit in the device's memory").format(
                            number=number
                        )
                    ) from error
                smaller = math.ceil(size / 2)
                logger.warning("step %d does not fit; %d samples at a time", number, smaller)
                self.folder.ledger.environments.add_micro_batch_size(
                    run.key, from_step=number, size=smaller
                )
                with self.registry.locked():
                    run.micro_batch_sizes[number] = smaller
                continue
            return outcome, size if size < samples else None

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
