"""Writes that survive a killed process and a power cut: whole files or none, appended lines."""

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

_MODE = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)  # what `open` asks for too


def write_durably(
    path: Path, data: bytes | Iterable[bytes | memoryview], *, private: bool = False
) -> None:
    """Write `path` so that it is either whole or not there; on return it is on disk.

    A temporary file in the same folder is written, flushed, synced and renamed over `path`, and
    the folder is synced where the platform has that. A write that fails leaves what was there, and
    no temporary file. Only the user can read a `private` file. Raises OSError.
    """
    chunks = (data,) if isinstance(data, bytes) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _MODE
        descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            _sync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_durably(path: Path, line: bytes) -> None:
    """Append a line to a file; when this returns it is on disk.

    A line that an earlier crash left unfinished stays one line of its own.
    """
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        file.flush()
        _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable; Windows has no such call and journals them."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - not on every platform

        # There fsync leaves the data in the drive's own memory.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
