"""Decides when a run is checkpointed, and writes checkpoints in the background.

The worker thread takes a snapshot between two steps; a thread of this module writes it. A
checkpoint is due

- `checkpoint_seconds` after the last one, or
- `checkpoint_steps` steps after it, if taking and writing the last one was cheap relative to the
  time since (a fast model on a fast device would otherwise do little else), or
- soon after a run has become idle.

The step records up to the step are written first, then the state, then its seal: a durable state
always has its records.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field

from omega21.engine.options import EngineOptions
from omega21.engine.registry import Registry
from omega21.engine.run import Run
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.checkpoints import weights_of
from omega21.engine.storage.data_folder import DataFolder
from omega21.executors.base import Arrays, Executor
from omega21.protocol.checkpoints import CheckpointRecord, trained_plan_sha256
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import OmegaError

REST_SECONDS = 1.0
_SECONDS_BETWEEN_AT_REST = 5.0
_STALL_SHARE = 50  # the ratio of training time to the time that a checkpoint stalls it
_WRITE_SHARE = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpointer:
    """Checkpoints the runs of an engine."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    step_writer: StepWriter
    options: EngineOptions
    _writer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="omega21-checkpoint")
    )

    def close(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._writer.shutdown()

    def due_at(self, run: Run) -> float | None:
        """Return when the next checkpoint of a run is due (monotonic clock), None for never."""
        saves = run.saves
        if run.executor is None or run.removed or saves.writing:
            return None
        if saves.step == run.step:
            return None
        due = saves.at + self.options.checkpoint_seconds
        if run.step - saves.step >= self.options.checkpoint_steps:
            pause = max(_STALL_SHARE * saves.stall_seconds, _WRITE_SHARE * saves.write_seconds)
            due = min(due, saves.at + pause)
        if not run.can_train():
            # A run of a few steps should not wait for its first; a series of inline batches rests
            # after each of them.
            between = min(_SECONDS_BETWEEN_AT_REST, self.options.checkpoint_seconds)
            between = between if saves.taken else 0.0
            due = min(due, max(saves.at + between, run.stepped_at + REST_SECONDS))
        return due

    def save(self, run: Run, executor: Executor) -> "Future[None]":
        """Take a snapshot of a run and start writing it; worker thread only."""
        started = time.monotonic()
        state = executor.state()
        record = CheckpointRecord(
            run_id=run.id,
            config=run.config,
            step=run.step,
            digest=run.position.digest,
            non_finite_in_a_row=run.position.non_finite_in_a_row,
            plan_sha256=trained_plan_sha256(run.segments, run.step),
            weights_sha256="0" * 64,  # digested in the background, by `_write`
            environment=run.environments[-1] if run.environments else None,
            created_at=time.time(),
        )
        saves = run.saves
        saves.writing, saves.taken = True, True
        saves.step, saves.at = run.step, time.monotonic()
        saves.stall_seconds = saves.at - started
        return self._writer.submit(self._save, run, record, state)

    def _save(self, run: Run, record: CheckpointRecord, state: Arrays) -> None:
        started = time.monotonic()
        durable_step = run.durable_step
        try:
            self._write(run, record, state)
            durable_step = record.step
        except (OSError, OmegaError) as error:
            logger.warning(
                "the checkpoint of run %s was not written: %s",
                run.name,
                error,
                extra={"run": run.name, "step": record.step},
            )
        finally:
            with self.registry.locked():
                run.saves.writing = False
                run.saves.step = run.durable_step = durable_step
                run.saves.write_seconds = time.monotonic() - started
            self.registry.changed(run.name)

    def _write(self, run: Run, record: CheckpointRecord, state: Arrays) -> None:
        self.step_writer.flush(run)
        self.folder.ledger.events.add(run.key, "checkpoint", f"step {record.step}", durable=True)
        weights = tensors_sha256(weights_of(state))
        self.folder.checkpoints.write(record.model_copy(update={"weights_sha256": weights}), state)
        self.folder.checkpoints.tidy(run.id)
        if run.removed:
            self.folder.checkpoints.remove(run.id)
        if self.folder.mirror is not None:
            self.folder.mirror.wake()
