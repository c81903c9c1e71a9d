"""Each call of the client against a real server, asynchronous and synchronous."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from omega21 import AsyncClient, Client
from omega21.client.events import Done, StepsDone
from omega21.client.http.transport import MAX_REPLY_BYTES
from omega21.client.inference import Prediction
from omega21.client.training.options import TrainOptions
from omega21.data.samples import Samples
from omega21.data.sources.generators import generate
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    InvalidAddress,
    InvalidRequest,
    InvalidSamples,
    NotOmega21,
    OtherVersion,
    Unauthorized,
    UnknownRun,
    UnknownSegment,
)
from omega21.protocol.evaluations import SCORE_METRICS
from tests.client.runs import tiny, train
from tests.proxies import canned, reply
from tests.servers import RunningServer

BATCH = generate("simple", 1, range(32), anomaly_percent=25, features=1600)


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address, token=server.token) as connected:
        yield connected


def test_connecting_checks_who_answers(server: RunningServer, client: Client) -> None:
    info = client.connect()
    assert client.server_id == info.server_id
    assert client.api.legacy.health().alive
    with Client(server.address, token="wrong") as other, pytest.raises(Unauthorized):
        other.connect()


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", [PROTOCOL_VERSION - 1, 99])
async def test_a_server_of_another_protocol_is_named(server: RunningServer, protocol: int) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        info = await client.connect()
    theirs = info.model_copy(update={"protocol": protocol, "version": "9.9"})
    async with (
        canned(reply(200, theirs.model_dump_json())) as other,
        AsyncClient(other.address) as client,
    ):
        with pytest.raises(OtherVersion, match=rf"9\.9 with protocol {protocol}"):
            await client.connect()


@pytest.mark.anyio
async def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omega21.client.http.transport.MAX_REPLY_BYTES", 1000)
    assert MAX_REPLY_BYTES > 1000
    async with (
        canned(reply(200, "x" * 5000)) as endless,
        AsyncClient(endless.address) as client,
    ):
        with pytest.raises(NotOmega21, match="more than 1000 bytes"):
            await client.api.legacy.health()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:8000", "does not begin with"),
        ("ftp://there", "does not begin with"),
        ("https://", "names no host"),
        ("https://user:hunter2@there", "contains a user name"),
        ("https://there?token=1", "query"),
        ("http://there:99999", "port"),
        ("", "does not begin with"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(address: str, words: str) -> None:
    with pytest.raises(InvalidAddress, match=words) as caught:
        Client(address)
    assert "hunter2" not in str(caught.value)


def test_inline_batches_and_what_they_leave(client: Client) -> None:
    client.api.runs.create("calls", config=tiny("calls").config())
    first = client.train_batch(BATCH, run="calls", epochs=3)
    assert (first.step, first.batch_size) == (3, 32)
    assert len(first.dendrites) == 16
    # The same key is the same request; another one trains again.
    again = client.train_batch(BATCH, run="calls", key="k" * 32)
    assert client.train_batch(BATCH, run="calls", key="k" * 32) == again
    assert client.api.runs.state("calls").step == again.step == 4

    assert [row.step for row in client.api.steps.history("calls")] == [1, 2, 3, 4]
    assert [row.step for row in client.api.steps.history("calls", after=2)] == [3, 4]
    (row,) = client.api.steps.read("calls", after=3, vectors=True).steps
    assert row.vectors is not None
    assert {name: len(values) for name, values in row.vectors.items()} == {
        "dendrites": 16, "coherence": 64
    }  # fmt: skip

    summary = client.summary("calls")
    assert (summary.steps, summary.samples, summary.kind) == (1, 32, "inline")
    assert summary.loss_first == summary.loss_last == again.loss
    assert client.status("calls").estadisticas.total_batches == 4
    assert len(client.metrics("calls").ultimos_20_losses) == 4
    assert client.info("calls").arquitectura.parametros_totales > 10_000
    assert client.diagnose("calls").outputs_shapes.coherence[-1] == 64


def test_feedback(client: Client) -> None:
    client.api.runs.create("voice", config=tiny("voice").config())
    received = client.feedback([0.5] * 16, validated=True, run="voice")
    assert (received.estadisticas.recibido, received.estadisticas.exitoso) == (1, 1)
    with pytest.raises(InvalidRequest, match="at least 16"):
        client.feedback([0.5] * 15, validated=True, run="voice")
    with pytest.raises(InvalidRequest, match="less than or equal to 1"):
        client.feedback([1.5] * 16, validated=True, run="voice")
    assert client.status("voice").estadisticas.feedback.recibido == 1


def test_runs_are_listed_paused_and_removed(client: Client) -> None:
    state = client.api.runs.create("managed", config=tiny("managed").config())
    assert "managed" in [run.run for run in client.runs()]
    assert client.pause("managed").paused
    assert not client.unpause("managed").paused
    assert client.remove("managed").id == state.id
    with pytest.raises(UnknownRun):
        client.api.runs.state("managed")
    with pytest.raises(UnknownRun):
        client.status("managed")
    with pytest.raises(InvalidRequest, match="not a run name"):
        client.api.runs.state("../etc")


def test_predictions_of_many_shards_are_those_of_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.api.runs.create("compute", config=tiny("compute").config())
    client.train_batch(BATCH, run="compute")
    samples = generate(
        "temporal", 2, range(2300), anomaly_percent=10, features=1600
    )  # nine shards, two requests
    whole = client.predict("compute", samples.x)
    part = client.predict("compute", samples.x[2200:])

    with monkeypatch.context() as patched:
        patched.setattr("omega21.client.inference.MAX_OUTPUT_BYTES", 2 * 256 * 81 * 4 + 1000)
        in_pairs = client.predict("compute", {"x": samples.x})

    assert isinstance(whole, Prediction)
    assert in_pairs.outputs.keys() == whole.outputs.keys()
    for name, array in whole.outputs.items():
        np.testing.assert_array_equal(in_pairs[name], array)
    assert whole.step == part.step == 1
    assert whole["anomaly_prob"].shape == (2300,)
    assert whole["dendrites"].shape == (2300, 16)
    assert whole["coherence"].shape == (2300, 64)
    np.testing.assert_allclose(part["anomaly_prob"], whole["anomaly_prob"][2200:], rtol=1e-4)
    state = client.api.runs.state("compute")
    assert (state.step, state.plan_steps) == (1, 1)


def test_an_evaluation_joins_the_scores_of_all_shards(client: Client) -> None:
    client.api.runs.create("scores", config=tiny("scores").config())
    samples = generate("neuronal", 2, range(2300), anomaly_percent=10, features=1600)
    halves = [
        Samples(samples.x[:1000], samples.y[:1000]),
        Samples(samples.x[1000:], samples.y[1000:]),
    ]
    whole = client.evaluate("scores", samples)
    parts = client.evaluate("scores", halves)

    assert (whole.samples, whole.metrics["positives"], whole.step) == (2300, 230, 0)
    assert list(whole.metrics)[:5] == list(SCORE_METRICS)
    assert whole.metrics["auroc"] is not None
    assert parts.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    one_class = client.evaluate("scores", Samples(samples.x[:5], np.zeros(5, np.float32)))
    assert [one_class.metrics[name] for name in ("auroc", "average_precision")] == [None, None]
    with pytest.raises(InvalidSamples, match="no samples"):
        client.evaluate("scores", [])


def test_bad_samples_are_named_and_change_nothing(client: Client) -> None:
    client.api.runs.create("careful", config=tiny("careful").config())
    bad = BATCH.x.copy()
    bad[3, 7] = np.nan
    narrow = Samples(BATCH.x[:, :1599], BATCH.y)
    with pytest.raises(InvalidSamples, match="sample 3"):
        client.train_batch(Samples(bad, BATCH.y), run="careful")
    with pytest.raises(InvalidSamples, match="1599"):
        client.train_batch(narrow, run="careful")
    with pytest.raises(InvalidSamples, match="sample 3"):
        client.predict("careful", bad)
    with pytest.raises(InvalidSamples):
        client.evaluate("careful", Samples(BATCH.x, BATCH.y + 1))
    assert client.api.runs.state("careful").step == 0


def test_weights_are_saved_whole_and_checked(client: Client, tmp_path: Path) -> None:
    client.api.runs.create("weights", config=tiny("weights").config())
    client.train_batch(BATCH, run="weights")
    saved = client.download_weights("weights", tmp_path / "weights.safetensors")
    assert saved.step == 1
    assert saved.sha256 == client.api.runs.state("weights").weights_sha256
    assert tensors_sha256(load_file(saved.path)) == saved.sha256
    client.api.runs.create("untrained", config=tiny("untrained").config())
    with pytest.raises(UnknownSegment, match="no results"):
        client.summary("untrained")


def test_training_synchronously(client: Client, tmp_path: Path) -> None:
    events = list(client.train(tiny("sync"), TrainOptions(workdir=tmp_path)))
    assert isinstance(events[-1], Done)
    assert events[-1].state.step == 10
    assert client.summary("sync").weights_sha256 == events[-1].summary.weights_sha256


def test_leaving_a_training_lets_go_of_the_folder(client: Client, tmp_path: Path) -> None:
    events = client.train(tiny("leave", epochs=10), TrainOptions(workdir=tmp_path))
    assert any(isinstance(event, StepsDone) for event in events)
    events.close()
    *_, last = client.train(tiny("leave"), TrainOptions(workdir=tmp_path))
    assert isinstance(last, Done)
    assert last.state.step == 100


@pytest.mark.anyio
async def test_two_runs_train_side_by_side(server: RunningServer, tmp_path: Path) -> None:
    import anyio

    digests: dict[str, str] = {}

    async def one(name: str) -> None:
        async with AsyncClient(server.address, token=server.token) as client:
            last = (await train(client, tiny(name), workdir=tmp_path))[-1]
            assert isinstance(last, Done)
            digests[name] = last.summary.weights_sha256

    async with anyio.create_task_group() as group:
        group.start_soon(one, "side-a")
        group.start_soon(one, "side-b")
    assert digests["side-a"] == digests["side-b"]
