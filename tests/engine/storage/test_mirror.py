"""A mirror: what a server on a new machine goes on from, when the first one is gone."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from omega21 import AsyncClient
from omega21.client.events import Notice
from omega21.client.training.options import TrainOptions
from omega21.engine.engine import Engine
from omega21.engine.storage.ledger import LEDGER
from omega21.engine.storage.mirror import KEEP, manifests
from omega21.engine.storage.snapshots import copy_ledger
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.legacy import Trained
from tests.client.runs import done, of_type, tiny, train
from tests.engine.engines import (
    MOST_SECONDS,
    OPTIONS,
    DrivenRun,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.local_device import local_engine
from tests.servers import RunningServer, start_server

OFTEN = ("--device", "cpu", "--threads", "1", "--checkpoint-steps", "2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "drive" / "omega21"
    folder.parent.mkdir()
    return folder


def mirrored_step(mirror: Path) -> int:
    """The newest checkpoint of the newest whole copy."""
    for _, manifest in manifests(mirror):
        steps = [int(Path(f.path).stem) for f in manifest.files if f.path.endswith(".safetensors")]
        return max(steps, default=0)
    return 0


async def wait_for_copy(server: RunningServer, mirror: Path, *, step: int) -> None:
    """Wait until a step is mirrored; the polls are requests, each of which the server holds."""
    async with httpx.AsyncClient(base_url=server.address, timeout=60) as http:
        while mirrored_step(mirror) < step:
            (await http.get("/runs/default/steps?after=0&wait=0.1")).raise_for_status()


# --- a real client, real servers, real kills ---


@pytest.mark.anyio
async def test_a_new_machine_goes_on_from_the_mirror_with_the_same_bits(
    tmp_path: Path, mirror: Path
) -> None:
    order = tiny("a", samples=3600)
    with start_server(tmp_path / "alone", *OFTEN) as server:
        async with AsyncClient(server.address) as client:
            undisturbed = done(await train(client, order, workdir=tmp_path / "alone-runs")).state

    runs = tmp_path / "runs"
    with start_server(tmp_path / "first", *OFTEN, "--mirror", str(mirror)) as first:
        async with AsyncClient(first.address) as client:
            async with client.train(order, TrainOptions(workdir=runs)) as events:
                async for _ in events:
                    if mirrored_step(mirror) >= 4:
                        break
            first.kill()
        step = mirrored_step(mirror)
    assert step >= 4

    with start_server(tmp_path / "second", *OFTEN, "--mirror", str(mirror)) as second:
        assert "the data folder was empty: it is the mirror's copy" in second.log
        async with AsyncClient(second.address) as client:
            assert (await client.api.runs.state("a")).step >= step
            async with client.resume("a", TrainOptions(workdir=runs)) as events:
                seen = [event async for event in events]
            assert not [n for n in of_type(seen, Notice) if "checkpoint" in n.text]
            state = done(seen).state
        assert "/checkpoint/parts/" not in second.log
    assert state.weights_sha256 == undisturbed.weights_sha256
    assert state.digest == undisturbed.digest


@pytest.mark.anyio
async def test_a_mirror_that_is_gone_costs_a_warning_and_is_used_again_when_it_is_back(
    tmp_path: Path, mirror: Path
) -> None:
    away = mirror.with_name("away")
    with start_server(tmp_path / "data", *OFTEN, "--mirror", str(mirror)) as server:
        await asyncio.to_thread(mirror.rename, away)
        async with AsyncClient(server.address) as client:
            first = done(await train(client, tiny("a"), workdir=tmp_path / "runs"))
            assert first.state.step == 10
            await asyncio.to_thread(away.rename, mirror)
            await train(client, tiny("b"), workdir=tmp_path / "runs")
        await wait_for_copy(server, mirror, step=10)
        assert f"the mirror {mirror} has no new copy: it is gone" in server.log
        assert server.log.count("has no new copy") == 1


# --- an engine in this process ---


def wait_for_copies(mirror: Path, *, after: str = "") -> list[str]:
    """Wait until there is a copy newer than `after`; the names of all, newest first."""
    deadline = time.monotonic() + MOST_SECONDS
    while True:
        names = [path.name for path, _ in manifests(mirror)]
        if names and names[0] > after:
            return names
        assert time.monotonic() < deadline, "nothing is mirrored any more"


def inline(engine: Engine, number: int) -> Trained:
    """Train inline batch `number` under a key of its own."""
    samples = make_samples(2, seed=number)
    return engine.inline.train("default", samples.x, samples.y, epochs=1, key=f"key-{number}")


def test_two_copies_are_kept_and_a_damaged_one_is_not_used(tmp_path: Path, mirror: Path) -> None:
    options = replace(OPTIONS, mirror=mirror, checkpoint_steps=1)
    newest = ""
    with running(tmp_path / "first", options) as first:
        for number in range(4):
            run = DrivenRun(first, f"run-{number}")
            shards = cut(make_samples(4), 4)
            run.train(shards, make_segment(shards, batch_size=4))
            newest = wait_for_copies(mirror, after=newest)[0]
    copies = list(manifests(mirror))
    assert len(copies) == KEEP
    kept = {file.sha256 for _, manifest in copies for file in manifest.files}
    assert {path.name for path in (mirror / "objects").iterdir()} == kept

    newest_alone = {file.sha256 for file in copies[0][1].files} - {
        file.sha256 for file in copies[1][1].files
    }
    for sha256 in newest_alone:
        damage(mirror / "objects" / sha256)
    with running(tmp_path / "second", options) as second:
        assert {"run-0", "run-1"} <= {summary.run for summary in second.runs.summaries()}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_folder_that_has_a_ledger_is_left_as_it_is(tmp_path: Path, mirror: Path) -> None:
    with running(tmp_path / "mirrored", replace(OPTIONS, mirror=mirror)) as engine:
        DrivenRun(engine, "mirrored")
        inline(engine, 0)
        wait_for_copies(mirror)
    with running(tmp_path / "own", OPTIONS) as engine:
        DrivenRun(engine, "own")
    with running(tmp_path / "own", replace(OPTIONS, mirror=mirror)) as engine:
        assert {summary.run for summary in engine.runs.summaries()} == {"own", "default"}


def test_a_mirror_on_a_drive_that_is_not_there_is_refused(tmp_path: Path) -> None:
    options = replace(OPTIONS, mirror=tmp_path / "not mounted" / "omega21")
    with pytest.raises(InvalidRequest, match="mount its drive first"):
        local_engine(tmp_path / "data", options)


def test_inline_batches_after_the_checkpoint_are_left_out_and_can_come_again(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with running(first) as engine:
        inline(engine, 0)
        at_checkpoint = inline(engine, 1)
    with running(first) as engine:
        later = [inline(engine, number) for number in (2, 3)]
        summary = engine.runs.summary("default")
        second.mkdir()
        copy_ledger(first / LEDGER, second / LEDGER, steps={summary.id: at_checkpoint.step})
        seal = first / "checkpoints" / summary.id / f"{at_checkpoint.step:012d}.json"
        kept = second / "checkpoints" / summary.id
        kept.mkdir(parents=True)
        for path in (seal, seal.with_suffix(".safetensors")):
            shutil.copy(path, kept)
    with running(second) as engine:
        restored = engine.runs.summary("default")
        assert (restored.step, restored.target, restored.plan_steps) == (2, 2, 2)
        # Its key is known: it is not trained again.
        assert (inline(engine, 1).step, inline(engine, 1).loss) == (2, at_checkpoint.loss)
        assert [inline(engine, number).loss for number in (2, 3)] == [one.loss for one in later]
        assert engine.runs.summary("default").digest == summary.digest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a file system in memory at `folder`; yields what gives it another size."""

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "omega21-test", str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    try:
        mount(f"size={size}")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_full_mirror_costs_a_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    options = replace(OPTIONS, mirror=drive / "omega21", checkpoint_steps=1)
    shards = cut(make_samples(8), 4)
    with small_disk(drive, "256k") as resize, running(tmp_path / "data", options) as engine:
        run = DrivenRun(engine)
        run.train(shards, make_segment(shards, batch_size=4))
        run.wait(lambda summary: summary.durable_step == 2)
        deadline = time.monotonic() + MOST_SECONDS
        while "has no new copy: [Errno 28]" not in caplog.text:
            assert time.monotonic() < deadline, caplog.text
        assert list(manifests(drive / "omega21")) == []

        resize("16m")
        run.train(shards, make_segment(shards, batch_size=4))
        wait_for_copies(drive / "omega21")
        assert not list((drive / "omega21" / "objects").glob("*.tmp"))
