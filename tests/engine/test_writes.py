"""Writes that fail, are interrupted or partial: what was there stays, and nothing is half there."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from omega21.data.durable import write_durably
from omega21.engine.storage.checkpoints import Checkpoint, CheckpointStore
from omega21.protocol.checkpoints import CheckpointRecord
from omega21.protocol.errors import InvalidCheckpoint
from tests.engine.engines import CONFIG

RUN_ID = "a" * 32
STATE = {"weights.w": np.arange(20_000, dtype=np.float32)}  # 80 kB

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


def record(step: int) -> CheckpointRecord:
    return CheckpointRecord(
        run_id=RUN_ID,
        config=CONFIG,
        step=step,
        digest="0" * 64,
        non_finite_in_a_row=0,
        plan_sha256="0" * 64,
        weights_sha256="0" * 64,
        environment=None,
        created_at=0.0,
    )


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Have the system refuse to write past `size` bytes of a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path)
    store.write(record(1), STATE)
    return store


def newest(store: CheckpointStore) -> Checkpoint:
    return next(store.newest(RUN_ID))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FIRST = ["000000000001.json", "000000000001.safetensors"]


@pytest.mark.parametrize("room", [0, 1, 40_000, 79_999])
def test_a_write_that_the_system_refuses_midway_leaves_the_file_before(
    tmp_path: Path, room: int
) -> None:
    path = tmp_path / "file"
    write_durably(path, [b"before"])
    with no_file_beyond(room), pytest.raises(OSError, match="File too large"):
        write_durably(path, [b"x" * 40_000, b"y" * 40_000])
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_source_that_breaks_midway_leaves_the_file_before(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_durably(path, [b"before"])
    with pytest.raises(KeyboardInterrupt):
        write_durably(path, chunks())
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from omega21.data.durable import write_durably

def chunks():
    yield b"x" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)

write_durably(Path(sys.argv[1]), chunks())
"""


def test_a_process_killed_while_writing_leaves_the_checkpoint_before(
    store: CheckpointStore,
) -> None:
    folder = store.folder / RUN_ID
    path = folder / "000000000002.safetensors"
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [name for name in names(folder) if name not in FIRST]
    assert len(left) == 1
    assert left[0].endswith(".tmp")
    assert newest(store).step == 1
    assert store.read(newest(store))["weights.w"].tobytes() == STATE["weights.w"].tobytes()
    store.tidy(RUN_ID)
    assert names(folder) == FIRST


def test_a_process_killed_between_file_and_seal_leaves_the_checkpoint_before(
    store: CheckpointStore,
) -> None:
    folder = store.folder / RUN_ID
    store.write(record(2), STATE)
    (folder / "000000000002.json").unlink()
    assert newest(store).step == 1
    store.tidy(RUN_ID)
    assert names(folder) == FIRST


def test_a_full_disk_leaves_the_checkpoint_before_and_no_half_one(store: CheckpointStore) -> None:
    with no_file_beyond(40_000), pytest.raises(OSError, match="File too large"):
        store.write(record(2), STATE)
    assert newest(store).step == 1
    assert names(store.folder / RUN_ID) == FIRST
    store.write(record(2), STATE)
    assert newest(store).step == 2


def test_a_seal_that_cannot_be_written_takes_its_file_with_it(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_seals(path: Path, chunks: Iterator[bytes]) -> None:
        if path.suffix == ".json":
            with no_file_beyond(0):
                write_durably(path, chunks)
        write_durably(path, chunks)

    monkeypatch.setattr("omega21.engine.storage.checkpoints.write_durably", refuse_seals)
    with pytest.raises(OSError, match="File too large"):
        store.write(record(2), STATE)
    assert newest(store).step == 1
    assert names(store.folder / RUN_ID) == FIRST


@pytest.mark.parametrize("kept", [0, 7, 8, 1000, 80_000])
def test_a_file_cut_short_after_it_was_written_is_passed_over(
    store: CheckpointStore, kept: int
) -> None:
    cut = store.write(record(2), STATE)
    os.truncate(cut.path, kept)
    assert newest(store).step == 1


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_seal_cut_short_is_passed_over(store: CheckpointStore, kept: int) -> None:
    cut = store.write(record(2), STATE)
    os.truncate(cut.path.with_suffix(".json"), kept)
    assert newest(store).step == 1


def test_a_changed_byte_shows_when_it_is_read(store: CheckpointStore) -> None:
    changed = store.write(record(2), STATE)
    data = bytearray(changed.path.read_bytes())
    data[-1] ^= 1
    changed.path.write_bytes(data)
    with pytest.raises(InvalidCheckpoint, match="is damaged"):
        store.read(newest(store))


def test_another_format_is_named_and_left_alone(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.write(record(2).model_copy(update={"format": 99}), STATE)
    assert newest(store).step == 1
    assert "it has format 99" in caplog.text
    assert other.path.exists()
