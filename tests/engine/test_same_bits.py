"""A step's result is the same, bit for bit, however it was sent and whatever went on beside it."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    Outcome,
    Samples,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.reference import Environment, train_plainly

SAMPLES = make_samples(22)
NUMBERS = {"batch_size": 4, "epochs": 3, "order_seed": 5}
STEPS = 18
WHOLE = make_segment(cut(SAMPLES, 5), **NUMBERS)


@pytest.fixture(scope="module")
def plain() -> Outcome:
    outcome = train_plainly(CONFIG, [Environment(SAMPLES, **NUMBERS)])
    assert len({row.loss for row in outcome.rows}) == STEPS
    return outcome


def in_one_go(run: DrivenRun) -> None:
    run.train(cut(SAMPLES, 5), WHOLE)


def in_other_shards(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 7)
    run.train(shards, make_segment(shards, **NUMBERS))


def in_one_shard(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 22)
    run.train(shards, make_segment(shards, **NUMBERS))


def one_sample_at_a_time(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 1)
    run.train(shards, make_segment(shards, **NUMBERS))


def with_the_plan_first_and_the_shards_backwards(run: DrivenRun) -> None:
    run.put(0, WHOLE)
    run.advance(STEPS)
    assert run.summary.state == "waiting"
    run.upload(cut(SAMPLES, 5)[::-1])
    run.wait_for_step(STEPS)


def with_everything_sent_twice(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 5)
    run.upload(shards)
    run.put(0, WHOLE)
    run.upload(shards)
    run.put(0, WHOLE)
    for to in (STEPS, STEPS, 3, 0):
        run.advance(to)
    run.put(0, WHOLE.numbers())
    run.wait_for_step(STEPS)


def with_a_list_that_grows_while_it_trains(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 5)
    for listed in range(len(shards) + 1):
        run.put(0, WHOLE.model_copy(update={"shards": WHOLE.shards[:listed]}))
        run.advance(STEPS)
        run.upload(shards[:listed][-1:])
        run.wait_for_step(5 * listed // 4 if listed < len(shards) else STEPS)


def with_a_target_raised_step_by_step(run: DrivenRun) -> None:
    run.plan_whole(cut(SAMPLES, 5), WHOLE)
    for to in range(1, STEPS + 1):
        run.advance(to)
        assert run.wait_for_step(to).step == to


def with_pauses(run: DrivenRun) -> None:
    run.plan_whole(cut(SAMPLES, 5), WHOLE)
    run.advance(STEPS)
    for revision in range(1, 13):
        run.control(revision, paused=revision % 2 == 1)
    run.wait_for_step(STEPS)


def beside_another_run(run: DrivenRun) -> None:
    other = DrivenRun(run.engine, "another", CONFIG.model_copy(update={"seed": 8}))
    other.plan_whole(cut(SAMPLES, 6), make_segment(cut(SAMPLES, 6), batch_size=2, epochs=10))
    other.advance(10**6)
    in_one_go(run)


def beside_inline_batches_of_another_run(run: DrivenRun) -> None:
    other = DrivenRun(run.engine, "another")
    run.plan_whole(cut(SAMPLES, 5), WHOLE)
    run.advance(STEPS)
    for seed in range(5):
        x, y = make_samples(3, seed=seed)
        run.engine.inline.train(other.name, x, y, epochs=2, key=None)
    run.wait_for_step(STEPS)


def with_questions_between_the_steps(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 5)
    run.plan_whole(shards, WHOLE)
    for to in range(3, STEPS + 1, 3):
        run.advance(to)
        run.engine.inference.evaluate(run.name, [shards[0].sha256])
        run.engine.inference.predict(run.name, [shards[1].sha256])
        run.engine.inference.diagnose(run.name)
        run.engine.runs.state(run.name)
        run.wait_for_step(to)


def with_uploads_from_many_threads(run: DrivenRun) -> None:
    shards = cut(SAMPLES, 2)
    run.put(0, make_segment(shards, **NUMBERS))
    run.advance(STEPS)
    threads = [
        threading.Thread(target=run.upload, args=([*shards[k:], *shards[:k]],)) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.wait_for_step(STEPS)


WAYS = [
    in_one_go, in_other_shards, in_one_shard, one_sample_at_a_time,
    with_the_plan_first_and_the_shards_backwards, with_everything_sent_twice,
    with_a_list_that_grows_while_it_trains, with_a_target_raised_step_by_step, with_pauses,
    beside_another_run, beside_inline_batches_of_another_run, with_questions_between_the_steps,
    with_uploads_from_many_threads,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_equals_the_plain_loop(
    way: Callable[[DrivenRun], None], run: DrivenRun, plain: Outcome
) -> None:
    way(run)
    assert run.outcome == plain


@pytest.mark.parametrize("stops", [[9], [1, 2, 3], [6, 12, 17]], ids=str)
def test_after_every_stop_and_start(stops: list[int], tmp_path: Path, plain: Outcome) -> None:
    with running(tmp_path) as engine:
        run = DrivenRun(engine)
        run.plan_whole(cut(SAMPLES, 5), WHOLE)
    for to in [*stops, STEPS]:
        with running(tmp_path) as engine:
            run = run.on(engine)
            run.advance(to)
            run.wait_for_step(to)
    with running(tmp_path) as engine:
        assert run.on(engine).outcome == plain


def test_on_another_engine_in_another_folder(tmp_path: Path, plain: Outcome) -> None:
    for folder in ("one", "another"):
        with running(tmp_path / folder) as engine:
            run = DrivenRun(engine, name=f"in-{folder}")
            in_one_go(run)
            assert run.outcome == plain


def test_put_away_to_disk_between_its_turns(tmp_path: Path, plain: Outcome) -> None:
    options = EngineOptions(device="cpu", threads=1, resident_runs=1)
    with running(tmp_path, options) as engine:
        runs = [DrivenRun(engine, name) for name in ("first", "second", "third")]
        for run in runs:
            run.plan_whole(cut(SAMPLES, 5), WHOLE)
        for to in (4, 11, STEPS):
            for run in runs:
                run.advance(to)
            for run in runs:
                run.wait_for_step(to)
        assert [run.outcome for run in runs] == [plain] * 3


def test_inline_and_in_shards(run: DrivenRun) -> None:
    """One inline batch of three epochs is a segment of one batch and three epochs."""
    first, second = make_samples(4, seed=1), make_samples(6, seed=2)
    for batch in (first, second):
        run.engine.inline.train(run.name, batch.x, batch.y, epochs=3, key=None)
    planned = DrivenRun(run.engine, "planned")
    for batch in (first, second):
        size = len(batch.y)
        planned.train(cut(batch, 2), make_segment(cut(batch, 2), batch_size=size, epochs=3))
    plan = [Environment(first, 4, epochs=3), Environment(second, 6, epochs=3)]
    assert run.outcome == planned.outcome == train_plainly(CONFIG, plan)


def test_planned_inline_and_planned_again(engine: Engine, run: DrivenRun) -> None:
    one, two, three = (make_samples(6, seed=seed) for seed in range(3))
    run.train(cut(one, 3), make_segment(cut(one, 3), batch_size=4))
    engine.inline.train(run.name, two.x, two.y, epochs=1, key=None)
    run.train(cut(three, 4), make_segment(cut(three, 4), batch_size=4, epochs=2))
    assert run.outcome == train_plainly(
        CONFIG, [Environment(one, 4), Environment(two, 6), Environment(three, 4, epochs=2)]
    )


def test_other_numbers_give_another_result(run: DrivenRun) -> None:
    """What the tests above compare can differ at all."""
    in_one_go(run)
    for changed in (
        Environment(SAMPLES, 4, epochs=3, order_seed=6),
        Environment(SAMPLES, 5, epochs=3, order_seed=5),
        Environment(Samples(SAMPLES.x * np.float32(1.001), SAMPLES.y), **NUMBERS),
    ):
        assert train_plainly(CONFIG, [changed]).weights_sha256 != run.weights_sha256
