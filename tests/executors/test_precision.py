"""Half precision: the same bits whatever interrupts, and a scaler's skips that count apart."""

from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.protocol.errors import NonFinite
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    Samples,
    cut,
    make_samples,
    make_segment,
    running,
)

SAMPLES = make_samples(24)
SHARDS = cut(SAMPLES, 5)
SEGMENT = make_segment(SHARDS, batch_size=4, epochs=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_restart_changes_no_bit(tmp_path: Path, precision: str) -> None:
    config = CONFIG.model_copy(update={"precision": precision})
    with running(tmp_path) as engine:
        run = DrivenRun(engine, "in-one-go", config)
        run.train(SHARDS, SEGMENT)
        outcome = run.outcome
        (environment,) = engine.runs.state(run.name).environments
        assert (environment.precision, environment.threads, environment.device) == (
            precision,
            1,
            "cpu",
        )
        stopped = DrivenRun(engine, "in-pieces", config)
        stopped.plan_whole(SHARDS, SEGMENT)
    for to in (1, 5, 12):
        with running(tmp_path) as engine:
            stopped = stopped.on(engine)
            stopped.advance(to)
            stopped.wait_for_step(to)
            assert stopped.outcome.rows == outcome.rows[:to]
            if to == 12:
                assert stopped.outcome == outcome


def test_what_is_asked_for_decides_before_what_the_engine_prefers(tmp_path: Path) -> None:
    options = EngineOptions(device="cpu", threads=1, precision="bfloat16")
    asked = CONFIG.model_copy(update={"precision": "float32"})
    with running(tmp_path, options) as engine:
        for name, config, precision in (("auto", CONFIG, "bfloat16"), ("asked", asked, "float32")):
            run = DrivenRun(engine, name, config)
            run.train(SHARDS, SEGMENT)
            assert engine.runs.state(name).environments[0].precision == precision
            assert engine.runs.state(name).config == config


def large(scale: float) -> Samples:
    """Samples whose loss is finite, and whose scaled gradients are not, in half precision."""
    x, y = make_samples(4)
    return Samples(x * np.float32(scale), 1 - y)


class TestTheScaler:
    @pytest.fixture
    def run(self, engine: Engine) -> DrivenRun:
        return DrivenRun(engine, "half", CONFIG.model_copy(update={"precision": "float16"}))

    def test_skips_are_no_refusals(self, engine: Engine, run: DrivenRun) -> None:
        """More than ten steps in a row overflow while the scale comes down, and the run goes on."""
        shards = cut(large(30_000.0), 4)
        run.train(shards, make_segment(shards, batch_size=4, epochs=12))
        rows = engine.step_records.page(run.name, after=0, limit=99, vectors=True).steps
        assert sum(row.skipped for row in rows) > 10
        assert not any(row.non_finite for row in rows)
        assert all(row.loss is None for row in rows if row.skipped)
        assert run.summary.state == "idle"

    def test_a_loss_that_is_not_finite_is_refused_as_ever(
        self, engine: Engine, run: DrivenRun
    ) -> None:
        engine.inline.train(run.name, *make_samples(4), epochs=2, key=None)
        before = run.outcome
        with pytest.raises(NonFinite):
            engine.inline.train(run.name, *large(1e30), epochs=2, key=None)
        assert run.outcome == before
