"""What a watcher reads of a run: series thinned out, events, evaluations, memory."""

import base64
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.engine.storage.journal import EventTable
from omega21.executors.memory import MOST_SAMPLES, MemoryHistory
from omega21.protocol.errors import OtherRun, StorageFull, UnknownRun
from omega21.protocol.evaluations import RecordEvaluation
from omega21.protocol.history import Event, Points
from tests.engine.engines import (
    OPTIONS,
    DrivenRun,
    Row,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.local_device import local_engine
from tests.engine.test_non_finite import spoil

EVALUATION = RecordEvaluation(
    run_id="0" * 32, step=3, samples=10, loss=0.25,
    metrics={"auroc": 0.75, "average_precision": None},
)  # fmt: skip


@pytest.fixture
def trained(run: DrivenRun) -> DrivenRun:
    """Twenty-one steps on six samples."""
    shards = cut(make_samples(6), 3)
    run.train(shards, make_segment(shards, batch_size=2, epochs=7))
    return run


def evaluation(run: DrivenRun, **figures: object) -> RecordEvaluation:
    return EVALUATION.model_copy(update={"run_id": run.id, **figures})


def decode(points: Points, name: str) -> NDArray[np.float64]:
    assert points.vectors is not None
    vectors = points.vectors[name]
    raw = np.frombuffer(base64.b64decode(vectors.values), np.int8).astype(np.float64)
    values: NDArray[np.float64] = raw.reshape(-1, vectors.size) * (vectors.scale / 127)
    return values


def differs_by_rounding(points: Points, name: str, rows: list[Row]) -> bool:
    """Whether a vector is that of the rows, to half a step of its largest value."""
    expected = np.array([row.vectors[name] for row in rows])
    error = np.abs(decode(points, name) - expected).max()
    return bool(error <= np.abs(expected).max() * 0.5 / 127 + 1e-6)


def losses(rows: list[Row]) -> list[float]:
    return [row.loss for row in rows if row.loss is not None]


class TestSeries:
    def test_a_short_run_is_shown_step_by_step(self, trained: DrivenRun) -> None:
        series = trained.engine.history.series(trained.name, after=0, points=21, vectors=True)
        rows = trained.rows()
        assert series.width == 1
        assert series.points.step == [row.step for row in rows]
        assert series.points.loss == pytest.approx(losses(rows), rel=1e-5)
        assert series.points.samples == [row.samples for row in rows]
        assert set(series.points.metrics) == set(rows[0].metrics)
        for name, column in series.points.metrics.items():
            assert column == pytest.approx([row.metrics[name] for row in rows], rel=1e-5)
        assert series.points.vectors is not None
        assert set(series.points.vectors) == set(rows[0].vectors)
        for name in series.points.vectors:
            assert differs_by_rounding(series.points, name, rows)

    def test_a_longer_one_keeps_its_sums_and_extremes(self, trained: DrivenRun) -> None:
        series = trained.engine.history.series(trained.name, after=0, points=6, vectors=True)
        rows = trained.rows()
        groups = [rows[start : start + 4] for start in range(0, 21, 4)]
        points = series.points
        assert series.width == 4
        assert points.step == [4, 8, 12, 16, 20, 21]
        assert points.loss == pytest.approx([np.mean(losses(g)) for g in groups], rel=1e-5)
        assert points.loss_min == pytest.approx([min(losses(g)) for g in groups], rel=1e-5)
        assert points.loss_max == pytest.approx([max(losses(g)) for g in groups], rel=1e-5)
        assert points.samples == [sum(row.samples for row in g) for g in groups]
        for name, column in points.metrics.items():
            means = [np.mean([row.metrics[name] for row in g]) for g in groups]
            assert column == pytest.approx(means, rel=1e-5)
        assert differs_by_rounding(points, "coherence", [g[-1] for g in groups])

    @pytest.mark.parametrize("after", range(22))
    def test_what_follows_a_cursor_is_the_end_of_the_whole(
        self, trained: DrivenRun, after: int
    ) -> None:
        history = trained.engine.history
        whole = history.series(trained.name, after=0, points=6, vectors=False).points
        rest = history.series(trained.name, after=after, points=6, vectors=False).points
        assert rest.step == [step for step in whole.step if (step - 1) // 4 >= after // 4]
        assert rest.loss == (whole.loss[-len(rest.loss) :] if rest.loss else [])

    def test_a_run_without_results_has_an_empty_one(self, run: DrivenRun) -> None:
        series = run.engine.history.series(run.name, after=0, points=300, vectors=True)
        assert (series.width, series.points.step, series.points.vectors) == (1, [], {})

    def test_an_unknown_run_is_refused(self, engine: Engine) -> None:
        with pytest.raises(UnknownRun):
            engine.history.series("nobody", after=0, points=300, vectors=False)

    def test_the_mark_changes_with_whatever_there_is_to_see(self, trained: DrivenRun) -> None:
        history = trained.engine.history
        trained.wait(lambda summary: summary.durable_step == 21)
        etags = [history.position(trained.name).etag]
        history.record_evaluation(trained.name, evaluation(trained))
        etags.append(history.position(trained.name).etag)
        trained.control(1, paused=True)
        etags.append(history.position(trained.name).etag)
        logging.getLogger("omega21.engine.checkpointing").warning("the disk is full")
        etags.append(history.position(trained.name).etag)
        assert len(set(etags)) == 4
        assert history.position(trained.name).etag == etags[-1]


class TestEvaluations:
    def test_are_recorded_once(self, trained: DrivenRun) -> None:
        history = trained.engine.history
        first = history.record_evaluation(trained.name, evaluation(trained))
        again = history.record_evaluation(trained.name, evaluation(trained))
        other = history.record_evaluation(trained.name, evaluation(trained, step=4))
        assert again == first
        assert history.evaluations(trained.name, after=0).evaluations == [first, other]
        assert history.evaluations(trained.name, after=first.number).evaluations == [other]
        assert history.newest_evaluation(trained.name) == other

    def test_of_another_run_are_refused(self, trained: DrivenRun) -> None:
        with pytest.raises(OtherRun):
            trained.engine.history.record_evaluation(trained.name, EVALUATION)
        assert trained.engine.history.evaluations(trained.name, after=0).evaluations == []

    def test_are_there_after_a_restart_and_gone_with_their_run(self, tmp_path: Path) -> None:
        with running(tmp_path / "data") as engine:
            run = DrivenRun(engine)
            recorded = engine.history.record_evaluation(run.name, evaluation(run))
        with running(tmp_path / "data") as engine:
            found = engine.history.evaluations(run.name, after=0).evaluations
            engine.runs.remove(run.name, run.id)
            engine.runs.create(run.name, "1" * 32, run.config)
            assert engine.history.evaluations(run.name, after=0).evaluations == []
        assert found == [recorded]


class TestEvents:
    def test_tell_of_starts_and_of_a_death(self, tmp_path: Path) -> None:
        death = "2025-01-31 12:00:00: killed by SIGKILL (out of memory?)"
        with running(tmp_path / "data"):
            pass
        again = EngineOptions(device="cpu", threads=1, restarts=1, last_death=death)
        with running(tmp_path / "data", again) as engine:
            events = engine.events.newest()
        assert [(event.kind, event.detail) for event in events] == [
            ("restarted", death), ("started", "")
        ]  # fmt: skip

    def test_tell_of_refused_steps_in_a_row_as_one(self, run: DrivenRun) -> None:
        shards = cut(spoil(make_samples(8), 2, 3, 4, 5, 7), 8)
        run.train(shards, make_segment(shards, batch_size=2))
        non_finite = [e for e in run.engine.events.newest(run.name) if e.kind == "non_finite"]
        assert [(event.step, event.count) for event in non_finite] == [(2, 3)]

    def test_tell_that_a_run_diverged(self, run: DrivenRun) -> None:
        shards = cut(spoil(make_samples(10), *range(10)), 10)
        run.plan_whole(shards, make_segment(shards, batch_size=1))
        run.advance(10)
        run.wait(lambda summary: summary.state == "diverged")
        newest = run.engine.events.newest(run.name)[0]
        assert (newest.kind, newest.detail) == ("diverged", run.summary.reason)

    def test_tell_of_the_conditions_and_of_this_run_alone(self, trained: DrivenRun) -> None:
        other = DrivenRun(trained.engine, "another")
        events = trained.engine.events.newest(trained.name)
        assert [(e.kind, e.run, e.step) for e in events] == [
            ("environment", trained.name, 1), ("started", None, None)
        ]  # fmt: skip
        assert {e.run for e in trained.engine.events.newest(other.name)} == {None}
        with pytest.raises(UnknownRun):
            trained.engine.events.newest("nobody")

    def test_repeat_no_warning_and_keep_a_bounded_number(self, engine: Engine) -> None:
        log = logging.getLogger("omega21.engine.step_writer")
        for _ in range(3):
            log.warning("the disk is full")
        assert [(e.detail, e.count) for e in engine.events.newest() if e.kind == "warning"] == [
            ("the disk is full", 3)
        ]
        for number in range(150):
            log.warning("warning %d", number)
        warnings = [e for e in engine.events.newest() if e.kind == "warning"]
        assert len(warnings) == 100
        assert warnings[0].detail == "warning 149"
        assert len(engine.events.newest(limit=5)) == 5

    def test_a_closed_engine_hears_no_more(self, tmp_path: Path) -> None:
        log = logging.getLogger("omega21.engine.step_writer")
        with running(tmp_path / "data") as _:
            before = list(log.handlers)
        assert len(log.handlers) == len(before) - 1

    def test_a_full_disk_keeps_no_server_from_starting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = local_engine(tmp_path / "data", OPTIONS)

        def full(*_: object, **__: object) -> None:
            raise StorageFull("writing ledger.sqlite failed: database or disk is full")

        monkeypatch.setattr(EventTable, "add", full)
        engine.events.start()
        assert [event.kind for event in engine.events.newest()] == []
        engine.close()

    def test_are_read_leniently(self) -> None:
        assert Event.model_validate({"at": None, "kind": "started", "more": 1}).count == 1


class TestTotals:
    def test_are_summed_up_again_only_when_there_is_more(self, trained: DrivenRun) -> None:
        history = trained.engine.history
        before = history.totals(trained.name)
        assert history.totals(trained.name) is before
        assert (before.steps, before.samples) == (21, 42)
        trained.advance(21)
        shards = cut(make_samples(2, seed=5), 2)
        trained.train(shards, make_segment(shards, batch_size=2))
        assert history.totals(trained.name).steps == 22


class TestMemory:
    def test_reaches_back_to_the_start_with_a_bounded_number(self) -> None:
        now = [1000.0]
        memory = MemoryHistory(lambda: 5.0, lambda: None, clock=lambda: now[0])
        for _ in range(5000):
            memory.look()
            now[0] += 1.0
        samples = memory.samples()
        assert samples[0].at == 1000.0
        assert samples[-1].at == now[0]
        assert MOST_SAMPLES / 4 < len(samples) <= MOST_SAMPLES
        assert {sample.device_mb for sample in samples} == {5.0}

    def test_takes_one_sample_a_second_at_most(self) -> None:
        memory = MemoryHistory(lambda: 0.0, lambda: None, clock=lambda: 1000.0)
        for _ in range(10):
            memory.look()
        assert len(memory.samples()) == 2  # one, and one of now
