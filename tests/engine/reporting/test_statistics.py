"""Statistics for people: derived from stored results and feedback, the same after a restart."""

from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.reporting.statistics import trend
from omega21.protocol.errors import KeyReused, UnknownRun
from omega21.protocol.legacy import Status
from tests.engine.engines import DrivenRun, cut, make_samples, make_segment, running

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.02, 20)


class TestTrend:
    @pytest.mark.parametrize(
        ("losses", "expected"),
        [
            ([], "sin_cambios"),
            ([0.5], "sin_cambios"),
            ([0.9, 0.1], "sin_cambios"),
            ([0.5] * 20, "sin_cambios"),
            ([0.0] * 20, "sin_cambios"),
            (np.linspace(1, 0.5, 20), "mejorando"),
            (np.linspace(0.5, 1, 20), "empeorando"),
            (np.linspace(1, 0.5, 20) + NOISE, "mejorando"),
            (np.linspace(0.5, 1, 20) + NOISE, "empeorando"),
            (0.5 + 0.2 * (-1.0) ** np.arange(20), "sin_cambios"),
            (np.linspace(0.5, 0.4999, 20), "sin_cambios"),
        ],
    )
    def test_follows_the_fitted_line(self, losses: list[float], expected: str) -> None:
        assert trend(list(losses)) == expected

    def test_is_not_fooled_by_the_two_ends(self) -> None:
        falling = [0.5, *np.linspace(1, 0.4, 18), 0.9]
        assert falling[-1] > falling[0]
        assert trend(falling) == "mejorando"


class TestTotals:
    def test_of_a_run_that_has_done_nothing_are_zeros(self, engine: Engine) -> None:
        status = engine.statistics.status("default")
        figures = status.estadisticas.model_dump(exclude={"dispositivo", "feedback"})
        assert set(figures) - {"tiempo_transcurrido_seg"} == {
            name for name, value in figures.items() if value == 0
        }
        assert status.estadisticas.feedback.model_dump() == {
            "recibido": 0, "exitoso": 0, "tasa_exito": 0,
        }  # fmt: skip
        metrics = engine.statistics.metrics("default")
        assert (metrics.ultimos_20_losses, metrics.tendencia) == ([], "sin_cambios")
        assert Status.model_validate_json(status.model_dump_json()) == status

    def test_are_the_sums_of_the_rows(self, engine: Engine, run: DrivenRun) -> None:
        samples = make_samples(22)
        samples.x[6, 3] = np.nan
        shards = cut(samples, 8)
        run.train(shards, make_segment(shards, batch_size=4, epochs=20))
        rows = [row for row in run.rows() if not row.non_finite]
        losses = [row.loss for row in rows if row.loss is not None]
        assert len(rows) < 120
        figures = engine.statistics.status(run.name).estadisticas
        assert figures.total_batches == len(rows)
        assert figures.total_muestras == sum(row.samples for row in rows)
        assert figures.loss_promedio_global == pytest.approx(np.mean(losses))
        assert figures.loss_promedio_ultimos_100 == pytest.approx(np.mean(losses[-100:]))
        weighted = sum(row.metrics["anomaly_prob"] * row.samples for row in rows)
        assert figures.anomalia_media == pytest.approx(weighted / figures.total_muestras)
        assert engine.statistics.metrics(run.name).ultimos_20_losses == losses[-20:]

    def test_are_the_same_after_a_restart(self, tmp_path: Path) -> None:
        shards = cut(make_samples(22), 8)
        with running(tmp_path) as engine:
            run = DrivenRun(engine)
            run.train(shards, make_segment(shards, batch_size=4, epochs=3))
            engine.inline.train(run.name, *make_samples(3), epochs=2, key=None)
            before = (figures(engine, run), engine.statistics.metrics(run.name))
        with running(tmp_path) as engine:
            assert (figures(engine, run), engine.statistics.metrics(run.name)) == before

    def test_count_anomalies_by_sample(self, engine: Engine, run: DrivenRun) -> None:
        samples = make_samples(40)
        shards = cut(samples, 40)
        run.train(shards, make_segment(shards, batch_size=40))
        counted = engine.statistics.metrics(run.name).anomalias_detectadas
        assert 0 <= counted <= 40
        one_by_one = DrivenRun(engine, "one-by-one")
        one_by_one.train(shards, make_segment(shards, batch_size=1, epochs=4))
        found = engine.statistics.metrics(one_by_one.name).anomalias_detectadas
        high = sum(row.metrics["anomaly_prob"] > 0.5 for row in one_by_one.rows())
        assert found == high


def figures(engine: Engine, run: DrivenRun) -> dict[str, object]:
    status = engine.statistics.status(run.name)
    return status.model_dump(
        exclude={"durable_step": True, "machine": True, "estadisticas": {"tiempo_transcurrido_seg"}}
    )


def give_feedback(
    engine: Engine, run: str, *, validated: bool = True, key: str | None = None
) -> float:
    return engine.history.record_feedback(
        run, [0.5] * 16, validated=validated, body=f"body {validated}", key=key
    )


class TestFeedback:
    def test_is_counted(self, engine: Engine, run: DrivenRun) -> None:
        for validated in (True, False, True, True):
            give_feedback(engine, run.name, validated=validated)
        assert engine.history.feedback_statistics(run.name).model_dump() == {
            "recibido": 4, "exitoso": 3, "tasa_exito": 0.75,
        }  # fmt: skip
        assert engine.statistics.metrics(run.name).feedback_tasa_exito == 0.75
        assert engine.statistics.status("default").estadisticas.feedback.recibido == 0

    def test_with_a_key_is_counted_once_and_answered_alike(self, tmp_path: Path) -> None:
        with running(tmp_path) as engine:
            run = DrivenRun(engine)
            first = give_feedback(engine, run.name, key="k")
            assert give_feedback(engine, run.name, key="k") == first
        with running(tmp_path) as engine:
            assert give_feedback(engine, run.name, key="k") == first
            with pytest.raises(KeyReused):
                give_feedback(engine, run.name, validated=False, key="k")
            give_feedback(engine, run.name, validated=False, key="other")
            assert engine.history.feedback_statistics(run.name).recibido == 2

    def test_for_a_run_that_is_not_there_is_refused(self, engine: Engine) -> None:
        with pytest.raises(UnknownRun):
            give_feedback(engine, "nobody")


def test_the_architecture_adds_up(engine: Engine, run: DrivenRun) -> None:
    info = engine.statistics.info(run.name)
    _, weights, _ = engine.inference.weights(run.name)
    assert info.arquitectura.parametros_totales == sum(array.size for array in weights.values())
    assert info.server_id == engine.folder.server_id
    assert engine.statistics.info("default").arquitectura.parametros_totales > 10_000_000


def test_a_self_test_touches_no_run(engine: Engine, run: DrivenRun) -> None:
    before = run.outcome
    diagnosis = engine.inference.diagnose(run.name)
    assert diagnosis.predictions == {
        "anomaly_prob": [2], "dendrites": [2, 16], "coherence": [2, 64],
    }  # fmt: skip
    assert diagnosis.inputs == {"x": [2, 1600]}
    assert run.outcome == before
