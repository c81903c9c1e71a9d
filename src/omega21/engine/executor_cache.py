"""The executors of the runs whose weights are in memory; others are evicted to disk.

Worker thread only.
"""

import logging
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

from omega21.engine.checkpointing import Checkpointer
from omega21.engine.registry import Registry
from omega21.engine.run import Position, Run
from omega21.engine.storage.checkpoints import Checkpoint
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.tasks.code import Code
from omega21.executors.base import (
    Device,
    DeviceFailed,
    DeviceMemoryExhausted,
    Executor,
    ExecutorDied,
)
from omega21.protocol.checkpoints import trained_plan_sha256
from omega21.protocol.errors import InvalidCheckpoint, OmegaError

logger = logging.getLogger(__name__)


@dataclass
class ExecutorCache:
    """Creates executors, restores them from checkpoints, and evicts the least recently used."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    device: Device
    checkpointer: Checkpointer
    code: Code
    most: int
    _loaded: list[Run] = field(default_factory=list)  # least recently used first

    def warm_up(self) -> None:
        """Compute a step of a small model, so that no request waits for torch to load."""
        try:
            self.device.warm_up()
        except DeviceMemoryExhausted as error:
            logger.warning("the device's memory is full at the start: %s", error)

    def executor_of(self, run: Run) -> Executor:
        """Return a run's executor.

        An evicted run, one whose executor has died, or one of an earlier process is restored from
        its newest complete checkpoint, whose position it then has. Raises ExecutorDied,
        DeviceMemoryExhausted, TaskFailed.
        """
        if run.executor is None or self._loaded[-1:] != [run]:
            self._loaded = [r for r in self._loaded if r is not run and r.executor]
            self._make_room()
            self._loaded.append(run)
        if run.executor is None:
            run.executor = self._restore(run)
        return run.executor

    def has_removed(self) -> bool:
        """Whether a removed run still has an executor."""
        return any(run.removed and run.executor for run in self._loaded)

    def drop_removed(self) -> None:
        """Free what removed runs have."""
        for run in self._loaded:
            if run.removed:
                self.discard(run)

    def discard(self, run: Run) -> None:
        """Free a run's executor without saving its state."""
        executor, run.executor = run.executor, None
        if executor is not None:
            executor.close()

    def place(self, run: Run) -> None:
        """Move a run to the position of its newest checkpoint, from its record only.

        Before the start.
        """
        for checkpoint in self.folder.checkpoints.newest(run.id):
            if self._fits(run, checkpoint):
                run.move_to(_position(checkpoint))
                return

    def evict(self, run: Run) -> None:
        """Write a run's state to disk, if it is not there, and free its memory.

        Raises OSError when it cannot be written; the run stays in memory then.
        """
        if run.executor is not None and run.step != run.durable_step:
            self.checkpointer.save(run, run.executor).result()
            if run.step != run.durable_step:
                raise OSError(f"run {run.name} could not be evicted")
        self.discard(run)

    def save_all(self) -> None:
        """Write all states to disk, at the end."""
        for run in self._loaded:
            if run.executor is not None and not run.removed:
                try:
                    self.evict(run)
                except (OSError, ExecutorDied, DeviceFailed) as error:
                    logger.warning("%s; its last steps will be computed again", error)

    def _make_room(self) -> None:
        while len(self._loaded) >= self.most:
            oldest = self._loaded.pop(0)
            try:
                self.evict(oldest)
            except (ExecutorDied, DeviceFailed) as error:
                logger.warning("run %s: %s; its last steps are computed again", oldest.name, error)
                self.discard(oldest)
            except OSError as error:
                logger.warning("%s", error)
                self._loaded.append(oldest)
                return

    def _restore(self, run: Run) -> Executor:
        self.code.prepare(run.config.task)
        executor = self._make(run)
        try:
            for checkpoint in self.folder.checkpoints.newest(run.id):
                if not self._fits(run, checkpoint):
                    continue
                try:
                    executor.restore(self.folder.checkpoints.read(checkpoint))
                except (InvalidCheckpoint, KeyError, RuntimeError) as error:
                    self._warn(run, checkpoint, error)
                    executor.close()
                    executor = self._make(run)
                    continue
                self._move(run, _position(checkpoint))
                return executor
        except BaseException:
            executor.close()
            raise
        self._move(run, Position())
        return executor

    def _make(self, run: Run) -> Executor:
        write = self.folder.run_logs.append
        return self.device.make_executor(run.config, on_output=partial(write, run.id))

    def _move(self, run: Run, position: Position) -> None:
        if position == run.position:
            return
        with self.registry.locked():
            run.move_to(position)

    def _fits(self, run: Run, checkpoint: Checkpoint) -> bool:
        record = checkpoint.record
        if record.step > run.index.steps or record.config != run.config:
            reason = "is of another configuration or plan"
        elif record.plan_sha256 != trained_plan_sha256(run.segments, record.step):
            reason = "belongs to another plan"
        else:
            return True
        logger.warning(
            "checkpoint %s of run %s %s",
            checkpoint.path.name,
            run.name,
            reason,
            extra={"run": run.name, "step": checkpoint.step},
        )
        return False

    def _warn(self, run: Run, checkpoint: Checkpoint, error: Exception) -> None:
        reason = error.message if isinstance(error, OmegaError) else str(error)
        logger.warning(
            "checkpoint of step %d of run %s is set aside (%s); the one before it is used",
            checkpoint.step,
            run.name,
            reason,
            extra={"run": run.name, "step": checkpoint.step},
        )
        self.folder.ledger.events.add(
            run.key, "damaged_checkpoint", f"step {checkpoint.step}: {reason}"
        )
        self.folder.checkpoints.discard(checkpoint)


def _position(checkpoint: Checkpoint) -> Position:
    record = checkpoint.record
    return Position(record.step, record.digest, record.non_finite_in_a_row)
