"""Reads a run's folder while another program may work on it; nothing is written."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from omega21.client.events import Evaluated, Event, RunReady, StepsDone
from omega21.client.store.checkpoints import held_step
from omega21.client.store.results import Results
from omega21.client.store.run_folder import (
    RunRecord,
    list_run_folders,
    read_stored,
    run_folder_path,
)
from omega21.client.store.summary import Summary, summarise
from omega21.client.training.provenance import changed_at
from omega21.language import _
from omega21.protocol.digests import CHAIN_START
from omega21.protocol.errors import UnknownRun
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import PlanIndex, Segment, plan_steps
from omega21.protocol.runs import RunSummary
from omega21.protocol.steps import StepRecord

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as of the opening of its folder; new results are visible as they are written."""

    path: Path
    record: RunRecord
    segments: tuple[Segment, ...]
    results: Results

    @property
    def is_finished(self) -> bool:
        """Whether the whole plan is trained and evaluated."""
        return 0 < len(self.segments) <= self.record.finished_segments

    @property
    def first_step(self) -> int:
        """The last segment's first step."""
        return PlanIndex(self.segments).first_steps[-1]

    def log(self) -> list[dict[str, Any]]:
        """Return the events of log.jsonl, without a line that a crash truncated."""
        path = self.path / "log.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return [found for line in text.splitlines() if (found := _object(line)) is not None]

    def evaluation(self) -> Evaluation | None:
        """Return the newest evaluation of the last segment."""
        found = self.results.evaluations()
        newest = found[-1] if found else None
        if newest is None or newest.segment != len(self.segments) - 1:
            return None
        return newest.evaluation

    def summary(self) -> Summary | None:
        """Return the last segment's summary; None without results."""
        finished = [line for line in self.log() if line.get("what") == "finished"]
        names = {field.name for field in fields(Summary)}
        needed = {field.name for field in fields(Summary) if field.default is MISSING}
        if self.is_finished and finished and needed <= finished[-1].keys():
            known = {name: value for name, value in finished[-1].items() if name in names}
            known["environment_changed_at"] = tuple(known.get("environment_changed_at", ()))
            return Summary(**known)
        first, last = self.results.row(self.first_step), self.results.row(self.results.last_step)
        if first is None or last is None:
            return None
        weights = self.results.weights(up_to=last.step)
        return summarise(
            self.record.run,
            self.segments[-1],
            ends=(first, last),
            evaluation=self.evaluation(),
            held_out=self.record.validation,
            seconds=0.0,
            weights_sha256=weights[1] if weights and weights[0] == last.step else "",
            non_finite_steps=len(self.results.non_finite_steps(first=first.step, last=last.step)),
            deterministic=self.record.config.deterministic,
            environment_changed_at=changed_at(
                self.results.environments(), first=first.step, last=last.step
            ),
            task=self.record.config.task.kind,
        )

    def position(self) -> RunSummary:
        """Return the run's position according to this folder.

        Its durable step is that of the checkpoint here.
        """
        steps = plan_steps(self.segments)
        return RunSummary(
            run=self.record.run,
            id=self.record.id,
            state="idle",
            step=self.results.last_step,
            target=steps,
            plan_steps=steps,
            durable_step=held_step(self.path) or 0,
            paused=False,
            revision=0,
            digest=self.results.digest(self.results.last_step) or CHAIN_START,
        )

    def events(self) -> Iterator[Event]:
        """Yield the events of the last segment, as far as they are here."""
        position = self.position()
        yield RunReady(
            how="stored",
            run=self.record.run,
            run_id=self.record.id,
            number=len(self.segments) - 1,
            segment=self.segments[-1],
            first_step=self.first_step,
            last_step=plan_steps(self.segments),
            position=position,
            task=self.record.config.task.kind,
        )
        for rows in self.chunks(self.first_step):
            yield StepsDone(rows, position)
        for found in self.results.evaluations(after=self.first_step - 1):
            yield Evaluated(found.evaluation, found.segment, found.ended_at)

    def chunks(self, first: int) -> Iterator[tuple[StepRecord, ...]]:
        """Yield results from a step on, some at a time."""
        while first <= self.results.last_step:
            last = min(first + ROWS_AT_ONCE - 1, self.results.last_step)
            yield tuple(self.results.rows(first=first, last=last))
            first = last + 1


@contextmanager
def open_stored_run(run: str, workdir: Path | None = None) -> Iterator[StoredRun]:
    """Open a run of this machine to read it.

    Raises UnknownRun when it does not exist, RunFolderConflict when it cannot be read.
    """
    path = run_folder_path(run, workdir)
    if not (path / "run.json").exists():
        raise UnknownRun(
            _("there is no run {run} on this machine: {path}").format(run=repr(run), path=path),
            hint=_("`omega21 runs` lists those that are"),
        )
    record, segments = read_stored(path)
    with closing(Results(path / "results.sqlite", read_only=True)) as results:
        yield StoredRun(path, record, segments, results)


def newest_run(workdir: Path | None = None) -> str:
    """Return the name of the newest run on this machine. Raises UnknownRun."""
    records = list_run_folders(workdir)
    if not records:
        raise UnknownRun(
            _("there is no run on this machine"), hint=_("make one with `omega21 train`")
        )
    return records[0].run


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
