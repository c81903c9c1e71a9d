"""Errors of the disk by kind: full, locked, not permitted, read-only, no locks.

Each has its own hint. Any other one is a StorageFailure.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from omega21.protocol.errors import (
    DiskFull,
    FileLocked,
    LocksUnsupported,
    OmegaError,
    PermissionDenied,
    ReadOnlyStorage,
    StorageFailure,
    StorageFull,
)

_OF_ERRNO: Final[Mapping[int, type[StorageFailure]]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), DiskFull),
    **dict.fromkeys((errno.EACCES, errno.EPERM), PermissionDenied),
    errno.EROFS: ReadOnlyStorage,
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), LocksUnsupported),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY, errno.EDEADLK), FileLocked),
    errno.EIO: StorageFailure,
}
_OF_WINDOWS: Final = {32: FileLocked, 33: FileLocked, 39: DiskFull, 112: DiskFull}
_OF_SQLITE: Final[Mapping[int, type[StorageFailure]]] = {
    sqlite3.SQLITE_BUSY: FileLocked,
    sqlite3.SQLITE_LOCKED: FileLocked,
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_READONLY: ReadOnlyStorage,
    sqlite3.SQLITE_PERM: PermissionDenied,
    sqlite3.SQLITE_AUTH: PermissionDenied,
    sqlite3.SQLITE_NOLFS: DiskFull,
    sqlite3.SQLITE_CANTOPEN: StorageFailure,
    sqlite3.SQLITE_IOERR: StorageFailure,
}
_LOCKING: Final = frozenset({sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK})
_PRIMARY: Final = 0xFF  # the other bits of an extended code are details


def kind_of(error: OSError | sqlite3.Error) -> type[StorageFailure] | None:
    """Return the kind of an error of the system or of SQLite; None if it is not one of the disk.

    A missing file is not a failure of the disk.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        return LocksUnsupported if code in _LOCKING else _OF_SQLITE.get(code & _PRIMARY)
    found = _OF_WINDOWS.get(getattr(error, "winerror", None) or 0)
    return found or _OF_ERRNO.get(error.errno or 0)


def storage_failure(
    error: OSError | sqlite3.Error, where: str | Path | None = None
) -> StorageFailure:
    """Return the StorageFailure for an error: which file, what is wrong, what to do."""
    kind = kind_of(error) or StorageFailure
    reason, place = str(error), where
    if isinstance(error, OSError):
        reason = error.strerror or reason
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else where
    return kind(f"{place}: {reason}" if place is not None else reason)


def refused_write(error: OSError | sqlite3.Error, message: str) -> OmegaError:
    """Return the error of a server's disk: a full disk can be retried later."""
    kind = kind_of(error) or StorageFailure
    return StorageFull(message, retry_after=30) if kind is DiskFull else kind(message)


@contextmanager
def told_apart(where: Path) -> Iterator[None]:
    """Convert errors of the disk that are raised inside to StorageFailure."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if kind_of(error) is None:
            raise
        raise storage_failure(error, where) from error


def os_error_in(error: BaseException) -> OSError | None:
    """Return the OSError that an error is, or was caused by.

    A zip writer that cannot write its end raises an error of its own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and kind_of(seen) is not None:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
