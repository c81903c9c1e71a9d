"""File locks that end with their process and keep two programs from using one folder."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from omega21.data.failures import told_apart
from omega21.language import _
from omega21.protocol.errors import LocksUnsupported

if TYPE_CHECKING:
    import filelock


def hold_lock(path: Path) -> "filelock.BaseFileLock | None":
    """Lock a file, creating it if needed; None when another program holds the lock.

    Raises LocksUnsupported on a file system without locks: a lock file in their place would
    outlive a killed program. Raises StorageFailure when the file cannot be created.
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
    if isinstance(lock, filelock.SoftFileLock):  # newer versions fall back to this with a warning
        lock.release()
        raise _no_locks(path)
    return lock


def _no_locks(path: Path) -> LocksUnsupported:
    return LocksUnsupported(_("{path}: the file system does not support locks").format(path=path))
