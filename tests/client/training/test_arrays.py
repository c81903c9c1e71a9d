"""Samples given as arrays: trained as those of a file, and kept for whoever finishes the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import Notice, UploadProgress
from omega21.client.request.data import look_at, open_given, with_schema, with_schema_of_run
from omega21.client.request.request import TrainRequest
from omega21.client.store.archive import export_run, import_run
from omega21.client.store.run_folder import RunFolder, RunRecord
from omega21.client.training.options import TrainOptions
from omega21.data.sources.files import write_data
from omega21.data.sources.generators import generate
from omega21.models.corteza.config import TINY_TASK
from omega21.protocol.errors import InvalidRequest, InvalidSamples
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.tasks.task import CodeTask
from tests.client.runs import done, of_type, stored, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio
X, Y = generate("simple", 7, range(400), anomaly_percent=20, features=1600)
CODE = CodeTask(entry="net:build", code_sha256="0" * 64)


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def test_arrays_are_trained_as_a_file_of_them(server: RunningServer, tmp_path: Path) -> None:
    write_data(tmp_path / "same.safetensors", {"x": X, "y": Y})
    given = {
        "from-file": tmp_path / "same.safetensors",
        "from-map": {"x": X.astype(np.float64), "y": Y.astype(bool), "other": np.zeros(3)},
        "from-pair": (X, Y.tolist()),
    }
    results = {}
    async with client_of(server) as client:
        for run, data in given.items():
            events = await train(
                client, tiny(run, data=data, samples=300, validation=50), workdir=tmp_path
            )
            assert done(events).summary.validation_samples == 50
            results[run] = stored(tmp_path / run)
        again = tiny("from-pair", data=(X, Y), samples=None, validation=50)
        more = await train(client, again, workdir=tmp_path)

    assert results["from-file"] == results["from-map"] == results["from-pair"]
    assert done(more).summary.samples == 50  # what was left: they are the same samples
    kept = list((tmp_path / "from-map" / "data").iterdir())
    assert [path.read_bytes() for path in kept] == [given["from-file"].read_bytes()]  # type: ignore[attr-defined]


async def test_a_run_of_arrays_is_finished_from_its_folder_elsewhere(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    """Its arrays, its server and its place are gone, and half of its shards were never made."""
    order = tiny("carried", data={"x": X, "y": Y}, samples=300, validation=50, epochs=3)
    async with (
        client_of(server) as client,
        client.train(order, TrainOptions(workdir=tmp_path / "one")) as events,
    ):
        async for event in events:
            if isinstance(event, UploadProgress):
                break
    export_run("carried", tmp_path / "moved.zip", workdir=tmp_path / "one")
    import_run(tmp_path / "moved.zip", workdir=tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "gone")
    for shard in (tmp_path / "two" / "carried" / "shards").iterdir():
        shard.unlink()

    async with client_of(other_server) as client:
        whole = await train(client, tiny("whole", **_same(order)), workdir=tmp_path)
        async with client.resume("carried", TrainOptions(workdir=tmp_path / "two")) as events:
            finished = [event async for event in events]

    assert done(finished).summary.validation_samples == 50
    assert done(finished).summary.weights_sha256 == done(whole).summary.weights_sha256
    assert stored(tmp_path / "two" / "carried") == stored(tmp_path / "whole")


def _same(order: TrainRequest) -> dict[str, Any]:
    return {name: getattr(order, name) for name in ("data", "samples", "validation", "epochs")}


async def test_fields_of_a_request_stand_for_it(server: RunningServer, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"samples": 100, "task": TINY_TASK, "validation": 0}
    async with client_of(server) as client:
        with pytest.raises(TypeError, match="shape"):
            client.train(data=(X, Y), shape=3)
        where = TrainOptions(workdir=tmp_path)
        async with client.train(None, where, data=(X, Y), **fields) as events:
            named = [event async for event in events]
        async with client.train(tiny("over", samples=5), where, data=(X, Y), **fields) as events:
            over = [event async for event in events]
    assert done(named).summary.run.startswith("run-")
    assert done(named).summary.weights_sha256 == done(over).summary.weights_sha256


async def test_rows_of_arrays_are_named_without_a_file(
    server: RunningServer, tmp_path: Path
) -> None:
    x = X.copy()
    x[17] *= 1e37
    order = tiny("wild", data=(x, Y), samples=400, validation=0, batch_size=100)
    async with client_of(server) as client:
        events = await train(client, order, workdir=tmp_path)
    texts = [notice.text for notice in of_type(events, Notice)]
    assert any("row 17 of the data" in text for text in texts), texts


async def test_a_batch_in_parts_gives_the_same_step(server: RunningServer, tmp_path: Path) -> None:
    async with client_of(server) as client:
        whole = await train(client, tiny("whole-batch", samples=64), workdir=tmp_path)
        parts = await train(client, tiny("parts", samples=64, micro_batch=24), workdir=tmp_path)
    with RunFolder.open(tmp_path / "parts") as folder:
        assert folder.segments[0].micro_batch == 24
        row = folder.results.row(1)
        assert row is not None
        assert row.micro_batch_size == 24
    ends = [done(events).summary.loss_last for events in (whole, parts)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
    with pytest.raises(InvalidRequest, match="micro-batch"):
        await train(client, tiny("none", micro_batch=0), workdir=tmp_path)
    assert not (tmp_path / "none").exists()


class TestSchema:
    def test_of_a_task_of_the_users_own_is_that_of_the_data(self) -> None:
        images = np.zeros((5, 3, 4, 4), np.uint8)
        request = TrainRequest(run="mine", task=CODE, data={"x": images, "y": np.arange(5)})
        whole = with_schema(request, open_given(request))
        assert whole.config().sample_schema == Schema(
            inputs={"x": TensorSpec(dtype="uint8", shape=(3, 4, 4))},
            targets={"y": TensorSpec(dtype="int64")},
        )

    def test_targets_are_those_named(self) -> None:
        data = {"x": np.zeros((5, 2)), "y": np.zeros(5)}
        request = TrainRequest(run="mine", task=CODE, data=data, targets=())
        assert with_schema(request, open_given(request)).config().sample_schema.targets == {}
        wrong = TrainRequest(run="mine", data=(X, Y), targets=("x",))
        with pytest.raises(InvalidRequest, match="the targets of this run are y"):
            open_given(wrong)

    def test_float64_becomes_float32_where_no_schema_is_given(self) -> None:
        data = {"x": np.zeros((5, 2)), "y": np.zeros(5, np.float32)}
        looked = look_at(TrainRequest(run="mine", task=CODE, data=data))
        assert looked is not None
        assert looked.converted == ("x",)
        assert looked.samples.read(slice(2))["x"].dtype == np.float32
        schema = Schema(inputs={"x": TensorSpec(dtype="float64", shape=(2,))})
        kept = look_at(TrainRequest(run="mine", task=CODE, data=data, sample_schema=schema))
        assert kept is not None
        assert kept.converted == ()
        assert kept.samples.read(slice(2))["x"].dtype == np.float64

    def test_further_data_are_converted_to_that_of_the_run(self, tmp_path: Path) -> None:
        schema = Schema(
            inputs={"x": TensorSpec(dtype="float64", shape=(2,))},
            targets={"z": TensorSpec(dtype="int64")},
        )
        config = TrainRequest(run="mine", task=CODE, sample_schema=schema).config()
        record = RunRecord(run="mine", id="a" * 32, config=config, created_at=1.0)
        RunFolder.create(tmp_path / "mine", record).close()
        data = {"x": np.zeros((5, 2), np.float32), "z": np.arange(5, dtype=np.int8)}
        request = TrainRequest(run="mine", task=CODE, data=data)
        known = with_schema_of_run(request, tmp_path / "mine")
        looked = look_at(known)
        assert looked is not None
        assert looked.samples.schema == schema
        assert looked.samples.read(slice(5))["z"].dtype == np.int64
        assert with_schema_of_run(request, tmp_path / "another") is request
        built_in = TrainRequest(run="mine", data=(X, Y))
        assert with_schema_of_run(built_in, tmp_path / "mine") is built_in

    def test_generated_samples_have_the_width_of_the_built_in_task(self) -> None:
        request = with_schema(TrainRequest(run="mine", task=CODE), None)
        assert request.config().sample_schema.inputs["x"].shape == (1600,)

    def test_a_schema_other_than_the_built_in_tasks_is_refused(self) -> None:
        schema = Schema(inputs={"x": TensorSpec(dtype="float32", shape=(2,))})
        with pytest.raises(InvalidRequest, match="other tensors"):
            with_schema(TrainRequest(run="mine", sample_schema=schema), None)

    def test_values_are_checked_where_the_kind_of_task_asks_for_it(self) -> None:
        x = X.copy()
        x[3, 5] = np.nan
        with pytest.raises(InvalidSamples, match="NaN, infinite or beyond float32, sample 3"):
            look_at(TrainRequest(run="mine", data=(x, Y)))
        assert look_at(TrainRequest(run="mine", task=CODE, data=(x, Y))) is not None
