"""Download of checkpoints by the client, and restore from uploaded ones."""

import threading
from dataclasses import KW_ONLY, dataclass, field

from omega21.data.failures import refused_write
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.registry import Registry
from omega21.engine.run import Run
from omega21.engine.runs import Runs
from omega21.engine.storage.checkpoints import Checkpoint
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.worker import Worker
from omega21.executors.base import Executor
from omega21.language import _
from omega21.protocol.checkpoints import (
    CheckpointRecord,
    CheckpointStored,
    RestoreCheckpoint,
    trained_plan_sha256,
)
from omega21.protocol.errors import (
    Conflict,
    InvalidCheckpoint,
    OmegaError,
    UnknownCheckpoint,
)
from omega21.protocol.runs import RunState


@dataclass(frozen=True)
class Checkpoints:
    """Returns checkpoints for download, and restores runs from uploaded ones."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    runs: Runs
    executor_cache: ExecutorCache
    worker: Worker
    _restoring: threading.Lock = field(default_factory=threading.Lock)

    def newest(self, name: str, *, step: int | None = None) -> Checkpoint:
        """Return a run's newest checkpoint, or that of a step; it is kept during the download.

        Raises UnknownRun, UnknownCheckpoint.
        """
        run = self.registry.get(name)
        for checkpoint in self.folder.checkpoints.newest(run.id):
            if step is None or checkpoint.step == step:
                self.folder.checkpoints.keep_while_pulled(checkpoint)
                return checkpoint
        if step is None:
            raise UnknownCheckpoint(_("run {name!r} has no checkpoint yet").format(name=name))
        raise UnknownCheckpoint(
            _("run {name!r} has no checkpoint of step {step}").format(name=name, step=step)
        )

    def put_upload_part(self, sha256: str, body: bytes) -> CheckpointStored:
        """Store an upload part of a checkpoint. Durable. Raises InvalidCheckpoint, StorageFull."""
        return self.folder.upload_parts.put(sha256, body)

    def restore(self, name: str, request: RestoreCheckpoint) -> RunState:
        """Continue a run from a checkpoint assembled from its upload parts. Durable.

        Raises UnknownRun, OtherRun, RunDeleted, InvalidCheckpoint, or Conflict when the checkpoint
        is not beyond the run's step; nothing is changed then.
        """
        run = self.registry.get(name, request.run_id)
        record = self.folder.upload_parts.record(request)
        # One at a time: the second of two equal requests would overwrite what the first has made
        # the run's newest, from parts that the first removes.
        with self._restoring:
            self._take_over(run, record, request)
        self.folder.ledger.events.add(run.key, "restored", f"step {record.step}", durable=True)
        self.registry.notify(name)
        return self.runs.state(name)

    def _take_over(self, run: Run, record: CheckpointRecord, request: RestoreCheckpoint) -> None:
        with self.registry.locked():
            self._check_goes_on(run, record)
        try:
            checkpoint = self.folder.checkpoints.adopt(
                record, self.folder.upload_parts.chunks(request)
            )
        except OSError as error:
            text = _("the checkpoint was not written: {error}").format(error=error)
            raise refused_write(error, text) from error

        def go_on(_executor: Executor) -> None:
            self.registry.get(run.name, run.id)  # it may have been removed meanwhile
            if run.position.digest == record.digest:
                return  # it was evicted, and has just been restored from this checkpoint
            with self.registry.locked():
                self._check_goes_on(run, record)
                run.executor = None
            self.executor_cache.executor_of(run)
            if run.step < record.step:
                raise InvalidCheckpoint(
                    _("the checkpoint of step {step} was not restored").format(step=checkpoint.step)
                )

        try:
            self.worker.submit(run, go_on).result()
        except OmegaError:
            if run.removed:
                self.folder.checkpoints.remove(run.id)
            elif run.step != checkpoint.step:
                self.folder.checkpoints.forget(checkpoint)
            raise
        self.folder.upload_parts.forget(request)

    def _check_goes_on(self, run: Run, record: CheckpointRecord) -> None:
        self.registry.get(run.name, run.id)
        if record.run_id != run.id or record.config != run.config:
            raise InvalidCheckpoint(_("the checkpoint is of another run or configuration"))
        if record.step > run.index.steps or record.plan_sha256 != trained_plan_sha256(
            run.segments, record.step
        ):
            raise InvalidCheckpoint(
                _("the checkpoint belongs to another plan"), hint=_("send the run's plan first")
            )
        if record.step <= run.step:
            raise Conflict(
                _("run {name!r} is already at step {step}, beyond {other}").format(
                    name=run.name, step=run.step, other=record.step
                )
            )
