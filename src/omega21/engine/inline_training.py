"""Trains inline batches, each with all of its epochs or not at all."""

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.registry import Registry
from omega21.engine.run import InlineTask, Position, Run
from omega21.engine.step_runner import StepRunner
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.steps import StoredStep
from omega21.executors.base import DeviceFailed, Executor, ExecutorDied
from omega21.language import _
from omega21.protocol.errors import (
    NonFinite,
    OutOfDeviceMemory,
    RunDeleted,
    StorageFull,
    Unavailable,
    to_problem,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InlineTrainer:
    """Trains inline batches; worker thread only.

    `check_open` raises Unavailable when a batch must end between two epochs; `fail` stops a run
    whose state in memory may be wrong, `lost` handles the end of what computes.
    """

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    step_writer: StepWriter
    executor_cache: ExecutorCache
    runner: StepRunner
    check_open: Callable[[], None]
    fail: Callable[[Run, Exception], None]
    lost: Callable[[Run, ExecutorDied | DeviceFailed], None]

    def train(self, run: Run, task: InlineTask) -> None:
        """Train all epochs of an inline batch, or change nothing."""
        try:
            self.step_writer.flush(run)
            trained = self._try(run, task)
            with self.registry.locked():
                _check_not_removed(run)  # otherwise the task would be lost
                if trained is None:
                    task.begun = False
                    return
                position, records = trained
                self._append(run, task, position=position, records=records)
        except (ExecutorDied, DeviceFailed) as error:
            with self.registry.locked():
                task.begun = False  # it is trained again, or fails with the run
            self.lost(run, error)
        except Exception as error:  # noqa: BLE001 - the run stops, the thread and the others do not
            self._give_up(run, task, error)
        else:
            task.done.set_result(records[-1])
        self.registry.notify(run.name)

    def _try(self, run: Run, task: InlineTask) -> tuple[Position, list[StoredStep]] | None:
        executor = self.executor_cache.executor_of(run)
        if not run.can_train_inline():  # the restore has moved it
            return None
        before = executor.state() if task.reader.segment.steps > 1 else None
        try:
            return self._all_epochs(run, executor, task)
        except (ExecutorDied, DeviceFailed):
            raise
        except BaseException:
            if before is not None:
                executor.restore(before)
            raise

    def _all_epochs(
        self, run: Run, executor: Executor, task: InlineTask
    ) -> tuple[Position, list[StoredStep]]:
        segment = task.reader.segment
        position, records = run.position, list[StoredStep]()
        for index in range(segment.steps):
            if index:
                self.check_open()
            position, record = self.runner.compute(
                run, executor, before=position, batch=task.reader.read(index)
            )
            if record.non_finite:
                raise NonFinite(
                    _(
                        "the batch makes the loss or the gradient NaN or infinite in epoch "
                        "{epoch} of {epochs}"
                    ).format(epoch=index + 1, epochs=segment.epochs)
                )
            records.append(record)
        return position, records

    def _append(
        self, run: Run, task: InlineTask, *, position: Position, records: list[StoredStep]
    ) -> None:
        """Append a trained inline batch to the plan, on disk and in memory; the lock is held."""
        self.folder.ledger.inline.finish(
            run.key,
            task.batch,
            number=len(run.readers),
            segment=task.reader.segment,
            records=records,
        )
        run.inline.remove(task)
        run.add_segment(task.reader)
        run.target = run.index.steps
        self.runner.accept(run, position, [])

    def _give_up(self, run: Run, task: InlineTask, error: Exception) -> None:
        """Fail an inline batch with the reason why it was not trained."""
        try:
            with self.registry.locked():
                run.inline.remove(task)
                run.micro_batch_sizes = {
                    f: size for f, size in run.micro_batch_sizes.items() if f <= run.step
                }
            if isinstance(error, NonFinite | OutOfDeviceMemory):
                problem = to_problem(error).model_dump_json()
                self.folder.ledger.inline.refuse(
                    run.key, task.batch, problem=problem, step=run.step
                )
            elif not isinstance(error, Unavailable | RunDeleted):
                self.fail(run, error)
        except StorageFull as full:
            logger.warning("that an inline batch was refused is not on disk: %s", full)
        finally:
            task.done.set_exception(error)


def _check_not_removed(run: Run) -> None:
    if run.removed:
        raise RunDeleted(_("run {name!r} was removed meanwhile").format(name=run.name))
