"""Writes that survive a killed process and a power cut: whole files or none, appended lines.

What is written is its user's alone (0600, folders 0700): samples, weights and tokens are among it,
and a machine with a GPU has other users. Windows keeps a user's folders from others by itself.
"""

import os
import stat
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

_MODE = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)  # what `open` asks for too
_FILE = 0o600
_FOLDER = 0o700
_OTHERS = 0o077


def keep_to_user() -> None:
    """Keep others from what this process makes, third parties' files in it too.

    For a process that is omega21's own, a command or a server: it holds for all of it.
    """
    os.umask(_OTHERS)


def make_private_folder(path: Path) -> None:
    """Make a folder of ours, and those above it that are lacking; one that is there is tightened.

    The one of another user is left as it is, and so is one that others write to by its nature
    (`/tmp`). Raises OSError.
    """
    for lacking in [one for one in reversed(path.parents) if not one.exists()]:
        lacking.mkdir(mode=_FOLDER, exist_ok=True)
    path.mkdir(mode=_FOLDER, exist_ok=True)
    if os.name != "posix":
        return
    found = path.stat()
    is_shared = found.st_mode & stat.S_ISVTX
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS and not is_shared:
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)


def open_private(path: Path, mode: str) -> BinaryIO:
    """Open a file for writing bytes as `open` does; only the user can read one that it makes."""
    opened = open(path, mode, opener=lambda name, flags: os.open(name, flags, _FILE))  # noqa: SIM115
    return cast(BinaryIO, opened)


def make_private_file(path: Path) -> None:
    """Make an empty file for somebody else to open, where there is none. Raises OSError."""
    open_private(path, "ab").close()


def write_durably(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write `path` so that it is either whole or not there; on return it is on disk.

    A temporary file in the same folder is written, flushed, synced and renamed over `path`, and
    the folder is synced where the platform has that. A write that fails leaves what was there, and
    no temporary file. Only the user can read it. Raises OSError.
    """
    chunks = (data,) if isinstance(data, bytes) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _MODE
        descriptor = os.open(temporary, flags, _FILE)
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
    with open_private(path, "a+b") as file:
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
