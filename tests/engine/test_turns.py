"""Several runs on one engine: turns, pauses, inline batches, and questions between two steps."""

import threading

import numpy as np
import pytest

from omega21.data.scores import auroc
from omega21.engine.engine import Engine
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidSamples,
    PlanUnfinished,
    RunPaused,
    UnknownShard,
)
from omega21.protocol.shards import encode_shard
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    Samples,
    cut,
    make_samples,
    make_segment,
    make_shard,
)
from tests.engine.reference import Environment, train_plainly

SAMPLES = make_samples(20)
LONG = make_segment(cut(SAMPLES, 20), batch_size=2, epochs=100_000)


def test_runs_with_work_all_get_on(engine: Engine) -> None:
    runs = [DrivenRun(engine, name) for name in ("first", "second", "third")]
    for run in runs:
        run.plan_whole(cut(SAMPLES, 20), LONG)
        run.advance(10**6)
    for run in runs:
        run.wait_for_step(2)
    assert all(run.summary.state == "training" for run in runs)


def test_an_inline_batch_does_not_wait_for_another_runs_end(engine: Engine) -> None:
    busy, other = DrivenRun(engine, "busy"), DrivenRun(engine, "other")
    busy.plan_whole(cut(SAMPLES, 20), LONG)
    busy.advance(10**6)
    busy.wait_for_step(1)
    assert engine.inline.train(other.name, *make_samples(2), epochs=2, key=None).step == 2
    assert busy.summary.state == "training"


def test_an_inline_batch_waits_for_its_own_plan(engine: Engine, run: DrivenRun) -> None:
    run.plan_whole(cut(SAMPLES, 20), LONG)
    with pytest.raises(PlanUnfinished, match="at step 0 of 1000000") as refused:
        engine.inline.train(run.name, *make_samples(2), epochs=1, key="k")
    assert refused.value.retry_after
    assert run.summary.plan_steps == 10**6


def test_inline_batches_from_many_threads_each_train_once(engine: Engine, run: DrivenRun) -> None:
    replies: list[int] = []

    def send(seed: int) -> None:
        reply = engine.inline.train(run.name, *make_samples(2, seed=seed), epochs=2, key=str(seed))
        replies.append(reply.step)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == [2, 4, 6, 8, 10, 12]
    assert [row.step for row in run.rows()] == list(range(1, 13))


class TestPause:
    def test_a_paused_run_keeps_its_target_and_trains_nothing(self, run: DrivenRun) -> None:
        run.control(1, paused=True)
        run.plan_whole(cut(SAMPLES, 20), LONG)
        assert run.advance(7).target == 7
        assert run.summary.state == "paused"
        DrivenRun(run.engine, "empty").control(1, paused=True)
        with pytest.raises(RunPaused):
            run.engine.inline.train("empty", *make_samples(2), epochs=1, key=None)
        assert run.rows() == []
        run.control(2, paused=False)
        assert run.wait_for_step(7).step == 7

    def test_the_highest_generation_wins(self, run: DrivenRun) -> None:
        run.control(5, paused=True)
        for revision in (5, 4, 0):
            summary = run.control(revision, paused=False)
            assert (summary.paused, summary.revision) == (True, 5)
        assert run.control(6, paused=False).paused is False

    def test_a_pause_takes_effect_between_two_steps(self, run: DrivenRun) -> None:
        run.plan_whole(cut(SAMPLES, 20), LONG)
        run.advance(10**6)
        run.wait_for_step(3)
        run.control(1, paused=True)
        first = run.engine.runs.state(
            run.name
        )  # answered between two steps, so the last one is done
        assert run.engine.runs.state(run.name).step == first.step
        assert first.weights_sha256 == run.weights_sha256


