"""Writes that survive a killed process and a power cut: whole files or none, appended lines.

What is written is its user's alone (0600, folders 0700): samples, weights and tokens are among it,
and a machine with a GPU has other users. Windows keeps a user's folders from others by itself.
"""

import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

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
    (`/tmp`). The names of new ones are on disk on return. Raises OSError.
    """
    for lacking in [one for one in (*reversed(path.parents), path) if not one.exists()]:
        lacking.mkdir(mode=_FOLDER, exist_ok=True)
        sync_folder(lacking.parent)
    path.mkdir(mode=_FOLDER, exist_ok=True)  # raises where it is a file
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


@contextmanager
def opened_durably(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it is either whole or not there; on leaving it is on disk.

    A temporary file in the same folder is written, flushed, synced and renamed over `path`, and
    the folder is synced where the platform has that. A write that fails leaves what was there, and
    no temporary file. Only the user can read it. Raises OSError, which names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with naming(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | _MODE
            with os.fdopen(os.open(temporary, flags, _FILE), "w+b") as file:
                yield file
                sync_file(file)
            put_in_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write `path` as `opened_durably` does. Raises OSError, which names `path`."""
    with opened_durably(path) as file:
        for chunk in (data,) if isinstance(data, bytes) else data:
            file.write(chunk)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file or folder whose content is synced; on return the name is on disk."""
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let what the disk refuses inside name `path`: a write's own error names no file."""
    try:
        yield
    except Exception as error:
        # A notebook makes its folders before what the errors need is installed.
        from omega21.data.failures import os_error_in  # noqa: PLC0415

        found = os_error_in(error)
        if found is None:
            raise
        named = OSError(found.errno, found.strerror, str(path))
        raise named from error


def append_durably(path: Path, line: bytes) -> None:
    """Append a line to a file; when this returns it is on disk.

    A line that an earlier crash left unfinished stays one line of its own.
    """
    with naming(path), open_private(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        sync_file(file)
    if not end:
        sync_folder(path.parent)  # its name, which is new


def sync_file(file: IO[bytes]) -> None:
    """Bring what was written to a file to the disk."""
    file.flush()
    _sync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Bring a folder, and all that is in it, to the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("r+b") as file:  # Windows syncs only what it may write
                sync_file(file)
    sync_folder(folder)


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
