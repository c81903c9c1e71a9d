"""Going on with a run from its folder alone: the same server, another one, with a checkpoint."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.events import Event, Notice, StepsDone
from omega21.client.http.link import REMOTE
from omega21.client.store.checkpoints import checkpoint_folder, find_checkpoint, held_step
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.checkpoint_download import wait_until_durable
from omega21.client.training.checkpoint_restore import estimate
from omega21.client.training.options import TrainOptions
from omega21.protocol.errors import (
    InvalidCheckpoint,
    OtherRun,
    OutOfPatience,
    RunFolderConflict,
    Unauthorized,
)
from tests.client.runs import done, of_type, stored, tiny, train
from tests.proxies import Fault, FaultProxy, fault_proxy
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

Start = Callable[[str], RunningServer]


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def finish(
    client: AsyncClient, run: str, workdir: Path, *, patience: float = 60.0
) -> list[Event]:
    async with client.resume(run, TrainOptions(workdir=workdir, patience=patience)) as events:
        return [event async for event in events]


async def leave_after_first_results(
    client: AsyncClient, run: str, workdir: Path, **options: object
) -> None:
    async with client.train(tiny(run, **options), TrainOptions(workdir=workdir)) as events:
        async for event in events:
            if isinstance(event, StepsDone):
                break


def notices(events: list[Event]) -> str:
    return "\n".join(notice.text for notice in of_type(events, Notice))


def make_computing_dear(folder: Path) -> None:
    """Let the folder say that its steps took long, as those of a large model do."""
    with closing(sqlite3.connect(folder / "results.sqlite")) as database, database:
        database.execute("UPDATE steps SET seconds = 1000.0")


async def test_a_run_is_finished_from_its_folder_alone(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        plain = done(
            await train(client, tiny("r-plain", epochs=5, validation=32), workdir=tmp_path)
        )
        await leave_after_first_results(client, "r-left", tmp_path, epochs=5, validation=32)
        finished = done(await finish(client, "r-left", tmp_path))
        with pytest.raises(RunFolderConflict, match="is finished"):
            await finish(client, "r-left", tmp_path)

    assert finished.summary.weights_sha256 == plain.summary.weights_sha256
    assert finished.summary.validation_samples == 32
    assert stored(tmp_path / "r-left") == stored(tmp_path / "r-plain")


async def test_an_empty_server_goes_on_from_the_checkpoint_where_computing_is_dear(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        order = tiny("r-moved", samples=600)
        async with client.train(order, TrainOptions(workdir=tmp_path, pull="end")) as events:
            first = [event async for event in events]
        assert held_step(tmp_path / "r-moved") == 10
        await train(client, tiny("r-unmoved"), workdir=tmp_path)
        unmoved = done(await train(client, tiny("r-unmoved", samples=300), workdir=tmp_path))
    make_computing_dear(tmp_path / "r-moved")
    async with (
        fault_proxy(other_server.port, lambda _: "none") as proxy,
        AsyncClient(proxy.address, token=other_server.token) as client,
    ):
        second = await train(client, tiny("r-moved", samples=300), workdir=tmp_path)
        rows = (await client.api.steps.read("r-moved")).steps

    assert "downloaded the checkpoint of step 10" in notices(first)
    assert "restoring from the checkpoint of step 10" in notices(second)
    assert [row.step for row in rows] == [11, 12, 13, 14, 15]  # the others were not computed there
    uploads = [r.path for r in proxy.requests if r.path.startswith("/shards/") and r.body]
    with RunFolder.open(tmp_path / "r-moved") as folder:
        later = {ref.sha256 for ref in folder.segments[1].shards}
        held_out = {path.rpartition("/")[2] for path in uploads} - later
        trained = {ref.sha256 for ref in folder.segments[0].shards}
    assert not held_out & trained
    assert done(second).summary.weights_sha256 == unmoved.summary.weights_sha256
    assert stored(tmp_path / "r-moved") == stored(tmp_path / "r-unmoved")


async def test_in_the_middle_of_a_segment_only_later_samples_are_sent(
    server: RunningServer, other_server: RunningServer, new_server: Start, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        plain = done(await train(client, tiny("r-middle"), workdir=tmp_path))
    # The same folder, as if the client had been killed before the end was reported, with a
    # checkpoint from the middle: a server that was told to go no further than step 8 has one.
    with RunFolder.open(tmp_path / "r-middle") as folder:
        (segment,), record = folder.segments, folder.record
        folder.update(finished_segments=0)
        bodies = {ref.sha256: folder.shard(ref.sha256) for ref in segment.shards}
    async with client_of(other_server) as client:
        await client.api.runs.create("r-middle", run_id=record.id, config=record.config)
        await client.api.plans.put_segment("r-middle", 0, run_id=record.id, segment=segment)
        for name, body in bodies.items():
            assert body is not None
            await client.api.shards.put(name, body)
        await client.api.runs.advance("r-middle", run_id=record.id, to=8)
        await client.api.steps.read("r-middle", after=7, wait=25)
        assert await wait_until_durable(client.api, "r-middle", 8)
        held = await client.pull_checkpoint("r-middle", checkpoint_folder(tmp_path / "r-middle"))
    assert held.step == 8
    make_computing_dear(tmp_path / "r-middle")
    async with client_of(new_server("empty")) as client:
        events = await finish(client, "r-middle", tmp_path)
        missing = await client.api.shards.missing(list(bodies))

    assert "restoring from the checkpoint of step 8" in notices(events)
    assert missing == [ref.sha256 for ref in segment.shards[:2]]
    assert done(events).summary.weights_sha256 == plain.summary.weights_sha256


def test_the_shorter_way_is_taken() -> None:
    checkpoint = 144_000_000

    def way(steps: int, **known: float | None) -> bool:
        facts: dict[str, float | None] = {"uplink": None, "seconds_per_step": None, **known}
        return estimate(
            size=checkpoint,
            steps=steps,
            shard_bytes=steps * 64 * 6404,
            uplink=REMOTE.upload_rate(facts["uplink"]),
            seconds_per_step=facts["seconds_per_step"],
        ).sends

    assert not way(100, seconds_per_step=0.1)  # 144 s to send, 41 s of samples, 10 s to compute
    assert way(10_000, seconds_per_step=0.1)
    assert way(1000, uplink=20e6, seconds_per_step=0.1)
    assert not way(10, uplink=20e6, seconds_per_step=0.001)


async def test_a_checkpoint_that_cannot_be_used_is_named_and_the_run_goes_on(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("r-other", seed=9, samples=64), workdir=tmp_path)
        assert await wait_until_durable(client.api, "r-other", 1)
        foreign = await client.pull_checkpoint("r-other", tmp_path / "foreign")
        order = tiny("r-harm", samples=128)
        async with client.train(order, TrainOptions(workdir=tmp_path, pull="end")) as events:
            plain = done([event async for event in events])
    place = checkpoint_folder(tmp_path / "r-harm")
    (path,) = place.glob("*.safetensors")
    whole = path.read_bytes()
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    digest = path.with_suffix(".sha256").read_text()
    with RunFolder.open(tmp_path / "r-harm") as folder:
        assert find_checkpoint(folder) is not None
        for content, sealed, words in (
            (b"not a checkpoint", digest, "is not a checkpoint"),
            (foreign.path.read_bytes(), foreign.sha256, "of another run"),
            (whole, "", "no readable digest"),
            (damaged, digest, "is damaged"),
        ):
            path.write_bytes(content)
            path.with_suffix(".sha256").write_text(sealed)
            with pytest.raises(InvalidCheckpoint, match=words) as caught:
                find_checkpoint(folder)
            assert str(path) in str(caught.value)
        folder.update(finished_segments=0)
    make_computing_dear(tmp_path / "r-harm")
    async with client_of(other_server) as client:
        events_after = await finish(client, "r-harm", tmp_path)

    assert "computed again: " in notices(events_after)
    assert "is damaged" in notices(events_after)
    assert done(events_after).summary.weights_sha256 == plain.summary.weights_sha256
    assert path.read_bytes() == damaged


async def test_patience_has_its_own_end_and_names_the_command(
    server: RunningServer, tmp_path: Path
) -> None:
    async with (
        fault_proxy(server.port, lambda _: "none") as proxy,
        AsyncClient(proxy.address, token=server.token) as client,
    ):
        await leave_after_first_results(client, "r-gone", tmp_path, epochs=9)
        proxy.choose = lambda _: "reset"
        with pytest.raises(OutOfPatience, match="omega21 resume r-gone --workdir") as caught:
            await finish(client, "r-gone", tmp_path, patience=0.3)
    assert caught.value.exit_code == 76


async def test_a_broken_download_goes_on_where_it_was(
    server: RunningServer, tmp_path: Path
) -> None:
    async with (
        client_of(server) as client,
        client.train(tiny("r-pull"), TrainOptions(workdir=tmp_path, pull="end")) as events,
    ):
        [event async for event in events]
    with RunFolder.open(tmp_path / "r-pull") as folder:
        whole = find_checkpoint(folder)
    assert whole is not None
    cuts: Iterator[Fault] = iter(["cut", "cut"])

    async def pull(proxy: FaultProxy) -> None:
        async with AsyncClient(proxy.address, token=server.token) as client:
            held = await client.pull_checkpoint("r-pull", tmp_path / "pulled")
        assert (held.step, held.sha256) == (10, whole.sha256)
        assert held.path.read_bytes() == whole.path.read_bytes()

    async with fault_proxy(server.port, lambda _: next(cuts, "none")) as proxy:
        await pull(proxy)
        starts = [request.head.lower() for request in proxy.requests]
    assert b"range:" not in starts[0]
    assert all(b"range: bytes=" in head and b"if-range:" in head for head in starts[1:])
    assert len(starts) == 3
    assert sorted(path.suffix for path in (tmp_path / "pulled").iterdir()) == [
        ".safetensors",
        ".sha256",
    ]
    lines = (tmp_path / "r-pull" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines][-2:] == ["pulled", "finished"]


async def test_refused_is_told_apart_at_once_and_nothing_is_overwritten(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await leave_after_first_results(client, "r-refused", tmp_path, epochs=9)
    before = stored(tmp_path / "r-refused")
    async with AsyncClient(server.address, token="wrong") as client:
        with pytest.raises(Unauthorized):
            await finish(client, "r-refused", tmp_path)
    async with client_of(other_server) as client:
        theirs = await client.api.runs.create("r-refused")
        with pytest.raises(OtherRun, match="another id"):
            await finish(client, "r-refused", tmp_path)
        assert (await client.api.runs.state("r-refused")).id == theirs.id
        with (
            RunFolder.open(tmp_path / "r-refused"),
            pytest.raises(RunFolderConflict, match="another program"),
        ):
            await finish(client, "r-refused", tmp_path)
        record = tmp_path / "r-refused" / "run.json"
        newer = (
            record.read_text()
            .replace('"format": 1', '"format": 99')
            .replace('"format":1', '"format":99')
        )
        record.write_text(newer)
        with pytest.raises(RunFolderConflict, match="format 99"):
            await finish(client, "r-refused", tmp_path)

    assert record.read_text() == newer
    assert stored(tmp_path / "r-refused") == before
