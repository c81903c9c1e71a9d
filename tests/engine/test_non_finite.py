"""Steps that are not finite: no-ops in a plan, errors inline, and ten in a row stop a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omega21.engine.engine import Engine
from omega21.models.corteza import task as executor
from omega21.models.corteza.config import ModelConfig
from omega21.models.corteza.network import CortezaCognitivaV4, CortezaOutputs, build_model
from omega21.protocol.errors import Diverged, InvalidSamples, NonFinite
from omega21.protocol.steps import StepsReply
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    FloatArray,
    Samples,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.reference import Environment, train_plainly


def spoil(samples: Samples, *rows: int, value: float = np.nan) -> Samples:
    x = samples.x.copy()
    x[list(rows), 5] = value
    return Samples(x, samples.y)


class TestInAPlan:
    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
    def test_a_step_that_is_not_finite_changes_nothing(self, run: DrivenRun, value: float) -> None:
        samples = spoil(make_samples(12), 5, value=value)
        run.train(cut(samples, 5), make_segment(cut(samples, 5), batch_size=4, epochs=2))
        refused = [row for row in run.rows() if row.non_finite]
        assert 2 in [row.step for row in refused]
        assert all((row.loss, row.metrics) == (None, {}) for row in refused)
        assert run.outcome == train_plainly(CONFIG, [Environment(samples, 4, epochs=2)])

    def test_the_weights_are_those_before_it(self, run: DrivenRun) -> None:
        samples = spoil(make_samples(8), 6)
        run.plan_whole(cut(samples, 8), make_segment(cut(samples, 8), batch_size=4))
        run.advance(1)
        run.wait_for_step(1)
        before = run.weights_sha256
        run.advance(2)
        run.wait_for_step(2)
        assert run.weights_sha256 == before

    def test_its_row_can_be_sent(self, engine: Engine, run: DrivenRun) -> None:
        samples = spoil(make_samples(4), 0)
        run.train(cut(samples, 4), make_segment(cut(samples, 4), batch_size=4))
        reply = engine.step_records.page(run.name, after=0, limit=10, vectors=True)
        got = StepsReply.model_validate_json(reply.model_dump_json())
        assert got.steps[0].non_finite
        assert got.steps[0].digest == run.summary.digest


def diverging() -> Samples:
    """Twelve batches of four; those from the third on hold a NaN."""
    return spoil(make_samples(48), *range(9, 48, 4))


class TestTenInARow:
    def test_stop_the_run_and_are_named(self, run: DrivenRun) -> None:
        samples = diverging()
        run.plan_whole(cut(samples, 10), make_segment(cut(samples, 10), batch_size=4, epochs=3))
        run.advance(36)
        summary = run.wait(lambda summary: summary.state == "diverged")
        assert summary.step == 12
        assert summary.reason == "the loss or gradient of steps 3 to 12 was not finite"

    def test_nine_do_not(self, run: DrivenRun) -> None:
        nine, sound = spoil(make_samples(36), *range(1, 36, 4)), make_samples(4)
        for samples in (nine, sound, nine):
            shards = cut(samples, 10)
            run.train(shards, make_segment(shards, batch_size=4))
        assert run.summary.state == "idle"
        assert sum(row.non_finite for row in run.rows()) == 18

    def test_they_are_counted_over_the_segments_they_span(self, run: DrivenRun) -> None:
        for samples in (make_samples(4), spoil(make_samples(16), *range(1, 16, 4))):
            run.train(cut(samples, 16), make_segment(cut(samples, 16), batch_size=4))
        shards = cut(spoil(make_samples(32), *range(1, 32, 4)), 16)
        run.advance(run.plan_whole(shards, make_segment(shards, batch_size=4)))
        summary = run.wait(lambda summary: summary.state == "diverged")
        assert summary.step == 11
        assert summary.reason is not None
        assert "steps 2 to 11" in summary.reason

    def test_a_replay_decides_alike(self, tmp_path: Path) -> None:
        samples = diverging()
        with running(tmp_path / "one") as engine:
            run = DrivenRun(engine)
            run.plan_whole(cut(samples, 10), make_segment(cut(samples, 10), batch_size=4))
            run.advance(12)
            diverged = run.wait(lambda summary: summary.state == "diverged")
            rows = run.rows()
        with running(tmp_path / "one") as engine:
            again = run.on(engine)
            assert again.wait(lambda summary: summary.state == "diverged").reason == diverged.reason
            assert again.rows() == rows
        for checkpoint in (tmp_path / "one" / "checkpoints").rglob("*.json"):
            checkpoint.unlink()
        with running(tmp_path / "one") as engine:
            again = run.on(engine)
            assert again.wait(lambda summary: summary.state == "diverged").reason == diverged.reason
            assert again.rows() == rows

    def test_nothing_more_is_trained(self, engine: Engine, run: DrivenRun) -> None:
        samples = diverging()
        run.plan_whole(cut(samples, 10), make_segment(cut(samples, 10), batch_size=4))
        run.advance(12)
        run.wait(lambda summary: summary.state == "diverged")
        weights = run.weights_sha256
        run.plan_whole(cut(samples, 48), make_segment(cut(samples, 48), batch_size=48))
        run.advance(13)
        with pytest.raises(Diverged, match="not finite"):
            engine.inline.train(run.name, *make_samples(2), epochs=1, key=None)
        other = DrivenRun(engine, "sound")
        other.train(cut(make_samples(4), 4), make_segment(cut(make_samples(4), 4), batch_size=2))
        assert (run.summary.step, run.weights_sha256) == (12, weights)


class TestInline:
    @pytest.fixture
    def trained(self, engine: Engine, run: DrivenRun) -> DrivenRun:
        engine.inline.train(run.name, *make_samples(3), epochs=1, key="first")
        return run

    @pytest.mark.parametrize("epochs", [1, 3])
    def test_an_overflow_is_refused_and_the_key_repeats_it(
        self, engine: Engine, trained: DrivenRun, epochs: int
    ) -> None:
        before = (trained.outcome, engine.plans.get(trained.name), trained.summary)
        x, y = spoil(make_samples(3, seed=1), 1, value=1e30)
        for _ in range(2):
            with pytest.raises(NonFinite, match=f"epoch 1 of {epochs}"):
                engine.inline.train(trained.name, x, y, epochs=epochs, key="bad")
        assert (trained.outcome, engine.plans.get(trained.name), trained.summary) == before

    def test_the_run_goes_on_as_if_it_had_not_come(
        self, engine: Engine, trained: DrivenRun
    ) -> None:
        x, y = spoil(make_samples(3, seed=1), 1, value=1e30)
        with pytest.raises(NonFinite):
            engine.inline.train(trained.name, x, y, epochs=2, key=None)
        engine.inline.train(trained.name, *make_samples(2, seed=2), epochs=1, key=None)
        plan = [Environment(make_samples(3), 3), Environment(make_samples(2, seed=2), 2)]
        assert trained.outcome == train_plainly(CONFIG, plan)

    @pytest.mark.parametrize("epoch", [1, 2, 3])
    def test_a_refusal_in_a_later_epoch_takes_the_earlier_ones_back(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epoch: int
    ) -> None:
        breaking = Breaking(at_forward=1 + epoch)
        monkeypatch.setattr(executor, "build_model", breaking.build_model)
        with running(tmp_path) as engine:
            run = DrivenRun(engine)
            engine.inline.train(run.name, *make_samples(3), epochs=1, key=None)
            before = run.outcome
            for _ in range(2):
                with pytest.raises(NonFinite, match=f"epoch {epoch} of 3"):
                    engine.inline.train(run.name, *make_samples(3, seed=1), epochs=3, key="bad")
            assert run.outcome == before
            engine.inline.train(run.name, *make_samples(2, seed=2), epochs=2, key=None)
            plan = [
                Environment(make_samples(3), 3),
                Environment(make_samples(2, seed=2), 2, epochs=2),
            ]
            assert run.outcome == train_plainly(CONFIG, plan)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_named(
        self, engine: Engine, trained: DrivenRun, value: float
    ) -> None:
        before = trained.summary
        x, y = spoil(make_samples(3), 2, value=value)
        with pytest.raises(InvalidSamples, match="feature 5 of sample 2 is not a finite number"):
            engine.inline.train(trained.name, x, y, epochs=1, key="k")
        assert trained.summary == before

    def test_what_is_beyond_float32_is_named(self, engine: Engine, trained: DrivenRun) -> None:
        x, y = make_samples(3)
        wide: FloatArray = x.astype(np.float64)
        wide[1, 3] = 1e300
        with pytest.raises(InvalidSamples, match="feature 3 of sample 1"):
            engine.inline.train(trained.name, wide, y, epochs=1, key=None)

    @pytest.mark.parametrize(
        ("shape", "labels", "message"),
        [
            ((2, 1599), [0, 0], "expected 1600 features, got 1599"),
            ((0, 1600), [], "empty"),
            ((2, 1600), [0, 0, 0], "as many labels"),
            ((2, 1600), [0, 2], "label 2.0 of sample 1"),
            ((2, 1600), [np.nan, 0], "label nan of sample 0"),
        ],
        ids=["width", "empty", "labels", "label", "nan label"],
    )
    def test_what_is_no_batch_is_named(
        self,
        engine: Engine,
        trained: DrivenRun,
        shape: tuple[int, int],
        labels: list[float],
        message: str,
    ) -> None:
        before = trained.summary
        x, y = np.zeros(shape, np.float32), np.array(labels, np.float32)
        with pytest.raises(InvalidSamples, match=message):
            engine.inline.train(trained.name, x, y, epochs=1, key=None)
        assert trained.summary == before


class Breaking:
    """The real model, whose logits are NaN in one of its forward passes."""

    def __init__(self, *, at_forward: int) -> None:
        self._left = at_forward

    def build_model(self, config: ModelConfig, *, seed: int) -> CortezaCognitivaV4:
        model = build_model(config, seed=seed)
        if seed == CONFIG.seed:  # not what only warms the engine up
            model.register_forward_hook(self._forward)
        return model

    def _forward(
        self, _: torch.nn.Module, __: tuple[torch.Tensor], outputs: CortezaOutputs
    ) -> CortezaOutputs | None:
        self._left -= 1
        if self._left:
            return None
        return outputs._replace(anomaly_logit_B=outputs.anomaly_logit_B * torch.nan)
