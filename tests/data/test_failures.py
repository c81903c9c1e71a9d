"""Errors of the system and of SQLite are told apart by their number."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from omega21.data.durable import opened_durably, write_durably
from omega21.data.failures import kind_of, storage_failure
from omega21.protocol.errors import (
    DiskFull,
    FileLocked,
    LocksUnsupported,
    PermissionDenied,
    ReadOnlyStorage,
    StorageFailure,
)

KINDS: dict[int, type[StorageFailure] | None] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: ReadOnlyStorage,
    errno.ENOLCK: LocksUnsupported,
    errno.ENOSYS: LocksUnsupported,
    errno.EBUSY: FileLocked,
    errno.EIO: StorageFailure,
    errno.ENOENT: None,
}
SQLITE = {
    sqlite3.SQLITE_BUSY: FileLocked,
    sqlite3.SQLITE_BUSY_SNAPSHOT: FileLocked,
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_READONLY_DIRECTORY: ReadOnlyStorage,
    sqlite3.SQLITE_IOERR_LOCK: LocksUnsupported,
    sqlite3.SQLITE_IOERR_WRITE: StorageFailure,
    sqlite3.SQLITE_CORRUPT: None,
    sqlite3.SQLITE_ERROR: None,
}


@pytest.mark.parametrize(("number", "kind"), KINDS.items())
def test_of_the_system(number: int, kind: type[StorageFailure] | None) -> None:
    error = OSError(number, os.strerror(number), "a/b")
    assert kind_of(error) is kind
    told = storage_failure(error)
    assert told.message == f"a/b: {os.strerror(number)}"
    assert told.hint
    assert ("free space" in told.hint) is (kind is DiskFull)


@pytest.mark.parametrize(("number", "kind"), SQLITE.items())
def test_of_sqlite(number: int, kind: type[StorageFailure] | None) -> None:
    error = sqlite3.OperationalError("why")
    error.sqlite_errorcode = number
    assert kind_of(error) is kind


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_names_the_file_and_leaves_what_was_there(
    number: int, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    write_durably(path, b"before")

    def fail() -> None:
        with opened_durably(path) as file:
            file.write(b"half")
            try:
                raise OSError(number, os.strerror(number))
            finally:
                raise ValueError("the archive cannot be closed")  # as zipfile says it

    with pytest.raises(OSError, match="kept") as caught:
        fail()
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
