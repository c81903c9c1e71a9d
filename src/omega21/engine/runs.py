"""Creation, removal and description of runs."""

import uuid
from dataclasses import KW_ONLY, dataclass

from omega21.engine.batches import SegmentReader
from omega21.engine.executor_cache import ExecutorCache
from omega21.engine.inference import Inference
from omega21.engine.registry import Registry
from omega21.engine.run import MOST_WAITING_LISTED, InlineTask, Run
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.runs import StoredRun
from omega21.engine.tasks.code import Code
from omega21.language import _
from omega21.models.registry import check_config, default_config
from omega21.protocol.errors import OtherConfig, OtherRun, RunDeleted, TooManyRuns
from omega21.protocol.names import DEFAULT_RUN, check_run_name
from omega21.protocol.plan import plan_sha256
from omega21.protocol.runs import RunConfig, RunState, RunSummary


@dataclass(frozen=True)
class Runs:
    """The runs of an engine, at most `most` of them; the run `default` always exists."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    executor_cache: ExecutorCache
    inference: Inference
    code: Code
    most: int

    def load(self) -> None:
        """Load the runs from disk; before the worker starts."""
        for stored in self.folder.ledger.runs.all():
            self.registry.add(self._load(stored))
        if self.registry.find(DEFAULT_RUN) is None:
            self._add(DEFAULT_RUN, uuid.uuid4().hex, default_config())
        known = {run.id for run in self.registry.all()}
        for run_id in set(self.folder.checkpoints.run_ids()) - known:
            self.folder.checkpoints.remove(run_id)  # of a run that was removed just before a kill

    def _load(self, stored: StoredRun) -> Run:
        run = Run(stored, self.folder.ledger.segments.of(stored.key), self.folder.shards)
        run.replay_until = self.folder.ledger.steps.range(stored.key)[1]
        run.environments = self.folder.ledger.environments.of(stored.key)
        run.micro_batch_sizes = self.folder.ledger.environments.micro_batch_sizes(stored.key)
        for batch in self.folder.ledger.inline.pending(stored.key):
            reader = SegmentReader(
                batch.segment, self.folder.shards, schema=run.config.sample_schema
            )
            run.inline.append(InlineTask(batch.batch, reader))
        self.executor_cache.place(run)
        return run

    def create(self, name: str, run_id: str, config: RunConfig) -> bool:
        """Create a run, or confirm that it exists; True when it is new. Durable.

        Raises InvalidRequest, OtherRun, OtherConfig, RunDeleted, TooManyRuns, and what
        `Code.admit` raises for a new run.
        """
        check_run_name(name)
        config = check_config(config)
        if self.registry.find(name) is None:
            self.code.admit(config.task)
        with self.registry.locked():
            self.registry.check_not_removed(run_id)
            if self.registry.find(name) is not None:
                _check_same(self.registry.get(name, run_id), config)
                return False
            runs = self.registry.all()
            if any(run.id == run_id for run in runs):
                raise OtherRun(
                    _("id {run_id} belongs to another run on this server").format(run_id=run_id)
                )
            if len(runs) >= self.most:
                raise TooManyRuns(
                    _("this server has {count} runs, its maximum").format(count=len(runs))
                )
            self._add(name, run_id, config)
            return True

    def _add(self, name: str, run_id: str, config: RunConfig) -> None:
        self.registry.add(
            Run(self.folder.ledger.runs.add(name, run_id, config), [], self.folder.shards)
        )

    def remove(self, name: str, run_id: str) -> None:
        """Remove a run; its id is not used again. Durable. Raises UnknownRun, RunDeleted, OtherRun.

        The run `default` is created again at once, empty, since it always exists.
        """
        with self.registry.locked():
            run = self.registry.get(name, run_id)
            self.folder.ledger.runs.remove(run.key, run.id)
            self.registry.remove(run)
            if name == DEFAULT_RUN:
                self._add(DEFAULT_RUN, uuid.uuid4().hex, default_config())
            waiting = run.take_waiting_inline()
            self.registry.changed(name)
        self.folder.checkpoints.remove(run.id)
        self.folder.run_logs.remove(run.id)
        for task in waiting:  # the worker completes one that has started
            task.done.set_exception(
                RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            )

    def summary(self, name: str) -> RunSummary:
        """Return a run's position. Raises UnknownRun."""
        with self.registry.locked():
            return self.registry.get(name).summary()

    def summaries(self) -> list[RunSummary]:
        """Return the positions of all runs, by name."""
        with self.registry.locked():
            return sorted(
                (run.summary() for run in self.registry.all()), key=lambda summary: summary.run
            )

    def state(self, name: str) -> RunState:
        """Return everything about a run; waits for the step under way. Raises UnknownRun."""
        while True:
            with self.registry.locked():
                run = self.registry.get(name)
                known = run.weights_sha256
                if known is not None and known[0] == run.step:
                    return self._describe(run, known[1])
            step, _weights, sha256 = self.inference.weights(name)
            with self.registry.locked():
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
        return self.folder.ledger.steps.digest_at(run.key, step) or run.position.digest


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
