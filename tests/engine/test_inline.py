"""Inline batches: on disk before they are trained, once for a key, and none that hangs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.protocol.errors import KeyReused, OmegaError, RunDeleted, StillRunning, Unavailable
from tests.engine.engines import (
    CONFIG,
    OPTIONS,
    DrivenRun,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.local_device import local_engine
from tests.engine.processes import EngineProcess, train_inline_until_answered
from tests.engine.reference import Environment, train_plainly

BATCH = make_samples(4)


class TestKeys:
    def test_the_same_again_gets_the_same_reply(self, tmp_path: Path) -> None:
        with running(tmp_path) as engine:
            run = DrivenRun(engine)
            first = engine.inline.train(run.name, *BATCH, epochs=3, key="k")
            engine.inline.train(run.name, *make_samples(2, seed=1), epochs=1, key="later")
            again = engine.inline.train(run.name, *BATCH, epochs=3, key="k")
            assert again == first.model_copy(update={"durable_step": again.durable_step})
        with running(tmp_path) as engine:
            again = engine.inline.train(run.name, *BATCH, epochs=3, key="k")
            assert again == first.model_copy(update={"durable_step": again.durable_step})
            assert run.on(engine).summary.step == 4

    def test_another_body_is_refused(self, engine: Engine, run: DrivenRun) -> None:
        engine.inline.train(run.name, *BATCH, epochs=1, key="k")
        for samples, epochs in ((BATCH, 2), (make_samples(4, seed=1), 1), (make_samples(3), 1)):
            with pytest.raises(KeyReused):
                engine.inline.train(run.name, *samples, epochs=epochs, key="k")
        assert run.summary.step == 1

    def test_are_each_runs_own(self, engine: Engine, run: DrivenRun) -> None:
        other = DrivenRun(engine, "other")
        for name in (run.name, other.name):
            assert engine.inline.train(name, *BATCH, epochs=1, key="k").step == 1

    def test_without_one_it_trains_each_time(self, engine: Engine, run: DrivenRun) -> None:
        steps = [engine.inline.train(run.name, *BATCH, epochs=1, key=None).step for _ in range(3)]
        assert steps == [1, 2, 3]
        assert run.outcome == train_plainly(CONFIG, [Environment(BATCH, 4)] * 3)

    def test_many_at_once_train_once(self, engine: Engine, run: DrivenRun) -> None:
        together = threading.Barrier(8)

        def send() -> int | None:
            together.wait()
            try:
                return engine.inline.train(run.name, *BATCH, epochs=2, key="k").step
            except StillRunning:
                return None

        with ThreadPoolExecutor(8) as threads:
            replies = [future.result() for future in [threads.submit(send) for _ in range(8)]]
        assert 2 in replies
        assert set(replies) <= {2, None}
        assert run.summary.plan_steps == 2


class TestAKill:
    @pytest.mark.parametrize("epochs", [1, 20])
    def test_of_the_engine_loses_and_repeats_none(self, tmp_path: Path, epochs: int) -> None:
        process = EngineProcess(tmp_path, OPTIONS)
        run_id = "a" * 32
        process.call("runs.create", "a-run", run_id, CONFIG)
        for number in range(4):
            batch = {"epochs": epochs, "key": f"key-{number}"}
            samples = make_samples(3, seed=number)
            process.send(train_inline_until_answered, "a-run", *samples, **batch)
            process.kill()
            process.start()
            process.call(train_inline_until_answered, "a-run", *samples, **batch)
        process.stop()
        with running(tmp_path) as engine:
            run = DrivenRun(engine, id=run_id)
            plan = [Environment(make_samples(3, seed=seed), 3, epochs=epochs) for seed in range(4)]
            assert run.outcome == train_plainly(CONFIG, plan)


def long_batch(engine: Engine, run: DrivenRun, epochs: int = 200) -> "threading.Thread":
    """Begin an inline batch of many epochs in a thread, which keeps what became of it."""
    outcome: list[object] = []

    def send() -> None:
        try:
            outcome.append(engine.inline.train(run.name, *BATCH, epochs=epochs, key="long"))
        except OmegaError as error:
            outcome.append(error)

    thread = threading.Thread(target=send)
    thread.outcome = outcome  # type: ignore[attr-defined]
    thread.start()
    run.wait(lambda summary: summary.state == "training")
    return thread


def became_of(thread: threading.Thread) -> object:
    thread.join(60)
    (outcome,) = thread.outcome  # type: ignore[attr-defined]
    return outcome


def test_one_whose_run_is_removed_meanwhile_is_told_so(engine: Engine, run: DrivenRun) -> None:
    thread = long_batch(engine, run, epochs=400)
    engine.runs.remove(run.name, run.id)
    assert isinstance(became_of(thread), RunDeleted)
    other = DrivenRun(engine, "other")  # and the engine goes on
    assert engine.inline.train(other.name, *BATCH, epochs=1, key=None).step == 1


def test_one_that_a_question_goes_before_is_told_of_a_removal(
    engine: Engine, run: DrivenRun
) -> None:
    """Two batches wait, and questions between them; the run goes before the second one's turn."""
    first_asked, may_answer, asked_again, may_end = (threading.Event() for _ in range(4))

    def hold(asked: threading.Event, release: threading.Event) -> int:
        asked.set()
        assert release.wait(60)
        return 0

    with ThreadPoolExecutor(4) as threads:
        threads.submit(engine.inference.compute, run.name, lambda _: hold(first_asked, may_answer))
        assert first_asked.wait(60)
        batches = []
        for number in range(2):  # accepted one after the other, while the worker is held
            batches.append(
                threads.submit(engine.inline.train, run.name, *BATCH, epochs=1, key=str(number))
            )
            while len(engine.registry.get(run.name).inline) <= number:
                assert not batches[-1].done(), batches[-1].result()
        threads.submit(engine.inference.compute, run.name, lambda _: hold(asked_again, may_end))
        while not engine.worker._requests:
            assert not asked_again.is_set()
        may_answer.set()
        assert asked_again.wait(60)
        engine.runs.remove(run.name, run.id)
        may_end.set()
        assert batches[0].result(60).step == 1
        with pytest.raises(RunDeleted):
            batches[1].result(60)


