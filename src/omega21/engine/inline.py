"""Inline batches: stored, trained at the end of the plan, answered by their last step."""

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from omega21.engine.batches import SegmentReader
from omega21.engine.registry import Registry
from omega21.engine.reporting.legacy import inline_reply
from omega21.engine.run import InlineTask, Run
from omega21.engine.samples import check_inline
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.inline import InlineBatch
from omega21.engine.worker import Worker
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.protocol.digests import documents_sha256, tensors_sha256
from omega21.protocol.errors import (
    Diverged,
    KeyReused,
    PlanUnfinished,
    Problem,
    RunPaused,
    StillRunning,
    from_problem,
)
from omega21.protocol.legacy import Trained
from omega21.protocol.plan import Segment, ShardRef, Source

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class InlineBatches:
    """Accepts inline batches, and answers repeated ones."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    worker: Worker

    def train(
        self, name: str, x: FloatArray, y: FloatArray, *, epochs: int, key: str | None
    ) -> Trained:
        """Train a batch at the end of the plan; blocks until it is trained. Durable.

        The batch and its key are on disk before it is trained; the same key and batch again get
        the same reply. Raises InvalidSamples, PlanUnfinished, StillRunning, KeyReused, RunPaused,
        Diverged, NonFinite, OutOfDeviceMemory: then nothing entered the plan.
        """
        run = self.registry.get(name)
        check_inline(x, y, schema=run.config.sample_schema)
        tensors = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
        sha256 = tensors_sha256(tensors)
        body = documents_sha256([sha256, str(epochs)])
        if (known := self._admit(run, key, body)) is not None:
            return known
        self.folder.shards.put(sha256, tensors, pinned=self.registry.pinned_shards)
        segment = Segment(
            samples=len(y),
            batch_size=len(y),
            epochs=epochs,
            source=Source(kind="inline"),
            shards=(ShardRef(sha256=sha256, samples=len(y)),),
        )
        with self.registry.locked():
            run = self.registry.get(name, run.id)
            if (known := self._admit(run, key, body)) is not None:  # the same request twice at once
                return known
            batch = self.folder.ledger.inline.add(run.key, key, body=body, segment=segment)
            task = InlineTask(
                batch, SegmentReader(segment, self.folder.shards, schema=run.config.sample_schema)
            )
            run.inline.append(task)
            self.registry.changed(name)
        return inline_reply(run, task.done.result())

    def _admit(self, run: Run, key: str | None, body: str) -> Trained | None:
        """Return the reply of a repeated batch, None for one that may be trained."""
        with self.registry.locked():
            known = self.folder.ledger.inline.by_key(run.key, key) if key is not None else None
            if known is not None:
                return self._repeat(run, known, body)
            self._check_may_train(run)
            return None

    def _check_may_train(self, run: Run) -> None:
        self.worker.check_open()
        if run.diverged or run.failure:
            raise Diverged(
                _("run {name!r} has stopped: {why}").format(
                    name=run.name, why=translated(run.diverged or run.failure or "")
                )
            )
        if run.paused:
            raise RunPaused(_("run {name!r} is paused").format(name=run.name))
        # Steps that have a record are computed again after a restart: the batch waits for them.
        if max(run.step, run.replay_until) < run.index.steps:
            raise PlanUnfinished(
                _("run {name!r} is at step {step} of {planned} planned ones").format(
                    name=run.name, step=run.step, planned=run.index.steps
                ),
                retry_after=5,
            )

    def _repeat(self, run: Run, known: InlineBatch, body: str) -> Trained:
        if known.body != body:
            raise KeyReused(_("this Idempotency-Key was used with another batch"))
        if known.status == "refused":
            assert known.problem is not None
            raise from_problem(Problem.model_validate_json(known.problem))
        last = known.last_step
        if last is None or run.step < last:
            raise StillRunning(_("this batch is being trained"), retry_after=1)
        (record,) = self.folder.ledger.steps.page(run.key, after=last - 1, until=last, limit=1)
        return inline_reply(run, record)
