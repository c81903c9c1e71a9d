"""Machines that fail: an empty server instead, a damaged checkpoint, a clock that jumps."""

import os
import sys
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from chaos.stage import Stage
from omega21.client.store.checkpoints import held_step

REPLACED = "server replaced by an empty one at another port: replay"
RESTORED = "server replaced by an empty one: from a pulled checkpoint"
DAMAGED = "newest checkpoint damaged before a restart"
CLOCK_JUMPS = "clock of server and client jumps"

PULL_SECONDS = 1.0
DAY_SECONDS = 86_400
CLOCK = str(Path(__file__).with_name("clock"))
_CLOSED_PORT = 1  # nothing listens there


async def replaced(stage: Stage) -> None:
    """End the server and its data; an empty one at another port takes its place."""

    async def disturb() -> None:
        if stage.left > 0:  # once a run: the new server starts from nothing
            await stage.random_instant(at_once=0.0, within=2.0)
            await _replace(stage)
            stage.faults[REPLACED] += 1
        await anyio.sleep_forever()

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


async def restored(stage: Stage) -> None:
    """As `replaced`, but the client has pulled a checkpoint, and gives it to the new server."""
    folders: list[Path] = []

    async def disturb() -> None:
        if stage.left > 0:
            while not await run_sync(held_step, folders[-1]):
                await stage.progress.next()
            await stage.random_instant(at_once=0.0, within=2.0)
            await _replace(stage)
            stage.faults[RESTORED] += 1
        await anyio.sleep_forever()

    while stage.left > 0:
        run = f"run-{len(stage.verdicts)}"
        folders.append(stage.workdir / run)
        await stage.train(run, disturb, pull=PULL_SECONDS)


async def _replace(stage: Stage) -> None:
    """Replace the server, unless the client ends first: then there is nobody to fill a new one."""
    stage.proxy.port = _CLOSED_PORT
    try:
        await anyio.sleep(1.0)  # requests on their way end, and so may the client, which cancels
        with anyio.CancelScope(shield=True):
            await run_sync(stage.server.kill)
            stage.server = await stage.replace_server()
    finally:
        stage.proxy.port = stage.server.port


async def damaged(stage: Stage) -> None:
    """Kill the server, damage the newest checkpoint of the run, start again."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.0, within=0.4)
            with anyio.CancelScope(shield=True):
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