def test_one_that_a_stop_interrupts_is_trained_by_the_next_engine(tmp_path: Path) -> None:
    engine = local_engine(tmp_path, OPTIONS)
    engine.start()
    run = DrivenRun(engine)
    thread = long_batch(engine, run)
    assert engine.stop(60)
    assert isinstance(became_of(thread), Unavailable)
    with pytest.raises(Unavailable):
        engine.inline.train(run.name, *BATCH, epochs=1, key="late")
    engine.close()
    with running(tmp_path) as engine:
        run = run.on(engine)
        run.wait_for_step(200)
        assert engine.inline.train(run.name, *BATCH, epochs=200, key="long").step == 200
        assert run.outcome == train_plainly(CONFIG, [Environment(BATCH, 4, epochs=200)])


def test_a_segment_waits_until_the_batch_before_it_is_trained(
    engine: Engine, run: DrivenRun
) -> None:
    shards = cut(make_samples(4), 4)
    run.upload(shards)
    segment = make_segment(shards, batch_size=4)
    thread = long_batch(engine, run, epochs=300)
    with pytest.raises(StillRunning) as refused:
        run.put(0, segment)
    assert refused.value.retry_after
    assert not isinstance(became_of(thread), OmegaError)
    assert run.put(1, segment).plan_steps == 301


def test_its_shard_pushes_out_none_that_a_plan_needs(tmp_path: Path) -> None:
    shards = cut(make_samples(8), 2)
    options = EngineOptions(device="cpu", threads=1, disk_limit=5 * len(shards[0].plain))
    with running(tmp_path, options) as engine:
        busy, other = DrivenRun(engine, "busy"), DrivenRun(engine, "other")
        busy.plan_whole(shards, make_segment(shards, batch_size=2))
        engine.inline.train(other.name, *make_samples(2, seed=5), epochs=1, key=None)
        with pytest.raises(OmegaError, match=r"of \d+ bytes"):
            engine.inline.train(other.name, *make_samples(2, seed=6), epochs=1, key=None)
        assert engine.shards.missing([shard.sha256 for shard in shards]) == []
        assert other.summary.plan_steps == 1