class TestQuestions:
    def test_are_answered_while_a_run_trains(self, engine: Engine, run: DrivenRun) -> None:
        run.plan_whole(cut(SAMPLES, 20), LONG)
        run.advance(10**6)
        run.wait_for_step(1)
        held_out = make_shard(make_samples(7, seed=9))
        run.upload([held_out])
        reply = engine.inference.evaluate(run.name, [held_out.sha256])
        step, outputs = engine.inference.predict(run.name, [held_out.sha256, held_out.sha256])
        assert 1 <= reply.step <= step
        assert reply.samples == len(reply.score_array()) == 7
        assert {name: array.shape for name, array in outputs.items()} == {
            "anomaly_prob": (14,), "dendrites": (14, 16), "coherence": (14, 64),
        }  # fmt: skip
        assert run.summary.state == "training"

    def test_touch_no_state(self, engine: Engine, run: DrivenRun) -> None:
        shards = cut(SAMPLES, 20)
        segment = make_segment(shards, batch_size=4, epochs=2)
        run.plan_whole(shards, segment)
        run.advance(4)
        run.wait_for_step(4)
        before = run.weights_sha256
        engine.inference.evaluate(run.name, [shards[0].sha256])
        engine.inference.predict(run.name, [shards[0].sha256])
        engine.inference.diagnose(run.name)
        assert run.weights_sha256 == before
        run.advance(10)
        run.wait_for_step(10)
        assert run.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=2)])

    def test_evaluate_in_evaluation_mode(self, engine: Engine, run: DrivenRun) -> None:
        """Without dropout, twice the same; and what was learned shows."""
        shards = cut(make_samples(64), 64)
        run.train(shards, make_segment(shards, batch_size=8, epochs=3))
        held_out = make_samples(64, seed=5)
        run.upload([make_shard(held_out)])
        names = [make_shard(held_out).sha256]
        first, second = (engine.inference.evaluate(run.name, names) for _ in range(2))
        assert (first.loss, first.scores) == (second.loss, second.scores)
        assert auroc(first.score_array(), held_out.y) > 0.9
        _, outputs = engine.inference.predict(run.name, names)
        np.testing.assert_array_equal(outputs["anomaly_prob"], first.score_array())

    def test_a_shard_that_is_not_here_is_named(self, engine: Engine, run: DrivenRun) -> None:
        with pytest.raises(UnknownShard, match="0" * 64):
            engine.inference.evaluate(run.name, ["0" * 64])
        with pytest.raises(UnknownShard):
            engine.inference.predict(run.name, ["0" * 64])

    def test_predict_needs_no_labels_and_evaluate_does(
        self, engine: Engine, run: DrivenRun
    ) -> None:
        shard = unlabelled()
        engine.shards.put(shard[0], shard[1], compressed=True)
        assert len(engine.inference.predict(run.name, [shard[0]])[1]["anomaly_prob"]) == 3
        with pytest.raises(InvalidSamples, match="'y'"):
            engine.inference.evaluate(run.name, [shard[0]])

    def test_a_shard_of_another_width_is_refused(self, engine: Engine, run: DrivenRun) -> None:
        narrow = make_shard(Samples(np.ones((2, 8), np.float32), np.ones(2, np.float32)))
        run.upload([narrow])
        for ask in (engine.inference.predict, engine.inference.evaluate):
            with pytest.raises(InvalidSamples, match=r"x has shape \[2, 8\], expected \[n, 1600\]"):
                ask(run.name, [narrow.sha256])

    def test_predictions_too_large_for_a_reply_are_refused(
        self, engine: Engine, run: DrivenRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shards = cut(make_samples(6), 3)
        run.upload(shards)
        monkeypatch.setattr("omega21.engine.evaluation.MAX_OUTPUT_BYTES", 3 * 81 * 4)
        engine.inference.predict(run.name, [shards[0].sha256])
        with pytest.raises(BodyTooLarge, match="more than 972 bytes"):
            engine.inference.predict(run.name, [shard.sha256 for shard in shards])

    def test_a_sample_without_a_finite_score_is_told_among_the_others(
        self, engine: Engine, run: DrivenRun
    ) -> None:
        x, y = make_samples(3)
        x[1, 1] = np.nan
        shard = make_shard(Samples(x, y))
        run.upload([shard])
        reply = engine.inference.evaluate(run.name, [shard.sha256])
        assert np.isfinite(reply.score_array()).tolist() == [True, False, True]
        assert reply.loss is None

    def test_labels_that_are_none_are_refused(self, engine: Engine, run: DrivenRun) -> None:
        x, _ = make_samples(3)
        for y in (np.ones((3, 2), np.float32), np.full(3, 2, np.float32)):
            shard = make_shard(Samples(x, y))
            run.upload([shard])
            with pytest.raises(InvalidSamples, match=r"label|tensor y has shape \[3, 2\]"):
                engine.inference.evaluate(run.name, [shard.sha256])


def unlabelled() -> tuple[str, bytes]:
    tensors = {"x": make_samples(3).x}
    return tensors_sha256(tensors), encode_shard(tensors)
