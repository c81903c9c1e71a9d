"""Calls that meet at one run: each is answered, and none of them with 500."""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from chaos.races import AT_ONCE, Races
from omega21.engine.engine import Engine
from omega21.engine.storage import upload_parts as piecework
from omega21.engine.storage.upload_parts import UploadPartStore
from omega21.protocol.checkpoints import RestoreCheckpoint
from omega21.protocol.errors import Conflict, InvalidCheckpoint, OmegaError, RunDeleted, StorageFull
from omega21.server.routes.checkpoints import _checkpoint
from tests.engine.engines import CONFIG, DrivenRun, make_samples, running, wait_until
from tests.servers import start_server

SECONDS = 6.0
SEED = 5


def test_eight_clients_at_once_break_nothing(tmp_path: Path) -> None:
    options = ("--device", "cpu", "--threads", "1", "--log-level", "warning")
    often = ("--checkpoint-seconds", "0.3", "--checkpoint-steps", "10")
    with start_server(tmp_path / "data", *options, *often) as server:
        races = Races(server.address, SEED)
        races.play(seconds=SECONDS)
        assert not races.broken, races.broken[:3]
        assert races.counts.total() > 100
        assert "Traceback" not in server.log


# --- parts ---


def test_pieces_that_come_at_once_are_all_stored(tmp_path: Path) -> None:
    store = UploadPartStore(tmp_path / "incoming")
    bodies = [bytes([number]) * 5000 for number in range(200)]
    names = [hashlib.sha256(body).hexdigest() for body in bodies]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        stored = list(pool.map(store.put, names + names, bodies + bodies))
    assert [one.sha256 for one in stored] == names + names
    again = UploadPartStore(tmp_path / "incoming")
    for kept in (store, again):
        request = RestoreCheckpoint(run_id="a" * 32, sha256="0" * 64, bytes=1, parts=names)
        assert list(kept.chunks(request)) == bodies


def test_pieces_that_come_at_once_stay_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piecework, "MAX_CHECKPOINT_BYTES", 20_000)
    store = UploadPartStore(tmp_path / "incoming")

    def put(number: int) -> bool:
        body = bytes([number]) * 1000
        try:
            store.put(hashlib.sha256(body).hexdigest(), body)
        except StorageFull:
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sum(pool.map(put, range(100))) == 20
    assert sum(path.stat().st_size for path in store.folder.iterdir()) == 20_000


# --- one checkpoint, two calls ---


@pytest.fixture
def trained(engine: Engine) -> DrivenRun:
    """A run with a checkpoint of its only step."""
    run = DrivenRun(engine)
    engine.inline.train(run.name, *make_samples(4), epochs=1, key=None)
    wait_until(engine, run.name, lambda now: now.durable_step == 1)
    return run


def remove(engine: Engine, run: DrivenRun) -> None:
    engine.runs.remove(run.name, run.id)


def unlink(engine: Engine, run: DrivenRun) -> None:
    engine.checkpoints.newest(run.name).path.unlink()


@pytest.mark.anyio
@pytest.mark.parametrize("harm", [remove, unlink])
@pytest.mark.parametrize(
    ("ranges", "status", "part"),
    [
        ("", 200, slice(None)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=9-", 206, slice(9, None)),
    ],
)
async def test_a_checkpoint_that_is_being_answered_with_may_go(
    engine: Engine,
    trained: DrivenRun,
    *,
    harm: Callable[[Engine, DrivenRun], None],
    ranges: str,
    status: int,
    part: slice,
) -> None:
    whole = engine.checkpoints.newest(trained.name).path.read_bytes()
    reply = await asyncio.to_thread(_checkpoint, engine, trained.name, step=None)
    await asyncio.to_thread(harm, engine, trained)
    transport = httpx.ASGITransport(reply)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        got = await http.get("/", headers={"Range": ranges} if ranges else {})
    assert (got.status_code, got.content) == (status, whole[part])
    assert reply._file.closed  # type: ignore[attr-defined]


def restore_twice(engine: Engine, run: str, request: RestoreCheckpoint) -> list[Any]:
    def restore(_: int) -> Any:
        try:
            return engine.checkpoints.restore(run, request)
        except OmegaError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(restore, range(4)))


def test_restores_of_one_checkpoint_at_once_leave_it_whole(
    engine: Engine, trained: DrivenRun, tmp_path: Path
) -> None:
    body = engine.checkpoints.newest(trained.name).path.read_bytes()
    plan = engine.plans.get(trained.name)
    sha256 = hashlib.sha256(body).hexdigest()
    request = RestoreCheckpoint(run_id=trained.id, sha256=sha256, bytes=len(body), parts=[sha256])
    with running(tmp_path / "other") as other:
        other.runs.create(trained.name, trained.id, CONFIG)
        for number, segment in enumerate(plan.segments):
            other.plans.put_segment(trained.name, number, run_id=trained.id, segment=segment)
        other.checkpoints.put_upload_part(sha256, body)
        came = restore_twice(other, trained.name, request)
        done = [one for one in came if not isinstance(one, OmegaError)]
        refused = [one for one in came if isinstance(one, OmegaError)]
        assert [state.step for state in done] == [1]
        assert all(isinstance(one, Conflict | InvalidCheckpoint) for one in refused), refused
        kept = other.checkpoints.newest(trained.name)
        assert (kept.step, kept.path.read_bytes()) == (1, body)
        other.runs.remove(trained.name, trained.id)
        other.checkpoints.put_upload_part(sha256, body)
        with pytest.raises(RunDeleted):
            other.checkpoints.restore(trained.name, request)
        assert not kept.path.parent.exists()
