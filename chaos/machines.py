"""Machines that fail: an empty server instead, a damaged checkpoint, a clock that jumps."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.to_thread import run_sync

from chaos.stage import Stage
from omega21.protocol.checkpoints import PIECE_BYTES
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from tests.servers import RunningServer

REPLACED = "server replaced by an empty one at another port: replay"
RESTORED = "server replaced by an empty one: from a pulled checkpoint"
DAMAGED = "newest checkpoint damaged before a restart"
CLOCK_JUMPS = "clock of server and client jumps"

RANGE_BYTES = 200_000
PIECE = {"Content-Type": "application/octet-stream"}
SHARD = {"Content-Type": SHARD_MEDIA_TYPE, "Content-Encoding": "zstd"}
DAY_SECONDS = 86_400
CLOCK = str(Path(__file__).with_name("clock"))


async def replaced(stage: Stage) -> None:
    """End the server and its data; an empty one at another port takes its place."""

    async def disturb() -> None:
        if stage.left > 0:  # once a run: the new server starts from nothing
            await stage.random_instant(at_once=0.0, within=2.0)
            await run_sync(stage.server.kill)
            stage.server = await stage.replace_server()
            stage.proxy.port = stage.server.port
            stage.faults[REPLACED] += 1
        await anyio.sleep_forever()

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


@dataclass(frozen=True)
class _Pulled:
    step: int
    body: bytes
    state: dict[str, Any]
    segments: list[dict[str, Any]]


async def restored(stage: Stage) -> None:
    """As `replaced`, but the new server gets the checkpoint that was pulled from the old one."""

    async def disturb() -> None:
        if stage.left > 0:
            await stage.random_instant(at_once=0.0, within=1.0)
            run = f"run-{len(stage.verdicts)}"
            pulled = await run_sync(_pull, stage.server, run)
            while pulled is None:  # none yet
                await stage.progress.next()
                pulled = await run_sync(_pull, stage.server, run)
            while stage.progress.step < pulled.step:  # its results come first
                await stage.progress.next()
            await run_sync(stage.server.kill)
            stage.server = await stage.replace_server()
            await run_sync(_put_back, stage.server, stage.workdir / run, pulled)
            stage.proxy.port = stage.server.port
            stage.faults[RESTORED] += 1
        await anyio.sleep_forever()

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb, server_has_all=False)


def _pull(server: RunningServer, run: str) -> _Pulled | None:
    """Download a checkpoint in ranges, with what it needs beside it."""
    with httpx.Client(base_url=server.address, timeout=60) as http:
        head = http.get(f"/runs/{run}/checkpoint", headers={"Range": "bytes=0-0"})
        if head.status_code == 404:
            return None
        step, total = head.headers["Omega21-Step"], head.headers["Content-Range"].split("/")[1]
        ranges = [
            http.get(
                f"/runs/{run}/checkpoint?step={step}",
                headers={
                    "Range": f"bytes={start}-{start + RANGE_BYTES - 1}",
                    "If-Range": head.headers["ETag"],
                },
            )
            for start in range(0, int(total), RANGE_BYTES)
        ]
        assert all(part.status_code == 206 for part in ranges)
        body = b"".join(part.content for part in ranges)
        assert hashlib.sha256(body).hexdigest() == head.headers["ETag"].strip('"')
        state = http.get(f"/runs/{run}").json()
        return _Pulled(int(step), body, state, http.get(f"/runs/{run}/plan").json()["segments"])


def _put_back(server: RunningServer, folder: Path, pulled: _Pulled) -> None:
    """Make the run on an empty server: plan, checkpoint, the shards of the run folder, target."""
    run, run_id = folder.name, pulled.state["id"]
    with httpx.Client(base_url=server.address, timeout=60) as http:

        def put(path: str, **content: Any) -> None:
            http.put(f"/runs/{run}{path}", **content).raise_for_status()

        put("", json={"id": run_id, "config": pulled.state["config"]})
        for number, segment in enumerate(pulled.segments):
            put(f"/plan/{number}", json={"run_id": run_id, "segment": segment})
        pieces = []
        for start in range(0, len(pulled.body), PIECE_BYTES):
            piece = pulled.body[start : start + PIECE_BYTES]
            pieces.append(hashlib.sha256(piece).hexdigest())
            put(f"/checkpoint/pieces/{pieces[-1]}", content=piece, headers=PIECE)
        whole = hashlib.sha256(pulled.body).hexdigest()
        manifest = {"sha256": whole, "bytes": len(pulled.body), "pieces": pieces}
        put("/checkpoint", json={"run_id": run_id, **manifest})
        for shard in (folder / "shards").iterdir():
            name = shard.name.partition(".")[0]
            sent = http.put(f"/shards/{name}", content=shard.read_bytes(), headers=SHARD)
            sent.raise_for_status()
        target = {"run_id": run_id, "to": pulled.state["target"]}
        http.post(f"/runs/{run}/advance", json=target).raise_for_status()


async def damaged(stage: Stage) -> None:
    """Kill the server, damage the newest checkpoint of the run, start again."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.0, within=0.4)
            await run_sync(stage.server.kill)
            stage.faults[DAMAGED] += _damage_newest(stage)
            await run_sync(stage.server.restart)

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


def _damage_newest(stage: Stage) -> bool:
    """Cut the newest checkpoint or its seal short, or change a byte of it."""
    files = (stage.server.data_dir / "checkpoints").glob("*/*.safetensors")
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return False
    victim = stage.rng.choice((newest, newest, newest.with_suffix(".json")))
    if not victim.exists():  # it was killed between file and seal
        return False
    data = bytearray(victim.read_bytes())
    place = stage.rng.randrange(len(data))
    if stage.rng.random() < 0.3:
        data[place] ^= 0x40
    else:
        del data[place:]
    victim.write_bytes(data)
    return True


# --- clocks ---


def jumping_clock(clock: Path) -> dict[str, str]:
    """Return the variables that put Python processes under the clock that `set_clock` sets."""
    set_clock(clock, 0)
    return {"OMEGA21_CHAOS_CLOCK": str(clock), "PYTHONPATH": os.pathsep.join([CLOCK, *sys.path])}


def set_clock(clock: Path, seconds: int) -> None:
    """Set the clock so many seconds before or after the real one, from one instant to the next."""
    written = clock.with_suffix(".new")
    written.write_text(str(seconds), encoding="ascii")
    written.replace(clock)


async def clock_jumps(stage: Stage) -> None:
    """Set the clock days back and forth while client and server work, inline batches too."""
    clock = Path(stage.environment["OMEGA21_CHAOS_CLOCK"])

    async def jump() -> None:
        days = stage.rng.choice((-4000, -400, -1, 1, 30, 400, 4000))
        set_clock(clock, days * DAY_SECONDS + stage.rng.randrange(3600))
        stage.faults[CLOCK_JUMPS] += 1

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.2, within=0.3)
            await jump()

    async def disturb_batches() -> None:
        for _ in range(stage.left // 2):
            await anyio.sleep(stage.rng.random() * 0.3)
            await jump()

    while stage.left > 0:
        await stage.train_batches(f"run-{len(stage.verdicts)}", disturb_batches)
        await stage.train_in_processes(f"run-{len(stage.verdicts)}", disturb)
