"""Durable writes: atomic files and appended lines that survive a killed process and a power cut.

Files are readable by their user only (0600, folders 0700): they contain samples, weights and
tokens, and a machine with a GPU has other users. On Windows a user's folders are private by
default.
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
    """Set the process's umask so that all files it creates are private to the user.

    Only for a process of omega21's own, a command or a server.
    """
    os.umask(_OTHERS)


def make_private_folder(path: Path) -> None:
    """Create a private folder and its missing parents; restrict an existing one to the user.

    A folder of another user, and a shared one (`/tmp`), stay unchanged. The names of new folders
    are on disk on return. Raises OSError.
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
    """Open a file for writing bytes as `open` does; a new one is readable by the user only."""
    opened = open(path, mode, opener=lambda name, flags: os.open(name, flags, _FILE))  # noqa: SIM115
    return cast(BinaryIO, opened)


def make_private_file(path: Path) -> None:
    """Create an empty private file, unless it exists, for other code to open. Raises OSError."""
    open_private(path, "ab").close()


@contextmanager
def opened_durably(path: Path) -> Iterator[BinaryIO]:
    """Write `path` atomically; it is on disk when the context exits.

    A temporary file in the same folder is written, flushed, synced and renamed over `path`, and
    the folder is synced where the platform supports it. A write that fails leaves the old file and
    no temporary one. The file is readable by the user only. Raises OSError, which names `path`.
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
    """Rename a file or folder whose content is synced; the new name is on disk on return."""
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError raised inside: the error of a write names no file."""
    try:
        yield
    except Exception as error:
        # A notebook creates folders before the packages that the errors need are installed.
        from omega21.data.failures import os_error_in  # noqa: PLC0415

        found = os_error_in(error)
        if found is None:
            raise
        named = OSError(found.errno, found.strerror, str(path))
        raise named from error


def append_durably(path: Path, line: bytes) -> None:
    """Append a line to a file; it is on disk on return.

    A line that an earlier crash left incomplete stays a line of its own.
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
    """Sync a file to disk."""
    file.flush()
    _sync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Sync a folder and everything in it to disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("r+b") as file:  # Windows syncs only files that are open for writing
                sync_file(file)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable; on Windows the file system's journal does."""
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

        # On macOS fsync leaves the data in the drive's cache.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
