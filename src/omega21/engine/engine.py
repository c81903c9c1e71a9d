"""The engine: runs, their plans and targets, and the worker that trains them. Knows no HTTP.

Every method may be called from any thread. What changes a promise to a client (a run, a segment,
a target, a batch, feedback) is on disk before the method returns; nothing is changed by a call
that raises.
"""

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import BaseFileLock
from numpy.typing import NDArray

from omega21 import open_files
from omega21.data.durable import write_durably
from omega21.data.locks import hold_lock
from omega21.engine import evaluation
from omega21.engine.batches import SegmentReader
from omega21.engine.checkpointing import Checkpointer
from omega21.engine.checkpoints import Restoring
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.inline import InlineBatches
from omega21.engine.options import EngineOptions
from omega21.engine.plans import Plans
from omega21.engine.registry import Registry
from omega21.engine.reporting import statistics
from omega21.engine.reporting.events import Events
from omega21.engine.reporting.history import History
from omega21.engine.run import MOST_WAITING_LISTED, InlineTask, Run
from omega21.engine.samples import check_labels, check_shape
from omega21.engine.step_records import iso_time, to_row
from omega21.engine.step_writer import ResultWriter
from omega21.engine.storage.checkpoints import CheckpointStore
from omega21.engine.storage.ledger import Ledger, StoredRun
from omega21.engine.storage.mirror import LEDGER, Mirror, open_mirror, restore_from_mirror
from omega21.engine.storage.shards import ShardStore
from omega21.engine.storage.upload_parts import UploadPartStore
from omega21.engine.worker import Worker
from omega21.executors.base import Arrays, Executor
from omega21.executors.devices import find_device
from omega21.language import _
from omega21.protocol.checkpoints import RestoreCheckpoint
from omega21.protocol.digests import documents_sha256, tensors_sha256
from omega21.protocol.errors import (
    InvalidSamples,
    KeyReused,
    OtherConfig,
    OtherRun,
    RunDeleted,
    RunFolderConflict,
    TooManyRuns,
)
from omega21.protocol.legacy import (
    Diagnosis,
    FeedbackDendritas,
    FeedbackReceived,
    Info,
    Metrics,
    Status,
)
from omega21.protocol.names import DEFAULT_RUN, check_run_name
from omega21.protocol.plan import plan_sha256
from omega21.protocol.runs import RunConfig, RunState, RunSummary
from omega21.protocol.steps import (
    EvaluateReply,
    StepsReply,
    encode_scores,
)

logger = logging.getLogger(__name__)
FloatArray = NDArray[np.float32]


