"""The engine: runs, their plans and targets, and the worker that trains them. Knows no HTTP.

Every method may be called from any thread. What changes a promise to a client (a run, a segment,
a target, a batch, feedback) is on disk before the method returns; nothing is changed by a call
that raises.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from omega21.protocol.checkpoints import (
    CheckpointRecord,
    CheckpointStored,
    RestoreCheckpoint,
    trained_plan_sha256,
)
from omega21.protocol.classic import (
    Diagnosis,
    FeedbackDendritas,
    FeedbackReceived,
    Info,
    LayerActivations,
    LayerOutputs,
    Metrics,
    Status,
    Trained,
)
from omega21.protocol.digests import documents_sha256, tensors_sha256
from omega21.protocol.errors import (
    Conflict,
    Diverged,
    InvalidCheckpoint,
    KeyReused,
    OtherConfig,
    OtherRun,
    PlanConflict,
    PlanUnfinished,
    Problem,
    RunDeleted,
    RunFolderConflict,
    RunPaused,
    StillRunning,
    TooManyRuns,
    UnknownCheckpoint,
    UnknownRun,
    UnknownSegment,
    from_problem,
)
from omega21.protocol.names import DEFAULT_RUN, check_run_name
from omega21.protocol.plan import Plan, Segment, SegmentStored, ShardRef, Source, plan_sha256
from omega21.protocol.runs import RunConfig, RunState, RunSummary
from omega21.protocol.shards import ShardStored, decode_shard, shard_samples
from omega21.protocol.steps import (
    EvaluateReply,
    StepRow,
    StepsReply,
    encode_scores,
    float32_as_json,
)
from omega21.training import questions, statistics
from omega21.training.batches import SegmentReader
from omega21.training.checkpoints import Checkpoint, CheckpointStore
from omega21.training.durable import write_durably
from omega21.training.executor import Arrays, Executor
from omega21.training.hardware import find_hardware
from omega21.training.ledger import InlineBatch, Ledger, Result, StoredRun
from omega21.training.options import EngineOptions
from omega21.training.pieces import PieceStore
from omega21.training.residents import Residents
from omega21.training.results import ResultWriter
from omega21.training.run import LAYER_NAMES, InlineTask, Run
from omega21.training.samples import check_inline, check_shape
from omega21.training.saver import Saver
from omega21.training.shards import ShardStore
from omega21.training.worker import Worker

MOST_WAITING_LISTED = 1000

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
        self._options = options
        self._folder_lock = _lock_folder(data_dir)
        self.server_id = _server_id(data_dir / "server_id")
        self.hardware = find_hardware(options)
        self._ledger = Ledger(data_dir / "ledger.sqlite")
        self._shards = ShardStore(
            data_dir / "shards", statistics.disk_limit(data_dir, options.disk_limit)
        )
        self._changed = threading.Condition()
        self._runs: dict[str, Run] = {}
        self._callbacks: tuple[Callable[[str], None], ...] = ()
        self._clock = statistics.Uptime()
        self._checkpoints = CheckpointStore(data_dir / "checkpoints")
        self._incoming = PieceStore(data_dir / "incoming")
        self._results = ResultWriter(ledger=self._ledger, changed=self._changed)
        self._saver = Saver(
            store=self._checkpoints,
            ledger=self._ledger,
            results=self._results,
            changed=self._changed,
            options=options,
        )
        self._residents = Residents(
            hardware=self.hardware,
            store=self._checkpoints,
            saver=self._saver,
            ledger=self._ledger,
            changed=self._changed,
            most=options.resident_runs,
        )
        self._worker = Worker(
            runs=self._runs,
            changed=self._changed,
            ledger=self._ledger,
            results=self._results,
            residents=self._residents,
            saver=self._saver,
            notify=self._notify,
            fatal=fatal,
        )

    def start(self) -> None:
        """Take up the runs that are on disk and go on with them."""
        for stored in self._ledger.runs():
            self._runs[stored.name] = self._load(stored)
        if DEFAULT_RUN not in self._runs:
            self._add_run(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
        known = {run.id for run in self._runs.values()}
        for run_id in set(self._checkpoints.run_ids()) - known:
            self._checkpoints.remove(run_id)  # of a run that was removed just before a kill
        self._worker.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the step under way, write, leave; False if that took longer than `timeout`."""
        stopped = self._worker.stop(timeout)
        if stopped:
            self._saver.close()
            self._ledger.close()
            self._folder_lock.release()
        return stopped

    def _load(self, stored: StoredRun) -> Run:
        run = Run(stored, self._ledger.segments(stored.key), self._shards)
        run.replay_until = self._ledger.last_step(stored.key)
        run.stretches = self._ledger.stretches(stored.key)
        run.part_sizes = self._ledger.part_sizes(stored.key)
        for batch in self._ledger.pending_inline(stored.key):
            run.inline.append(InlineTask(batch.batch, SegmentReader(batch.segment, self._shards)))
        self._residents.place(run)
        return run

    # --- who listens ---

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Have `callback(run)` called, from any thread, when a run has results or changes.

        It must return at once. Returns the function that ends the subscription.
        """
        with self._changed:
            self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            with self._changed:
                self._callbacks = tuple(c for c in self._callbacks if c is not callback)

        return unsubscribe

    def _notify(self, name: str) -> None:
        for callback in self._callbacks:
            callback(name)

    def _wake(self, name: str) -> None:
        """Tell the worker and the listeners that a run changed; the lock is held."""
        self._changed.notify_all()
        self._notify(name)

    # --- runs ---

    def _run(self, name: str, run_id: str | None = None) -> Run:
        """Find a run; the lock is held. Raises UnknownRun, RunDeleted, OtherRun."""
        run = self._runs.get(name)
        if run is None or (run_id is not None and run.id != run_id):
            if run_id is not None and self._ledger.is_dead(run_id):
                raise RunDeleted(f"the run with id {run_id} was removed")
            if run is None:
                raise UnknownRun(f"no run {name!r} on this server")
            raise OtherRun(f"run {name!r} has id {run.id} here, not {run_id}")
        return run

    def create_run(self, name: str, run_id: str, config: RunConfig) -> bool:
        """Make a run, or confirm that it is there; True when it is new. Durable.

        Raises OtherRun, OtherConfig, RunDeleted, TooManyRuns.
        """
        check_run_name(name)
        with self._changed:
            if self._ledger.is_dead(run_id):
                raise RunDeleted(f"the run with id {run_id} was removed")
            if name in self._runs:
                run = self._run(name, run_id)
                if run.config != config:
                    fields = _differing(run.config, config)
                    raise OtherConfig(f"run {name!r} was made with another {', '.join(fields)}")
                return False
            if len(self._runs) >= self._options.max_runs:
                raise TooManyRuns(f"this server holds {len(self._runs)} runs, as many as it may")
            self._add_run(name, run_id, config)
            return True

    def _add_run(self, name: str, run_id: str, config: RunConfig) -> None:
        self._runs[name] = Run(self._ledger.add_run(name, run_id, config), [], self._shards)

    def remove_run(self, name: str, run_id: str) -> None:
        """Remove a run; its id stays dead. Durable. Raises UnknownRun, RunDeleted, OtherRun.

        The run `default` is made anew at once, empty, since it always exists.
        """
        with self._changed:
            run = self._run(name, run_id)
            self._ledger.remove_run(run.key, run.id)
            run.removed = True
            del self._runs[name]
            if name == DEFAULT_RUN:
                self._add_run(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
            tasks = list(run.inline)
            self._wake(name)
        self._checkpoints.remove(run.id)
        for task in tasks:
            task.done.set_exception(RunDeleted(f"the run with id {run_id} was removed"))

    def summary(self, name: str) -> RunSummary:
        """Return a run's position. Raises UnknownRun."""
        with self._changed:
            return self._run(name).summary()

    def summaries(self) -> list[RunSummary]:
        """Return the positions of all runs, by name."""
        with self._changed:
            return [run.summary() for _, run in sorted(self._runs.items())]

    def run_state(self, name: str) -> RunState:
        """Return everything about a run; waits for the step under way. Raises UnknownRun."""
        while True:
            with self._changed:
                run = self._run(name)
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
            refused_in_a_row=run.position.refused_in_a_row,
            waiting_for=run.missing_shards(MOST_WAITING_LISTED),
            stretches=run.stretches,
            config=run.config,
            created_at=run.created_at,
        )

    def _digest_at(self, run: Run, step: int) -> str:
        for result in run.pending:
            if result.step == step:
                return result.digest
        return self._ledger.digest_at(run.key, step) or run.position.digest

    # --- plan, target, control ---

    def put_segment(
        self, name: str, number: int, *, run_id: str, segment: Segment
    ) -> SegmentStored:
        """Add segment `number` to the plan, or extend its list of shards. Durable.

        Raises PlanConflict for anything that is not the stored one, a prefix of it, or longer;
        InvalidSamples for a listed shard that does not fit the model.
        """
        with self._changed:
            run = self._run(name, run_id)
            if number == len(run.readers) and run.inline:
                raise StillRunning("an inline batch is being trained", retry_after=1)
            if number > len(run.readers):
                raise PlanConflict(
                    f"segment {number} was sent, the plan has {len(run.readers)} segments",
                    hint="segments are added in order, without gaps",
                )
            known = run.readers[number].segment if number < len(run.readers) else None
            if known is None or not known.is_extension_of(segment):
                if known is not None and not segment.is_extension_of(known):
                    raise PlanConflict(f"segment {number} of run {name!r} is another one here")
                self._extend_plan(run, number, segment)
            missing = run.readers[number].missing(MOST_WAITING_LISTED)
            self._wake(name)
            return SegmentStored(**run.summary().model_dump(), missing=missing)

    def _extend_plan(self, run: Run, number: int, segment: Segment) -> None:
        is_new = number == len(run.readers)
        known_shards = 0 if is_new else len(run.readers[number].segment.shards)
        for ref in segment.shards[known_shards:]:
            if ref.sha256 in self._shards:
                self._check_fits(run, ref)
        self._ledger.put_segment(run.key, number, segment=segment, known_shards=known_shards)
        if is_new:
            run.add_segment(SegmentReader(segment, self._shards))
        else:
            run.readers[number].extend(segment)

    def _check_fits(self, run: Run, ref: ShardRef) -> None:
        spans = self._shards.spans(ref.sha256)
        if set(spans) < {"x", "y"} or self._shards.samples(ref.sha256) != ref.samples:
            raise PlanConflict(
                f"shard {ref.sha256[:12]} holds {self._shards.samples(ref.sha256)} samples with "
                f"{', '.join(spans)}; the segment lists it with {ref.samples} of x and y"
            )
        x = self._shards.read(ref.sha256, "x", rows=range(1))
        y = self._shards.read(ref.sha256, "y", rows=range(1))
        check_shape(x, y, width=run.config.model.features)

    def plan(self, name: str) -> Plan:
        """Return a run's plan. Raises UnknownRun."""
        with self._changed:
            run = self._run(name)
            return Plan(run=run.name, id=run.id, segments=tuple(run.segments))

    def segment(self, name: str, number: int) -> Segment:
        """Return one segment of a run's plan. Raises UnknownRun, UnknownSegment."""
        with self._changed:
            run = self._run(name)
            if not 0 <= number < len(run.readers):
                raise UnknownSegment(f"run {name!r} has {len(run.readers)} segments")
            return run.readers[number].segment

    def advance(self, name: str, run_id: str, to: int) -> RunSummary:
        """Raise a run's target to `to`, never lower it, and not past its plan. Durable."""
        with self._changed:
            run = self._run(name, run_id)
            target = min(to, run.index.steps)
            if target > run.target:
                self._ledger.set_target(run.key, target)
                run.target = target
                self._wake(name)
            return run.summary()

    def control(self, name: str, run_id: str, *, generation: int, paused: bool) -> RunSummary:
        """Pause or resume a run; the highest generation wins. Durable."""
        with self._changed:
            run = self._run(name, run_id)
            if generation > run.generation:
                self._ledger.set_control(run.key, generation=generation, paused=paused)
                run.generation, run.paused = generation, paused
                self._wake(name)
            return run.summary()

    # --- results ---

    def steps(self, name: str, *, after: int, limit: int, vectors: bool) -> StepsReply:
        """Return the results after step `after` that there are now. Raises UnknownRun.

        Results beyond the run's position, which a crash left and a replay will confirm, wait.
        """
        with self._changed:
            run = self._run(name)
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
            steps=[_to_row(result, dendrites=dendrites if vectors else None) for result in ordered],
            waiting_for=missing,
        )

    # --- shards ---

    def put_shard(self, sha256: str, body: bytes, *, compressed: bool) -> ShardStored:
        """Store a shard; the same again changes nothing. Durable.

        Raises InvalidShard, BodyTooLarge, InvalidSamples when a plan that lists it cannot use it,
        StorageFull.
        """
        tensors = decode_shard(body, compressed=compressed)
        with self._changed:
            users = [run for run in self._runs.values() if self._lists(run, sha256)]
            pinned = set[str]().union(*(run.pinned_shards() for run in self._runs.values()))
        for run in users:
            check_shape(tensors.get("x"), tensors.get("y"), width=run.config.model.features)
        stored = self._shards.put(sha256, tensors, pinned=pinned)
        with self._changed:
            for run in users:
                self._wake(run.name)
        size = sum(array.nbytes for array in tensors.values())
        return ShardStored(sha256=sha256, samples=shard_samples(tensors), bytes=size, stored=stored)

    def _lists(self, run: Run, sha256: str) -> bool:
        return any(ref.sha256 == sha256 for s in run.segments for ref in s.shards)

    def has_shard(self, sha256: str) -> bool:
        """Whether a shard is here; asking counts as use."""
        return sha256 in self._shards

    def missing_shards(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that are not here; asking counts as use."""
        return [name for name in names if name not in self._shards]

    # --- inline ---

    def train_inline(
        self, name: str, x: FloatArray, y: FloatArray, *, epochs: int, key: str | None
    ) -> Trained:
        """Train a batch at the end of the plan; blocks until it is trained. Durable.

        The batch and its key are on disk before it is trained; the same key and batch again get
        the same reply. Raises InvalidSamples, PlanUnfinished, StillRunning, KeyReused, RunPaused,
        Diverged, NonFinite, OutOfDeviceMemory: then nothing entered the plan.
        """
        with self._changed:
            run = self._run(name)
        check_inline(x, y, width=run.config.model.features)
        tensors = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
        sha256 = tensors_sha256(tensors)
        body = documents_sha256([sha256, str(epochs)])
        with self._changed:
            known = self._ledger.inline_by_key(run.key, key) if key is not None else None
            if known is not None:
                return self._repeat_inline(run, known, body)
            self._check_may_train_inline(run)
        self._shards.put(sha256, tensors)
        segment = Segment(
            samples=len(y),
            batch_size=len(y),
            epochs=epochs,
            source=Source(kind="inline"),
            shards=(ShardRef(sha256=sha256, samples=len(y)),),
        )
        with self._changed:
            run = self._run(name, run.id)
            self._check_may_train_inline(run)
            batch = self._ledger.add_inline(run.key, key, body=body, segment=segment)
            task = InlineTask(batch, SegmentReader(segment, self._shards))
            run.inline.append(task)
            self._wake(name)
        return self._inline_reply(run, task.done.result())

    def _check_may_train_inline(self, run: Run) -> None:
        if run.diverged or run.failure:
            raise Diverged(f"run {run.name!r} has stopped: {run.diverged or run.failure}")
        if run.paused:
            raise RunPaused(f"run {run.name!r} is paused")
        if run.step < run.index.steps:
            raise PlanUnfinished(
                f"run {run.name!r} is at step {run.step} of {run.index.steps} planned ones",
                retry_after=5,
            )

    def _repeat_inline(self, run: Run, known: InlineBatch, body: str) -> Trained:
        if known.body != body:
            raise KeyReused("this Idempotency-Key came with another batch before")
        if known.status == "refused":
            assert known.problem is not None
            raise from_problem(Problem.model_validate_json(known.problem))
        last = known.last_step
        if last is None or run.step < last:
            raise StillRunning("this batch is being trained", retry_after=1)
        (result,) = self._ledger.results(run.key, after=last - 1, until=last, limit=1)
        return self._inline_reply(run, result)

    def _inline_reply(self, run: Run, result: Result) -> Trained:
        dendrites, coherence, layers = _split_vectors(result, run.config.model.dendrites)
        # A step that the scaler skipped has no result that counts; zeros, as clients expect.
        loss, probability = result.loss or 0.0, result.anomaly_prob or 0.0
        return Trained(
            loss=loss,
            anomaly_prob=probability,
            dendrites=dendrites,
            coherence=coherence,
            batch_size=result.samples,
            step=result.step,
            durable_step=run.durable_step,
            outputs=LayerOutputs(
                anomaly_prob=probability,
                dendrite_adjustments=dendrites,
                coherence_state=coherence,
            ),
            capa_info=LayerActivations(
                capa2_activations=layers[0],
                capa3_activations=layers[1],
                capa4_activations=layers[2],
            ),
            timestamp=_iso(result.ended_at),
            run=run.name,
            digest=result.digest,
        )

    def feedback(
        self, name: str, feedback: FeedbackDendritas, *, key: str | None
    ) -> FeedbackReceived:
        """Record what the client did with the dendrites. Durable. Raises KeyReused."""
        body = documents_sha256([feedback.model_dump_json()])
        with self._changed:
            run = self._run(name)
            known = self._ledger.feedback_by_key(run.key, key) if key is not None else None
            if known is not None and known[0] != body:
                raise KeyReused("this Idempotency-Key came with other feedback before")
            if known is None:
                self._ledger.add_feedback(
                    run.key,
                    key,
                    body=body,
                    adjustments=feedback.ajustes_aplicados,
                    validated=feedback.validacion,
                )
        at = known[1] if known is not None else datetime.now(UTC).timestamp()
        return FeedbackReceived(
            validacion=feedback.validacion,
            timestamp=_iso(at),
            estadisticas=statistics.feedback(self._ledger.totals(run.key)),
        )

    # --- questions ---

    def _ask(
        self, name: str, question: Callable[[Executor], questions.T]
    ) -> questions.At[questions.T]:
        """Have a run's executor answer between two steps; with the step it answers for."""
        with self._changed:
            run = self._run(name)

        def at_step(executor: Executor) -> questions.At[questions.T]:
            return questions.At(run.step, question(executor))

        return self._worker.ask(run, at_step).result()

    def weights(self, name: str) -> tuple[int, Arrays, str]:
        """Return (step, weights, their digest) after the last step applied."""
        answer = self._ask(name, lambda executor: executor.weights())
        return answer.step, answer.value, tensors_sha256(answer.value)

    def checkpoint(self, name: str, *, step: int | None = None) -> Checkpoint:
        """Return a run's newest checkpoint, or that of a step; it is kept while it is pulled.

        Raises UnknownRun, UnknownCheckpoint.
        """
        with self._changed:
            run = self._run(name)
        for checkpoint in self._checkpoints.newest(run.id):
            if step is None or checkpoint.step == step:
                self._checkpoints.keep_while_pulled(checkpoint)
                return checkpoint
        wanted = "no checkpoint yet" if step is None else f"no checkpoint of step {step}"
        raise UnknownCheckpoint(f"run {name!r} has {wanted}")

    def put_piece(self, sha256: str, body: bytes) -> CheckpointStored:
        """Store a piece of a checkpoint. Durable. Raises InvalidCheckpoint, StorageFull."""
        return self._incoming.put(sha256, body)

    def restore(self, name: str, request: RestoreCheckpoint) -> RunState:
        """Make a run go on from a checkpoint put together from its pieces. Durable.

        Raises UnknownRun, OtherRun, InvalidCheckpoint, Conflict when it does not go past the
        run's step; nothing is changed then.
        """
        with self._changed:
            run = self._run(name, request.run_id)
        record = self._incoming.record(request)
        with self._changed:
            self._check_goes_on(run, record)
        checkpoint = self._checkpoints.adopt(record, self._incoming.chunks(request))

        def go_on(_: Executor) -> None:
            with self._changed:
                self._check_goes_on(run, record)
                run.executor = None
            self._residents.executor_of(run)
            if run.step < record.step:
                raise InvalidCheckpoint(f"the checkpoint of step {checkpoint.step} was not taken")

        self._worker.ask(run, go_on).result()
        self._incoming.forget(request)
        self._ledger.add_event(run.key, "restored", f"step {record.step}", durable=True)
        self._notify(name)
        return self.run_state(name)

    def _check_goes_on(self, run: Run, record: CheckpointRecord) -> None:
        if record.run_id != run.id or record.config != run.config:
            raise InvalidCheckpoint("the checkpoint is of another run or configuration")
        if record.plan_sha256 != trained_plan_sha256(run.segments, record.step):
            raise InvalidCheckpoint(
                "the checkpoint belongs to another plan", hint="send the run's plan first"
            )
        if record.step <= run.step:
            raise Conflict(f"run {run.name!r} is at step {run.step}, past {record.step} already")

    def predict(self, name: str, shards: Sequence[str]) -> tuple[int, dict[str, FloatArray]]:
        """Compute outputs for the samples of `shards`; (step, named outputs [n, …])."""
        self._check_computable(name, shards, labelled=False)
        answer = self._ask(name, lambda ex: questions.predict(ex, self._shards, shards))
        return answer.step, answer.value

    def evaluate(self, name: str, shards: Sequence[str]) -> EvaluateReply:
        """Score the samples of `shards`, and take the mean loss."""
        self._check_computable(name, shards, labelled=True)
        answer = self._ask(name, lambda ex: questions.evaluate(ex, self._shards, shards))
        loss, scores = answer.value
        return EvaluateReply(
            run=name,
            step=answer.step,
            samples=len(scores),
            loss=loss,
            scores=encode_scores(scores),
        )

    def _check_computable(self, name: str, shards: Sequence[str], *, labelled: bool) -> None:
        with self._changed:
            width = self._run(name).config.model.features
        for sha256 in shards:
            spans = self._shards.spans(sha256)
            x = self._shards.read(sha256, "x", rows=range(1)) if "x" in spans else None
            y = np.zeros(1, np.float32)
            if labelled:
                y = (
                    self._shards.read(sha256, "y", rows=range(1)).astype(np.float32)
                    if "y" in spans
                    else y
                )
            check_shape(x, y, width=width)

    def diagnose(self, name: str) -> Diagnosis:
        """Run a forward and a backward pass on the real device, touching no run."""
        with self._changed:
            config = self._run(name).config
        return self._ask(name, lambda _: questions.diagnose(config, self.hardware)).value

    # --- statistics ---

    def status(self, name: str) -> Status:
        """Return the state of the server and of a run. Raises UnknownRun."""
        with self._changed:
            run = self._run(name)
            summary = run.summary()
        self._results.flush(run)
        return statistics.status(
            summary,
            totals=self._ledger.totals(run.key),
            recent=self._ledger.recent_losses(run.key, 100),
            hardware=self.hardware,
            uptime_seconds=self.uptime_seconds(),
        )

    def metrics(self, name: str) -> Metrics:
        """Return recent losses and their trend. Raises UnknownRun."""
        with self._changed:
            run = self._run(name)
        self._results.flush(run)
        return statistics.metrics(self._ledger, run.key)

    def info(self, name: str) -> Info:
        """Return the architecture of a run's model, and who this server is. Raises UnknownRun."""
        with self._changed:
            config = self._run(name).config
        return statistics.info(name, config.model, self.server_id)

    def uptime_seconds(self) -> float:
        """Seconds since the engine was made."""
        return self._clock.seconds()


def _lock_folder(data_dir: Path) -> FileLock:
    lock = FileLock(data_dir / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunFolderConflict(
            f"another server uses {data_dir}", hint="stop it, or choose another --data-dir"
        ) from error
    return lock


def _server_id(path: Path) -> str:
    if not path.exists():
        write_durably(path, [uuid.uuid4().hex.encode()])
    return path.read_text().strip()


def _differing(stored: RunConfig, sent: RunConfig) -> list[str]:
    return [name for name in RunConfig.model_fields if getattr(stored, name) != getattr(sent, name)]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _split_vectors(result: Result, dendrites: int) -> tuple[list[float], list[float], list[float]]:
    values = [float32_as_json(value) for value in result.vectors]
    layers = len(LAYER_NAMES)
    return values[:dendrites], values[dendrites:-layers], values[-layers:]


def _to_row(result: Result, *, dendrites: int | None) -> StepRow:
    vectors: dict[str, list[float]] = {}
    if dendrites is not None:
        first, second, _ = _split_vectors(result, dendrites)
        vectors = {"dendrites": first, "coherence": second}
    return StepRow(
        step=result.step,
        loss=result.loss,
        anomaly_prob=result.anomaly_prob,
        samples=result.samples,
        digest=result.digest,
        ended_at=round(result.ended_at, 3),
        seconds=round(result.seconds, 6),
        refused=result.refused,
        skipped=result.skipped,
        part_size=result.part_size,
        **vectors,
    )
