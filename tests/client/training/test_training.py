"""Training through a real server: what is trained, what is appended, what is found again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.events import (
    Connected,
    LinkLost,
    LinkRestored,
    Notice,
    RunReady,
    StepsDone,
    UploadProgress,
)
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.options import TrainOptions
from omega21.data.sources.files import write_data
from omega21.data.sources.generators import generate
from omega21.protocol.digests import chain_result
from omega21.protocol.errors import (
    InvalidRequest,
    OtherConfig,
    OtherRun,
    RunFolderConflict,
    Unreachable,
)
from omega21.protocol.plan import Segment
from tests.client.runs import done, of_type, stored, tiny, train
from tests.proxies import FaultProxy, fault_proxy
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

Start = Callable[[str], RunningServer]


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


def segments(folder: Path) -> list[Segment]:
    plan = json.loads((folder / "plan.json").read_text())
    return [Segment.model_validate(segment) for segment in plan["segments"]]


async def test_a_segment_is_trained_and_everything_about_it_is_on_disk(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        events = await train(client, tiny("all-on-disk", epochs=2), workdir=tmp_path)

        summary, state = done(events).summary, done(events).state
        assert (summary.steps, summary.samples, summary.epochs) == (20, 600, 2)
        assert summary.validation_samples == 64
        assert summary.metrics["auroc"] is not None
        assert summary.loss_first is not None
        assert summary.samples_per_second > 0
        assert (state.step, state.state) == (20, "idle")
        assert summary.weights_sha256 == state.weights_sha256

        rows = [row for event in of_type(events, StepsDone) for row in event.rows]
        assert [row.step for row in rows] == list(range(1, 21))
        assert rows[-1].digest == state.digest
        assert stored(tmp_path / "all-on-disk") == [
            (row.step, row.loss, row.digest) for row in rows
        ]
        assert [row async for row in client.api.steps.history("all-on-disk")] == rows

    assert isinstance(events[0], Connected)
    (ready,) = of_type(events, RunReady)
    assert (ready.how, ready.first_step, ready.last_step) == ("created", 1, 20)
    last = of_type(events, UploadProgress)[-1]
    assert (last.generated, last.uploaded) == (600, 600)
    (segment,) = segments(tmp_path / "all-on-disk")
    assert [ref.samples for ref in segment.shards] == [256, 256, 88]
    kept = {path.stem for path in (tmp_path / "all-on-disk" / "shards").iterdir()}
    assert kept == {ref.sha256 for ref in segment.shards}
    log = (tmp_path / "all-on-disk" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in log] == ["created", "connected", "finished"]


async def test_the_next_order_appends_the_next_samples(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("hourly", samples=100), workdir=tmp_path)
        second = tiny("hourly", samples=50, kind="temporal", batch_size=10, anomaly_percent=20)
        events = await train(client, second, workdir=tmp_path)

    (ready,) = of_type(events, RunReady)
    assert (ready.how, ready.number, ready.first_step, ready.last_step) == ("continued", 1, 3, 7)
    assert done(events).summary.steps == 5
    assert done(events).summary.kind == "temporal"
    first, second_segment = segments(tmp_path / "hourly")
    assert (first.source.offset, second_segment.source.offset) == (0, 100)
    assert [step for step, *_ in stored(tmp_path / "hourly")] == list(range(1, 8))


async def test_a_segment_that_was_begun_is_finished_and_nothing_is_appended(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        undisturbed = await train(client, tiny("reference", epochs=5), workdir=tmp_path)
        async with client.train(tiny("left", epochs=5), TrainOptions(workdir=tmp_path)) as events:
            async for event in events:
                if isinstance(event, StepsDone):
                    break
        events_after = await train(client, tiny("left", samples=999), workdir=tmp_path)

    (ready,) = of_type(events_after, RunReady)
    assert (ready.how, ready.number) == ("finishing", 0)
    assert any("finishing it first" in notice.text for notice in of_type(events_after, Notice))
    assert done(events_after).state.step == 50
    assert done(events_after).summary.weights_sha256 == done(undisturbed).summary.weights_sha256
    assert stored(tmp_path / "left") == stored(tmp_path / "reference")
    assert len(segments(tmp_path / "left")) == 1


async def test_a_run_that_only_the_server_has_is_taken_over(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("moved", samples=100), workdir=tmp_path / "old")
        events = await train(client, tiny("moved", samples=50), workdir=tmp_path / "new")

    assert any("creating its folder" in notice.text for notice in of_type(events, Notice))
    assert [step for step, *_ in stored(tmp_path / "new" / "moved")] == [1, 2, 3]
    old, new = (RunFolder.open(tmp_path / place / "moved") for place in ("old", "new"))
    with old, new:
        assert old.record.id == new.record.id
        assert new.segments[0] == old.segments[0]
        assert new.segments[1].source.offset == 100


async def test_an_empty_server_gets_the_run_again_and_replays_it(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        first = await train(client, tiny("replayed", samples=300), workdir=tmp_path)
    async with client_of(other_server) as client:
        second = await train(client, tiny("replayed", samples=100), workdir=tmp_path)

    texts = [notice.text for notice in of_type(second, Notice)]
    assert any("not the server" in text for text in texts)
    assert any("computed again from its first step" in text for text in texts)
    assert done(second).state.step == 7
    assert done(first).state.step == 5
    assert [step for step, *_ in stored(tmp_path / "replayed")] == list(range(1, 8))
    assert stored(tmp_path / "replayed")[4][2] == done(first).state.digest


async def test_a_server_that_is_replaced_while_it_trains_costs_time_only(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    plain = tiny("not-replaced", epochs=20)
    async with client_of(server) as client:
        undisturbed = done(await train(client, plain, workdir=tmp_path)).summary
    async with (
        fault_proxy(server.port, lambda _: "none") as proxy,
        AsyncClient(proxy.address, token=server.token) as client,
        client.train(tiny("replaced", epochs=20), TrainOptions(workdir=tmp_path)) as events,
    ):
        seen = []
        async for event in events:
            seen.append(event)
            if isinstance(event, StepsDone):
                proxy.port = other_server.port

    assert any("again from its first step" in notice.text for notice in of_type(seen, Notice))
    assert done(seen).summary.weights_sha256 == undisturbed.weights_sha256
    assert stored(tmp_path / "replaced") == stored(tmp_path / "not-replaced")


async def test_a_server_that_computes_other_bits_is_noticed_and_holds_from_there(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        first = await train(client, tiny("drifts", samples=300), workdir=tmp_path)
    # What another kind of hardware would have left here: the same steps, other bits from step 4.
    rows = [row for event in of_type(first, StepsDone) for row in event.rows]
    digest = rows[2].digest
    drifted = []
    for row in rows[3:]:
        assert row.loss is not None
        digest = chain_result(digest, row.step, row.loss * 1.5)
        drifted.append(row.model_copy(update={"loss": row.loss * 1.5, "digest": digest}))
    with RunFolder.open(tmp_path / "drifts") as folder:
        folder.results.put(drifted)
    async with client_of(other_server) as client:
        second = await train(client, tiny("drifts", samples=100), workdir=tmp_path)

    assert any("from step 4 on" in notice.text for notice in of_type(second, Notice))
    assert done(second).state.step == 7
    assert stored(tmp_path / "drifts")[:5] == [(row.step, row.loss, row.digest) for row in rows]
    lines = (tmp_path / "drifts" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    (replaced,) = [entry for entry in log if entry["what"] == "replaced"]
    assert [row["digest"] for row in replaced["rows"]] == [row.digest for row in drifted]


async def test_a_server_that_is_down_is_waited_for(new_server: Start, tmp_path: Path) -> None:
    server = new_server("data")
    async with (
        client_of(server) as client,
        client.train(tiny("waits", epochs=20), TrainOptions(workdir=tmp_path / "work")) as events,
    ):
        seen = []
        async for event in events:
            seen.append(event)
            if isinstance(event, StepsDone) and len(of_type(seen, StepsDone)) == 1:
                server.kill()
            elif isinstance(event, LinkLost):
                server.restart()

    assert of_type(seen, LinkRestored)
    assert [step for step, *_ in stored(tmp_path / "work" / "waits")] == list(range(1, 201))


async def test_patience_ends_with_the_way_back(server: RunningServer, tmp_path: Path) -> None:
    async def lose_the_link(proxy: FaultProxy) -> None:
        async with (
            AsyncClient(proxy.address, token=server.token) as client,
            client.train(
                tiny("gone", epochs=9), TrainOptions(workdir=tmp_path, patience=0.3)
            ) as events,
        ):
            async for event in events:
                if isinstance(event, StepsDone):
                    proxy.choose = lambda _: "reset"

    async with fault_proxy(server.port, lambda _: "none") as proxy:
        with pytest.raises(Unreachable, match="omega21 resume gone") as caught:
            await lose_the_link(proxy)
    assert caught.value.exit_code == 76


async def test_validation_of_a_file_is_never_trained(server: RunningServer, tmp_path: Path) -> None:
    samples = generate("simple", 7, range(300), anomaly_percent=20, features=1600)
    write_data(tmp_path / "mine.npz", samples.tensors)
    order = tiny("file", data=tmp_path / "mine.npz", samples=100, validation=150)
    async with client_of(server) as client:
        first = await train(client, order, workdir=tmp_path)
        order = tiny("file", data=tmp_path / "mine.npz", samples=50, validation=150)
        await train(client, order, workdir=tmp_path)
        with pytest.raises(InvalidRequest, match="0 samples left for training"):
            await train(client, order, workdir=tmp_path)

    assert done(first).summary.validation_samples == 150
    with RunFolder.open(tmp_path / "file") as folder:
        assert list(folder.record.held_out.values()) == [150]
        assert [segment.source.offset for segment in folder.segments] == [0, 100]


async def test_what_does_not_fit_the_run_is_refused_by_name(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("fixed", samples=64), workdir=tmp_path)
        before = stored(tmp_path / "fixed")
        with pytest.raises(OtherConfig, match="seed is 42, asked for 43"):
            await train(client, tiny("fixed", seed=43), workdir=tmp_path)
        with pytest.raises(InvalidRequest, match="batch-size"):
            await train(client, tiny("fixed", batch_size=0), workdir=tmp_path)
        with pytest.raises(InvalidRequest, match="a run name"):
            await train(client, tiny("../fixed"), workdir=tmp_path)
        with RunFolder.open(tmp_path / "fixed"), pytest.raises(RunFolderConflict, match="another"):
            await train(client, tiny("fixed"), workdir=tmp_path)
        state = await client.api.runs.state("fixed")
        await client.remove("fixed")
        await client.api.runs.create("fixed", config=state.config)
        with pytest.raises(OtherRun):
            await train(client, tiny("fixed"), workdir=tmp_path)
    assert stored(tmp_path / "fixed") == before
    assert not (tmp_path / "..fixed").exists()
