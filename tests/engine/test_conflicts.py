"""What does not fit the state it meets is refused by name, and changes nothing."""

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.protocol.errors import (
    OmegaError,
    OtherConfig,
    OtherRun,
    PlanConflict,
    RunDeleted,
    TooManyRuns,
    UnknownRun,
    UnknownSegment,
)
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    cut,
    make_samples,
    make_segment,
    running,
)

SAMPLES = make_samples(12)
SHARDS = cut(SAMPLES, 4)
SEGMENT = make_segment(SHARDS, batch_size=4)
OTHER_ID = "f" * 32


@pytest.fixture
def trained(run: DrivenRun) -> DrivenRun:
    run.train(SHARDS, SEGMENT)
    return run


def everything(run: DrivenRun) -> Any:
    engine = run.engine
    status = engine.statistics.status(run.name)
    return (
        [summary.model_copy(update={"durable_step": 0}) for summary in engine.runs.summaries()],
        engine.plans.get(run.name), run.outcome,
        status.estadisticas.model_copy(update={"tiempo_transcurrido_seg": 0}),
    )  # fmt: skip


def assert_refused(
    run: DrivenRun, error: type[OmegaError], *calls: Callable[[], object], match: str = "."
) -> None:
    before = everything(run)
    for call in calls:
        with pytest.raises(error, match=match) as refused:
            call()
        assert type(refused.value) is error
    assert everything(run) == before


def writes(engine: Engine, name: str, run_id: str) -> list[Callable[[], object]]:
    return [
        lambda: engine.plans.put_segment(name, 1, run_id=run_id, segment=SEGMENT),
        lambda: engine.plans.put_segment(name, 0, run_id=run_id, segment=SEGMENT),
        lambda: engine.plans.advance(name, run_id, 99),
        lambda: engine.plans.control(name, run_id, revision=9, paused=True),
        lambda: engine.runs.remove(name, run_id),
    ]


def test_another_run_of_that_name(engine: Engine, trained: DrivenRun) -> None:
    create = [lambda: engine.runs.create(trained.name, OTHER_ID, CONFIG)]
    assert_refused(trained, OtherRun, *create, *writes(engine, trained.name, OTHER_ID))


def test_the_same_id_under_another_name(engine: Engine, trained: DrivenRun) -> None:
    assert_refused(trained, OtherRun, lambda: engine.runs.create("copy", trained.id, CONFIG))
    with pytest.raises(UnknownRun):
        engine.runs.summary("copy")


def test_another_configuration(engine: Engine, trained: DrivenRun) -> None:
    optimizer = CONFIG.optimizer.model_copy(update={"learning_rate": 0.1})
    for change, named in (
        ({"seed": 8}, "seed"),
        ({"precision": "bfloat16"}, "precision"),
        ({"deterministic": False}, "deterministic"),
        ({"optimizer": optimizer}, "optimizer"),
        ({"seed": 9, "optimizer": optimizer}, "optimizer, seed"),
    ):
        other = CONFIG.model_copy(update=change)
        assert_refused(
            trained, OtherConfig,
            partial(engine.runs.create, trained.name, trained.id, other),
            match=named,
        )  # fmt: skip
    assert engine.runs.create(trained.name, trained.id, CONFIG) is False


def test_a_removed_run_stays_dead(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        dead, alive = DrivenRun(engine, "dead"), DrivenRun(engine, "alive")
        dead.train(SHARDS, SEGMENT)
        alive.train(SHARDS, SEGMENT)
        engine.runs.remove(dead.name, dead.id)
    with running(tmp_path) as engine:
        alive = alive.on(engine)
        for name in ("dead", "new-name", "alive"):
            create = [lambda name=name: engine.runs.create(name, dead.id, CONFIG)]
            assert_refused(alive, RunDeleted, *create, *writes(engine, name, dead.id))
        with pytest.raises(UnknownRun):
            engine.runs.summary("dead")
        again = DrivenRun(engine, "dead")
        assert (again.rows(), again.summary.step) == ([], 0)
        assert not list(tmp_path.glob(f"checkpoints/{dead.id}/*"))


def test_removing_the_default_run_makes_it_anew(engine: Engine) -> None:
    old = engine.runs.summary("default")
    engine.runs.remove("default", old.id)
    new = engine.runs.summary("default")
    assert new.id != old.id
    assert new.model_copy(update={"id": old.id}) == old


def test_a_segment_that_contradicts_the_plan(trained: DrivenRun) -> None:
    other_shard = make_segment([SHARDS[1], SHARDS[0], SHARDS[2]], batch_size=4)
    changed = [
        SEGMENT.model_copy(update={"batch_size": 3}),
        SEGMENT.model_copy(update={"epochs": 2}),
        SEGMENT.model_copy(update={"order_seed": 1}),
        other_shard,
    ]
    assert_refused(
        trained, PlanConflict,
        *[lambda s=segment: trained.put(0, s) for segment in changed],
        lambda: trained.put(2, SEGMENT),
    )  # fmt: skip


def test_the_plan_of_an_inline_batch_cannot_be_changed(engine: Engine, trained: DrivenRun) -> None:
    engine.inline.train(trained.name, *make_samples(3), epochs=1, key=None)
    assert_refused(trained, PlanConflict, lambda: trained.put(1, SEGMENT))
    stored = engine.plans.segment(trained.name, 1)
    assert trained.put(1, stored).missing == []


def test_what_is_not_there(engine: Engine, trained: DrivenRun) -> None:
    assert_refused(
        trained, UnknownRun,
        *writes(engine, "nobody", trained.id),
        lambda: engine.runs.summary("nobody"),
        lambda: engine.runs.state("nobody"),
        lambda: engine.plans.get("nobody"),
        lambda: engine.step_records.page("nobody", after=0, limit=1, vectors=False),
        lambda: engine.inline.train("nobody", *SAMPLES, epochs=1, key=None),
        lambda: engine.inference.evaluate("nobody", [SHARDS[0].sha256]),
        lambda: engine.inference.diagnose("nobody"),
        lambda: engine.statistics.status("nobody"),
        lambda: engine.checkpoints.newest("nobody"),
        match="'nobody'",
    )  # fmt: skip
    assert_refused(
        trained, UnknownSegment,
        lambda: engine.plans.segment(trained.name, 1),
        lambda: engine.plans.segment(trained.name, -1),
    )  # fmt: skip


def test_more_runs_than_there_may_be(tmp_path: Path) -> None:
    with running(tmp_path, EngineOptions(device="cpu", threads=1, max_runs=2)) as engine:
        run = DrivenRun(engine)
        full = [lambda: engine.runs.create("third", uuid.uuid4().hex, CONFIG)]
        assert_refused(run, TooManyRuns, *full)
        engine.runs.remove(run.name, run.id)
        assert engine.runs.create("third", uuid.uuid4().hex, CONFIG)


@pytest.mark.parametrize("name", ["", "A", "../x", "con", "a" * 64])
def test_a_name_that_is_none(engine: Engine, name: str) -> None:
    with pytest.raises(ValueError, match="is not a run name"):
        engine.runs.create(name, OTHER_ID, CONFIG)


def test_a_target_past_the_plan_is_the_plans_end(trained: DrivenRun) -> None:
    assert trained.advance(10**9).target == 3
    trained.upload(SHARDS)
    trained.put(1, SEGMENT)
    assert trained.summary.target == 3
    assert trained.advance(2).target == 3
