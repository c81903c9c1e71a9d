"""Held-out samples scored while a run trains: when, what is kept, and that no bit changes."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import Evaluated, Notice, ServerSeen, as_dict
from omega21.client.store.result_tables import MAX_COLUMNS
from omega21.client.store.results import Results
from omega21.client.store.run_folder import RunFolder
from omega21.client.store.summary import Scored
from omega21.data.scores import auroc
from omega21.protocol.digests import CHAIN_START, chain_result
from omega21.protocol.errors import ReadOnlyStorage, RunFolderConflict, StorageFull
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.steps import StepRecord
from tests.client.runs import done, of_type, stored, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

EPOCHS = {"samples": 600, "epochs": 12, "batch_size": 4}


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def test_evaluations_on_the_way_change_no_bit_and_are_kept(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        without = await train(
            client, tiny("without", evaluate_every="never", **EPOCHS), workdir=tmp_path
        )
        events = await train(client, tiny("with", evaluate_every=100, **EPOCHS), workdir=tmp_path)

    assert stored(tmp_path / "with") == stored(tmp_path / "without")
    assert done(events).summary.weights_sha256 == done(without).summary.weights_sha256
    assert [found.evaluation.step for found in of_type(without, Evaluated)] == [1800]
    evaluated = [found.evaluation for found in of_type(events, Evaluated)]
    assert evaluated[-1] == done(events).evaluation
    assert evaluated[0].step >= 100
    assert len({found.step // 100 for found in evaluated}) == len(evaluated) > 1

    with closing(Results(tmp_path / "with" / "results.sqlite", read_only=True)) as results:
        assert [kept.evaluation for kept in results.evaluations()] == evaluated
        scores, labels = results.scores()
    assert len(scores) == len(labels) == 64
    assert auroc(scores, labels) == evaluated[-1].metrics["auroc"]


async def test_the_device_is_seen_and_noted_at_the_end(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        events = await train(client, tiny("seen"), workdir=tmp_path)

    seen = of_type(events, ServerSeen)
    assert {found.status.estadisticas.dispositivo for found in seen} == {"cpu"}
    last = json.loads((tmp_path / "seen" / "log.jsonl").read_text().splitlines()[-1])
    assert last["what"] == "finished"
    assert last["server"]["step"] == 10


async def test_every_event_is_an_object_for_machines(server: RunningServer, tmp_path: Path) -> None:
    async with client_of(server) as client:
        events = await train(client, tiny("machine", epochs=2), workdir=tmp_path)

    lines = [json.loads(json.dumps(as_dict(event), allow_nan=False)) for event in events]
    assert lines[0]["event"] == "connected"
    assert lines[0]["address"] == server.address
    assert {"run_ready", "upload_progress", "steps_done", "evaluated", "server_seen"} <= {
        line["event"] for line in lines
    }
    rows = [row for line in lines if line["event"] == "steps_done" for row in line["rows"]]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[0]["loss"] > 0
    assert lines[-1]["event"] == "done"
    assert lines[-1]["evaluation"]["samples"] == 64


async def test_a_server_without_room_is_told_and_the_training_goes_on(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is made where the client asks; what it then does is real."""
    from omega21.client.training import evaluation as evaluating

    async def refuse(*_: object, **__: object) -> Scored:
        raise StorageFull("the limit of 1 MB is reached")

    monkeypatch.setattr(evaluating, "score", refuse)
    async with client_of(server) as client:
        events = await train(client, tiny("full", evaluate_every=100, **EPOCHS), workdir=tmp_path)

    notices = [notice.text for notice in of_type(events, Notice)]
    assert "no evaluation during training: the limit of 1 MB is reached" in notices
    assert [found.evaluation.step for found in of_type(events, Evaluated)] == [1800]


async def test_how_often_is_kept_for_whoever_goes_on(server: RunningServer, tmp_path: Path) -> None:
    async with client_of(server) as client:
        await train(client, tiny("kept", evaluate_every=7), workdir=tmp_path)
    with RunFolder.open(tmp_path / "kept") as folder:
        assert folder.record.evaluate_every == 7


def rows(losses: list[float], metrics: dict[str, float | None] | None = None) -> list[StepRecord]:
    digest, made = CHAIN_START, []
    for step, loss in enumerate(losses, 1):
        digest = chain_result(digest, step, loss)
        made.append(
            StepRecord(
                step=step,
                loss=loss,
                samples=4,
                digest=digest,
                ended_at=step,
                seconds=0.5,
                metrics=metrics or {},
            )
        )
    return made


def scored(step: int) -> Scored:
    evaluation = Evaluation(
        step=step,
        samples=2,
        loss=0.25,
        metrics={"auroc": 1.0, "average_precision": None},
    )
    return Scored(evaluation, np.array([0.25, 0.75], np.float32), np.array([0, 1], np.float32))


