"""Disks that are full: a small file system that has no room left, a file that may not grow."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from chaos.stage import Stage
from tests.servers import RunningServer

DISK_FULL = "disk full during a checkpoint (tmpfs)"
WRITE_REFUSED = "write refused midway (RLIMIT_FSIZE)"

DISK_BYTES = 96 * 2**20
REFUSED = "was not written"
LOOKS = 400


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system in memory and unmount it at the end. Raises OSError where one may not."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "omega21-chaos", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.decode().strip()) from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def disk_full(stage: Stage) -> None:
    """Fill the server's disk up to a random rest, until a checkpoint fails; then make room."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.0, within=0.3)
            ballast = stage.server.data_dir.with_name("ballast")
            seen = len(stage.server.log)
            try:
                _fill(ballast, rest=stage.rng.randrange(700_000))
                stage.faults[DISK_FULL] += await _checkpoint_failed(stage.server, seen)
            finally:
                ballast.unlink()

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


def _fill(ballast: Path, *, rest: int) -> None:
    """Leave `rest` bytes of the disk, or less, since the server writes meanwhile."""
    block = bytes(2**16)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while (free := _free_bytes(ballast.parent)) > rest:
            file.write(block[: free - rest])


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


async def write_refused(stage: Stage) -> None:
    """Let no file of the server grow past a random size, until a checkpoint fails; then let it."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.0, within=0.3)
            seen = len(stage.server.log)
            child = await run_sync(stage.server.child_pid)
            try:
                _limit_files(child, stage.rng.randrange(700_000))
                stage.faults[WRITE_REFUSED] += await _checkpoint_failed(stage.server, seen)
            finally:
                _limit_files(child, resource.RLIM_INFINITY)

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


def _limit_files(process: int, size: int) -> None:
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def _checkpoint_failed(server: RunningServer, seen: int) -> bool:
    """Wait until the log says that a checkpoint was not written; False when none was due."""
    for _ in range(LOOKS):
        if REFUSED in server.log[seen:]:
            return True
        await anyio.sleep(0.05)
    return False
