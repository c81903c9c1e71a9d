"""Computes one step of a run, in parts where the batch does not fit, and takes its result over."""

import logging
import math
import time
from dataclasses import KW_ONLY, dataclass, field

from omega21.engine.registry import Registry
from omega21.engine.run import Clock, Position, Run, make_record
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.steps import StoredStep
from omega21.executors.base import Batch, Device, DeviceMemoryExhausted, Executor, StepOutcome
from omega21.language import _
from omega21.protocol.errors import OutOfDeviceMemory
from omega21.protocol.runs import Environment

logger = logging.getLogger(__name__)


@dataclass
class StepRunner:
    """Runs steps; worker thread only. What decides a step's bits is on disk before it is computed.

    `steps_done` counts planned steps and inline batches.
    """

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    device: Device
    _clock: Clock = field(default_factory=Clock)
    _in_force: dict[int, Environment] = field(
        default_factory=dict
    )  # by run, as compared by this process
    steps_done: int = 0

    def compute(
        self, run: Run, executor: Executor, *, before: Position, batch: Batch
    ) -> tuple[Position, StoredStep]:
        """Compute the step after `before`; the position after it, and its record.

        Raises OutOfDeviceMemory where not even one sample fits.
        """
        number = before.step + 1
        self._record_environment(run, number)
        started = time.monotonic()
        outcome, micro_batch_size = self._fit(run, executor, number=number, batch=batch)
        position = before.after(outcome)
        record = make_record(
            position,
            outcome,
            samples=len(batch.y),
            ended_at=self._clock.now(),
            seconds=time.monotonic() - started,
            micro_batch_size=micro_batch_size,
        )
        return position, record

    def _fit(
        self, run: Run, executor: Executor, *, number: int, batch: Batch
    ) -> tuple[StepOutcome, int | None]:
        """Try the step in ever smaller parts; each size is on disk before it is tried."""
        samples = len(batch.y)
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
            return  # compared before: what this process computes on does not change
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
        """Take over applied steps; the caller holds the lock."""
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