class Engine:
    """Trains the runs of one data folder.

    The folder holds `ledger.sqlite` (runs, plans, results), `shards/`, `checkpoints/`,
    `incoming/` (pieces of checkpoints on their way up) and `server_id`. Raises RunFolderConflict
    when another engine has it or another version wrote it, InvalidRequest for a device that is
    not there. `fatal(reason)` is called when this process can compute no more and must be
    replaced; by default that is logged.
    """

    def __init__(
        self,
        data_dir: Path,
        options: EngineOptions | None = None,
        *,
        fatal: Callable[[str], None] = logger.critical,
    ) -> None:
        options = options or EngineOptions()
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self._options = options
        self._folder_lock = _lock_folder(data_dir)
        self.server_id = _server_id(data_dir / "server_id")
        if options.mirror is not None:
            open_mirror(options.mirror)
            if not (data_dir / LEDGER).exists():
                restore_from_mirror(options.mirror, data_dir)
        self.device = find_device(options)
        self._ledger = Ledger(data_dir / LEDGER)
        self._shards = ShardStore(
            data_dir / "shards",
            limit=statistics.disk_limit(data_dir, options.disk_limit),
            open_files=open_files.for_shards(),
        )
        self._registry = Registry(self._ledger)
        self._runs, self._changed = self._registry.runs, self._registry.changed
        self._clock = statistics.Uptime()
        self._checkpoints = CheckpointStore(data_dir / "checkpoints")
        self._mirror = (
            Mirror(options.mirror, data_dir, self._checkpoints) if options.mirror else None
        )
        self._results = ResultWriter(ledger=self._ledger, changed=self._changed)
        self._checkpointer = Checkpointer(
            store=self._checkpoints,
            ledger=self._ledger,
            results=self._results,
            changed=self._changed,
            options=options,
            notify=self._registry.notify,
            on_written=self._mirror.wake if self._mirror else lambda: None,
        )
        self._executor_cache = ExecutorCache(
            device=self.device,
            store=self._checkpoints,
            checkpointer=self._checkpointer,
            ledger=self._ledger,
            changed=self._changed,
            most=options.resident_runs,
        )
        self._worker = Worker(
            runs=self._runs,
            changed=self._changed,
            ledger=self._ledger,
            results=self._results,
            executor_cache=self._executor_cache,
            checkpointer=self._checkpointer,
            notify=self._registry.notify,
            fatal=fatal,
        )
        inline = InlineBatches(
            registry=self._registry, ledger=self._ledger, shards=self._shards, worker=self._worker
        )
        plans = Plans(registry=self._registry, ledger=self._ledger, shards=self._shards)
        self._restoring = Restoring(
            registry=self._registry,
            ledger=self._ledger,
            checkpoints=self._checkpoints,
            pieces=UploadPartStore(data_dir / "incoming"),
            executor_cache=self._executor_cache,
            worker=self._worker,
        )
        self.events = Events(
            registry=self._registry, ledger=self._ledger, results=self._results, options=options
        )
        self.history = History(
            registry=self._registry,
            ledger=self._ledger,
            results=self._results,
            events=self.events,
        )
        # What the parts offer as it is, the engine offers under the same names.
        self.subscribe = self._registry.subscribe
        self.put_segment, self.plan, self.segment = plans.put_segment, plans.plan, plans.segment
        self.advance, self.control = plans.advance, plans.control
        self.put_shard = plans.put_shard
        self.has_shard, self.missing_shards = plans.has_shard, plans.missing_shards
        self.train_inline = inline.train
        self.checkpoint = self._restoring.newest
        self.put_upload_part = self._restoring.put_upload_part

    def start(self) -> None:
        """Take up the runs that are on disk and go on with them."""
        self.events.start()
        for stored in self._ledger.runs():
            self._runs[stored.name] = self._load(stored)
        if DEFAULT_RUN not in self._runs:
            self._add_run(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
        known = {run.id for run in self._runs.values()}
        for run_id in set(self._checkpoints.run_ids()) - known:
            self._checkpoints.remove(run_id)  # of a run that was removed just before a kill
        self._worker.start()
        if self._mirror is not None:
            self._mirror.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the step under way, write, and compute no more; False if `timeout` was too short.

        What asks for nothing to be computed is still answered, until `close`.
        """
        return self._worker.stop(timeout)

    def close(self) -> None:
        """Let go of the folder, after `stop`; nothing may use the engine any more."""
        self._checkpointer.close()
        self.events.close()
        if self._mirror is not None:
            self._mirror.close()
        self._ledger.close()
        self._folder_lock.release()

    def _load(self, stored: StoredRun) -> Run:
        run = Run(stored, self._ledger.segments(stored.key), self._shards)
        run.replay_until = self._ledger.last_step(stored.key)
        run.environments = self._ledger.environments(stored.key)
        run.micro_batch_sizes = dict(self._ledger.micro_batch_sizes(stored.key))
        for batch in self._ledger.pending_inline(stored.key):
            run.inline.append(InlineTask(batch.batch, SegmentReader(batch.segment, self._shards)))
        self._executor_cache.place(run)
        return run

    # --- runs ---

    def create_run(self, name: str, run_id: str, config: RunConfig) -> bool:
        """Make a run, or confirm that it is there; True when it is new. Durable.

        Raises OtherRun, OtherConfig, RunDeleted, TooManyRuns.
        """
        check_run_name(name)
        with self._changed:
            if self._ledger.is_dead(run_id):
                raise RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            if name in self._runs:
                run = self._registry.get(name, run_id)
                if run.config != config:
                    fields = _differing(run.config, config)
                    raise OtherConfig(
                        _("run {name!r} was made with another {fields}").format(
                            name=name, fields=", ".join(fields)
                        )
                    )
                return False
            if any(run.id == run_id for run in self._runs.values()):
                raise OtherRun(_("id {run_id} belongs to another run here").format(run_id=run_id))
            if len(self._runs) >= self._options.max_runs:
                raise TooManyRuns(
                    _("this server holds {count} runs, as many as it may").format(
                        count=len(self._runs)
                    )
                )
            self._add_run(name, run_id, config)
            return True

    def _add_run(self, name: str, run_id: str, config: RunConfig) -> None:
        self._runs[name] = Run(self._ledger.add_run(name, run_id, config), [], self._shards)

    def remove_run(self, name: str, run_id: str) -> None:
        """Remove a run; its id stays dead. Durable. Raises UnknownRun, RunDeleted, OtherRun.

        The run `default` is made anew at once, empty, since it always exists.
        """
        with self._changed:
            run = self._registry.get(name, run_id)
            self._ledger.remove_run(run.key, run.id)
            run.removed = True
            del self._runs[name]
            if name == DEFAULT_RUN:
                self._add_run(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
            waiting = [task for task in run.inline if not task.begun]
            for task in waiting:
                run.inline.remove(task)
            self._registry.wake(name)
        self._checkpoints.remove(run.id)
        for task in waiting:  # one that was begun is settled by the worker
            task.done.set_exception(
                RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            )

    def summary(self, name: str) -> RunSummary:
        """Return a run's position. Raises UnknownRun."""
        with self._changed:
            return self._registry.get(name).summary()

    def summaries(self) -> list[RunSummary]:
        """Return the positions of all runs, by name."""
        with self._changed:
            return [run.summary() for _, run in sorted(self._runs.items())]

    def run_state(self, name: str) -> RunState:
        """Return everything about a run; waits for the step under way. Raises UnknownRun."""
        while True:
            with self._changed:
                run = self._registry.get(name)
                known = run.weights_sha256
                if known is not None and known[0] == run.step:
                    return self._describe(run, known[1])
            step, _, sha256 = self.weights(name)
            with self._changed:
                run.weights_sha256 = (step, sha256)
                if run.step != step:  # it trained on while the weights were digested
                    return self._describe(run, sha256, at=step)

    def _describe(self, run: Run, weights_sha256: str, *, at: int | None = None) -> RunState:
        summary = run.summary().model_dump()
        if at is not None and at != run.step:
            summary |= {"step": at, "digest": self._digest_at(run, at)}
        return RunState(
            **summary,
            weights_sha256=weights_sha256,
            segments=len(run.readers),
            plan_sha256=plan_sha256(run.segments),
            non_finite_in_a_row=run.position.non_finite_in_a_row,
            waiting_for=run.missing_shards(MOST_WAITING_LISTED),
            environments=run.environments,
            config=run.config,
            created_at=run.created_at,
        )

    def _digest_at(self, run: Run, step: int) -> str:
        for result in run.pending:
            if result.step == step:
                return result.digest
        return self._ledger.digest_at(run.key, step) or run.position.digest

    # --- results ---

    def steps(self, name: str, *, after: int, limit: int, vectors: bool) -> StepsReply:
        """Return the results after step `after` that there are now. Raises UnknownRun.

        Results beyond the run's position, which a crash left and a replay will confirm, wait.
        """
        with self._changed:
            run = self._registry.get(name)
            summary, until = run.summary(), run.step
            # Taken before the ledger is read: what leaves here in between is there.
            waiting = [result for result in run.pending if after < result.step <= until]
            missing = len(run.missing_shards(MOST_WAITING_LISTED))
            dendrites = run.config.model.dendrites
        rows = self._ledger.results(run.key, after=after, until=until, limit=limit)
        # Waiting rows are newer than stored ones of the same step: a replay that differed.
        merged = {row.step: row for row in rows} | {row.step: row for row in waiting}
        ordered = [merged[step] for step in sorted(merged)][:limit]
        return StepsReply(
            **summary.model_dump(),
            steps=[to_row(result, dendrites=dendrites if vectors else None) for result in ordered],
            waiting_for=missing,
        )

    def feedback(
        self, name: str, feedback: FeedbackDendritas, *, key: str | None
    ) -> FeedbackReceived:
        """Record what the client did with the dendrites. Durable. Raises KeyReused."""
        body = documents_sha256([feedback.model_dump_json()])
        with self._changed:
            run = self._registry.get(name)
            known = self._ledger.feedback_by_key(run.key, key) if key is not None else None
            if known is not None and known[0] != body:
                raise KeyReused(_("this Idempotency-Key came with other feedback before"))
            at = time.time() if known is None else known[1]
            if known is None:
                self._ledger.add_feedback(
                    run.key,
                    key,
                    body=body,
                    adjustments=feedback.ajustes_aplicados,
                    validated=feedback.validacion,
                    received_at=at,
                )
        return FeedbackReceived(
            validacion=feedback.validacion,
            timestamp=iso_time(at),
            estadisticas=statistics.feedback(self._ledger.totals(run.key)),
        )

    # --- questions ---

    def _ask(
        self, name: str, question: Callable[[Executor], evaluation.T]
    ) -> evaluation.At[evaluation.T]:
        """Have a run's executor answer between two steps; with the step it answers for."""
        with self._changed:
            run = self._registry.get(name)

        def at_step(executor: Executor) -> evaluation.At[evaluation.T]:
            return evaluation.At(run.step, question(executor))

        return self._worker.ask(run, at_step).result()

    def weights(self, name: str) -> tuple[int, Arrays, str]:
        """Return (step, weights, their digest) after the last step applied."""
        answer = self._ask(name, lambda executor: executor.weights())
        return answer.step, answer.value, tensors_sha256(answer.value)

    def restore(self, name: str, request: RestoreCheckpoint) -> RunState:
        """Make a run go on from a checkpoint; see `Restoring.restore`."""
        self._restoring.restore(name, request)
        return self.run_state(name)

    def predict(self, name: str, shards: Sequence[str]) -> tuple[int, dict[str, FloatArray]]:
        """Compute outputs for the samples of `shards`; (step, named outputs [n, …])."""
        self._check_computable(name, shards, labelled=False)
        answer = self._ask(name, lambda ex: evaluation.predict(ex, self._shards, shards))
        return answer.step, answer.value

    def evaluate(self, name: str, shards: Sequence[str]) -> EvaluateReply:
        """Score the samples of `shards`, and take the mean loss."""
        self._check_computable(name, shards, labelled=True)
        answer = self._ask(name, lambda ex: evaluation.evaluate(ex, self._shards, shards))
        loss, scores = answer.value
        return EvaluateReply(
            run=name,
            step=answer.step,
            samples=len(scores),
            loss=loss if math.isfinite(loss) else None,
            scores=encode_scores(scores),
        )

    def _check_computable(self, name: str, shards: Sequence[str], *, labelled: bool) -> None:
        with self._changed:
            width = self._registry.get(name).config.model.features
        for sha256 in shards:
            shard = self._shards.open(sha256)
            missing = ({"x", "y"} if labelled else {"x"}) - set(shard.spans)
            if missing:
                raise InvalidSamples(
                    _("shard {sha256} has no tensor {name!r}").format(
                        sha256=sha256[:12], name=missing.pop()
                    )
                )
            check_shape(shard.read("x", rows=1), width=width)
            if labelled:
                check_labels(shard.read("y"), samples=shard.samples)

    def diagnose(self, name: str) -> Diagnosis:
        """Run a forward and a backward pass on the real device, touching no run."""
        with self._changed:
            config = self._registry.get(name).config
        return self._ask(name, lambda _: evaluation.diagnose(config, self.device)).value

    # --- statistics ---

    def status(self, name: str) -> Status:
        """Return the state of the server and of a run. Raises UnknownRun."""
        with self._changed:
            run = self._registry.get(name)
            summary = run.summary()
        self._results.flush(run)
        return statistics.status(
            summary,
            totals=self._ledger.totals(run.key),
            recent=self._ledger.recent_losses(run.key, 100),
            device=self.device,
            uptime_seconds=self.uptime_seconds(),
            options=self._options,
            data_dir=self.data_dir,
        )

    def metrics(self, name: str) -> Metrics:
        """Return recent losses and their trend. Raises UnknownRun."""
        with self._changed:
            run = self._registry.get(name)
        self._results.flush(run)
        return statistics.metrics(self._ledger, run.key)

    def info(self, name: str) -> Info:
        """Return the architecture of a run's model, and who this server is. Raises UnknownRun."""
        with self._changed:
            config = self._registry.get(name).config
        return statistics.info(
            name, config.model, self.device.parameters(config), server_id=self.server_id
        )

    @property
    def steps_done(self) -> int:
        """Planned steps and inline batches computed by this process."""
        return self._worker.steps_done

    @property
    def restarts(self) -> int:
        """How often the supervisor has replaced a process of this server."""
        return self._options.restarts

    def uptime_seconds(self) -> float:
        """Seconds since the engine was made."""
        return self._clock.seconds()


def _lock_folder(data_dir: Path) -> BaseFileLock:
    lock = hold_lock(data_dir / "lock")
    if lock is None:
        raise RunFolderConflict(
            _("another server uses {data_dir}").format(data_dir=data_dir),
            hint=_("stop it, or choose another --data-dir"),
        )
    return lock


def _server_id(path: Path) -> str:
    if not path.exists():
        write_durably(path, [uuid.uuid4().hex.encode()])
    return path.read_text().strip()


def _differing(stored: RunConfig, sent: RunConfig) -> list[str]:
    return [name for name in RunConfig.model_fields if getattr(stored, name) != getattr(sent, name)]