async def test_an_evaluation_of_replaced_steps_goes_with_them(tmp_path: Path) -> None:
    with closing(Results(tmp_path / "r.sqlite")) as results:
        results.put(rows([0.5, 0.25, 0.125]))
        for step in (1, 3):
            results.put_evaluation(scored(step), segment=0, ended_at=9.0)
        results.put(rows([0.5, 0.3, 0.2]))
        kept = [found.evaluation.step for found in results.evaluations()]
        scores, _ = results.scores()

    assert kept == [1]
    assert len(scores) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "samples = 0",
        "not_finite = -1",
        "metrics = '{'",
        "metrics = '[]'",
        """metrics = '{"two words": 1}'""",
        """metrics = '{"auroc": "high"}'""",
    ],
)
async def test_an_evaluation_that_nobody_made_is_a_damaged_file(
    tmp_path: Path, damage: str
) -> None:
    with closing(Results(tmp_path / "r.sqlite")) as results:
        results.put(rows([0.5]))
        results.put_evaluation(scored(1), segment=0, ended_at=9.0)
        (found,) = results.evaluations()
        assert found.evaluation == scored(1).evaluation
        with closing(sqlite3.connect(tmp_path / "r.sqlite")) as database, database:
            database.execute(f"UPDATE evaluations SET {damage}")
        with pytest.raises(RunFolderConflict, match="cannot be read"):
            results.evaluations()


async def test_any_sqlite_browser_shows_a_readable_view(tmp_path: Path) -> None:
    with closing(Results(tmp_path / "r.sqlite")) as results:
        results.put(rows([0.5, 0.25], {"accuracy": 0.75, "f1": None}))
        results.put_evaluation(scored(2), segment=0, ended_at=9.0)
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as database:
        database.row_factory = sqlite3.Row
        shown = [dict(row) for row in database.execute("SELECT * FROM results")]

    assert shown[0] == {
        "step": 1,
        "loss": 0.5,
        "metric_accuracy": 0.75,
        "metric_f1": None,
        "samples": 4,
        "seconds": 0.5,
        "samples_per_second": 8.0,
        "ended_at_utc": "1970-01-01 00:00:01",
        "outcome": "applied",
        "evaluation_loss": None,
        "evaluation_auroc": None,
        "evaluation_average_precision": None,
    }
    assert shown[1]["evaluation_auroc"] == 1.0


async def test_a_metric_of_any_name_gets_a_column_when_it_first_comes(tmp_path: Path) -> None:
    names = ["step", "select", "top-1", "a.b", "_", "constructor", "A", "a"]
    with closing(Results(tmp_path / "r.sqlite")) as results:
        results.put(rows([0.5]))
        late = rows([0.5, 0.25], dict.fromkeys(names, 0.5))
        results.put(late)
        results.put_evaluation(scored(1), segment=0, ended_at=9.0)
        assert results.metric_names("step") == names
        assert results.row(2) == late[1]
        series = results.series()
        columns, table = results.table()
        found = [row for some in table for row in some]
    assert list(series.metrics) == names
    for values in series.metrics.values():
        np.testing.assert_array_equal(values, [np.nan, 0.5])
    assert len(set(columns)) == len(columns) == len(found[0])
    assert found[1][columns.index("metric_top-1")] == 0.5


async def test_the_number_of_columns_is_bounded(tmp_path: Path) -> None:
    """A server that names metrics anew in each step fills no table with columns."""
    with closing(Results(tmp_path / "r.sqlite")) as results:
        made = rows([0.5] * 100)
        renamed = [
            row.model_copy(update={"metrics": {f"m{row.step}": 1.0, "kept": 2.0}}) for row in made
        ]
        results.put(renamed)
        assert len(results.metric_names("step")) == MAX_COLUMNS
        assert results.row(100) == renamed[-1]


async def test_vectors_are_kept_and_go_with_the_steps_they_are_of(tmp_path: Path) -> None:
    gates, wide = np.eye(3, 2, dtype=np.float32), np.ones((3, 1), np.float32)
    with closing(Results(tmp_path / "r.sqlite")) as results:
        assert results.vectors() == {}
        results.put(rows([0.5, 0.25, 0.125]))
        for _ in range(2):
            results.put_vectors([1, 2, 3], {"gates": gates, "wide": wide})
        results.put(rows([0.5, 0.25, 0.2]))  # step 3 came out differently
        found = results.vectors()
    assert set(found) == {"gates", "wide"}
    for name, values in (("gates", gates), ("wide", wide)):
        assert found[name][0] == [1, 2]
        np.testing.assert_array_equal(found[name][1], values[:2])


async def test_vectors_of_a_training_are_those_of_the_server(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("vectors", epochs=2), workdir=tmp_path)
        expected = (await client.api.steps.read("vectors", vectors=True)).steps
    with closing(Results(tmp_path / "vectors" / "results.sqlite", read_only=True)) as results:
        found = results.vectors()
    kept = dict(zip([row.step for row in expected], [row.vectors for row in expected], strict=True))
    assert {name: values.shape[1] for name, (_, values) in found.items()} == {
        "dendrites": 16, "coherence": 64
    }  # fmt: skip
    for name, (steps, values) in found.items():
        assert steps[-1] == expected[-1].step
        for step, row in zip(steps, values, strict=True):
            vectors = kept[step]
            assert vectors is not None
            np.testing.assert_allclose(row, vectors[name], atol=0.5 / 127 + 1e-6)


async def test_what_is_only_read_is_neither_made_nor_changed(tmp_path: Path) -> None:
    with pytest.raises(RunFolderConflict, match="cannot be read"):
        Results(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()
    with closing(Results(tmp_path / "r.sqlite")) as results:
        results.put(rows([0.5]))
        with closing(Results(tmp_path / "r.sqlite", read_only=True)) as reader:
            results.put(rows([0.5, 0.25]))
            assert [row.step for row in reader.rows(last=2)] == [1, 2]
            with pytest.raises(ReadOnlyStorage, match="readonly"):
                reader.put_weights(1, "c" * 64)
