"""Writes that survive a power cut: a whole file or none, and appended lines."""

import os
import sys
import tempfile
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file; when this returns it is on disk, and at no time is half of it there.

    A temporary file beside it is written, flushed and synced, then put in its place, and the
    folder is synced where the platform has that.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
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


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - not on every platform

        # There fsync leaves the data in the drive's own memory.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and journals its folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
