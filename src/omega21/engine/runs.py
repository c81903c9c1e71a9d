"""Creation, removal and description of runs."""

import uuid

from omega21.engine.batches import SegmentReader
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.inference import Inference
from omega21.engine.registry import Registry
from omega21.engine.run import MOST_WAITING_LISTED, InlineTask, Run
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.runs import StoredRun
from omega21.language import _
from omega21.protocol.errors import OtherConfig, OtherRun, RunDeleted, TooManyRuns
from omega21.protocol.names import DEFAULT_RUN, check_run_name
from omega21.protocol.plan import plan_sha256
from omega21.protocol.runs import RunConfig, RunState, RunSummary


class Runs:
    """The runs of an engine, at most `most` of them; the run `default` always exists."""

    def __init__(
        self,
        registry: Registry,
        folder: DataFolder,
        *,
        executor_cache: ExecutorCache,
        inference: Inference,
        most: int,
    ) -> None:
        self._registry = registry
        self._ledger = folder.ledger
        self._shards = folder.shards
        self._checkpoints = folder.checkpoints
        self._executor_cache = executor_cache
        self._inference = inference
        self._most = most

    def load(self) -> None:
        """Load the runs from disk; before the worker starts."""
        for stored in self._ledger.runs.all():
            self._registry.add(self._load(stored))
        if self._registry.find(DEFAULT_RUN) is None:
            self._add(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
        known = {run.id for run in self._registry.all()}
        for run_id in set(self._checkpoints.run_ids()) - known:
            self._checkpoints.remove(run_id)  # of a run that was removed just before a kill

    def _load(self, stored: StoredRun) -> Run:
        run = Run(stored, self._ledger.segments.of(stored.key), self._shards)
        run.replay_until = self._ledger.steps.range(stored.key)[1]
        run.environments = self._ledger.environments.of(stored.key)
        run.micro_batch_sizes = self._ledger.environments.micro_batch_sizes(stored.key)
        for batch in self._ledger.inline.pending(stored.key):
            run.inline.append(InlineTask(batch.batch, SegmentReader(batch.segment, self._shards)))
        self._executor_cache.place(run)
        return run

    def create(self, name: str, run_id: str, config: RunConfig) -> bool:
        """Create a run, or confirm that it exists; True when it is new. Durable.

        Raises OtherRun, OtherConfig, RunDeleted, TooManyRuns.
        """
        check_run_name(name)
        with self._registry.locked():
            if self._ledger.runs.is_dead(run_id):
                raise RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            if self._registry.find(name) is not None:
                _check_same(self._registry.get(name, run_id), config)
                return False
            runs = self._registry.all()
            if any(run.id == run_id for run in runs):
                raise OtherRun(
                    _("id {run_id} belongs to another run on this server").format(run_id=run_id)
                )
            if len(runs) >= self._most:
                raise TooManyRuns(
                    _("this server has {count} runs, its maximum").format(count=len(runs))
                )
            self._add(name, run_id, config)
            return True

    def _add(self, name: str, run_id: str, config: RunConfig) -> None:
        self._registry.add(Run(self._ledger.runs.add(name, run_id, config), [], self._shards))

    def remove(self, name: str, run_id: str) -> None:
        """Remove a run; its id is not used again. Durable. Raises UnknownRun, RunDeleted, OtherRun.

        The run `default` is created again at once, empty, since it always exists.
        """
        with self._registry.locked():
            run = self._registry.get(name, run_id)
            self._ledger.runs.remove(run.key, run.id)
            self._registry.remove(run)
            if name == DEFAULT_RUN:
                self._add(DEFAULT_RUN, uuid.uuid4().hex, RunConfig())
            waiting = run.take_waiting_inline()
            self._registry.changed(name)
        self._checkpoints.remove(run.id)
        for task in waiting:  # the worker completes one that has started
            task.done.set_exception(
                RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            )

    def summary(self, name: str) -> RunSummary:
        """Return a run's position. Raises UnknownRun."""
        with self._registry.locked():
            return self._registry.get(name).summary()

    def summaries(self) -> list[RunSummary]:
        """Return the positions of all runs, by name."""
        with self._registry.locked():
            return sorted(
                (run.summary() for run in self._registry.all()), key=lambda summary: summary.run
            )

    def state(self, name: str) -> RunState:
        """Return everything about a run; waits for the step under way. Raises UnknownRun."""
        while True:
            with self._registry.locked():
                run = self._registry.get(name)
                known = run.weights_sha256
                if known is not None and known[0] == run.step:
                    return self._describe(run, known[1])
            step, _weights, sha256 = self._inference.weights(name)
            with self._registry.locked():
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
        for record in run.pending:
            if record.step == step:
                return record.digest
        return self._ledger.steps.digest_at(run.key, step) or run.position.digest


def _check_same(run: Run, config: RunConfig) -> None:
    differing = [
        name
        for name in RunConfig.model_fields
        if getattr(run.config, name) != getattr(config, name)
    ]
    if differing:
        raise OtherConfig(
            _("run {name!r} was created with another {fields}").format(
                name=run.name, fields=", ".join(differing)
            )
        )
