"""Locks that end with the process that holds them, and keep two programs from one folder."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from omega21.data.failures import told_apart
from omega21.language import _
from omega21.protocol.errors import LocksUnsupported

if TYPE_CHECKING:
    import filelock


def hold_lock(path: Path) -> "filelock.BaseFileLock | None":
    """Lock a file, which is made where there is none; None when another program holds it.

    Raises LocksUnsupported on a file system without locks: a file that stands for one outlives a
    program that is killed. Raises StorageFailure where the file cannot be made.
    """
    import filelock  # noqa: PLC0415 - a tenth of what importing the client costs

    lock: filelock.BaseFileLock = filelock.FileLock(path, thread_local=False, mode=0o600)
    try:
        with told_apart(path), warnings.catch_warnings(action="ignore"):
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        if isinstance(lock, filelock.SoftFileLock):
            raise _no_locks(path) from error
        return None
    except NotImplementedError as error:
        raise _no_locks(path) from error
    if isinstance(lock, filelock.SoftFileLock):  # what newer ones turn to, and warn of
        lock.release()
        raise _no_locks(path)
    return lock


def _no_locks(path: Path) -> LocksUnsupported:
    return LocksUnsupported(_("{path}: the file system has no locks").format(path=path))
