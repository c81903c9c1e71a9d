"""The connections to a ledger's SQLite file.

There are two kinds of writes, and every method of a table says which it is:

- *durable*: synced to disk when the method returns. For what clients rely on.
- *grouped*: safe from a killed process when the method returns, and from a power cut some moments
  later. For records of planned steps, which are computed again if they are lost.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from omega21.data.failures import kind_of
from omega21.engine.storage.schema import FORMAT, TABLES
from omega21.language import _
from omega21.protocol.errors import DiskFull, RunFolderConflict, StorageFailure, StorageFull


class Database:
    """One SQLite file. Thread-safe: each kind of write has one connection, readers have a pool."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises RunFolderConflict for one of another kind or format."""
        self._path = path
        self._lock = threading.RLock()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._durable = self._connect()
            self._prepare()
            self._durable.execute("PRAGMA synchronous = FULL")
            self._grouped = self._connect()
            self._grouped.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.DatabaseError as error:
            self.close()
            raise RunFolderConflict(
                _("{path} cannot be read: {error}").format(path=path, error=error),
                hint=_("restore it, or use another --data-dir"),
            ) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False
        )
        with self._lock:
            self._connections.append(connection)
        return connection

    def _prepare(self) -> None:
        (version,) = self._durable.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            self.close()
            raise RunFolderConflict(
                _("{path} has format {found}, this omega21 reads {known}").format(
                    path=self._path, found=version, known=FORMAT
                ),
                hint=_("use the version of omega21 that wrote it, or another --data-dir"),
            )
        self._durable.execute("PRAGMA journal_mode = WAL")
        if version == 0:
            self._durable.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")

    def close(self) -> None:
        """Close every connection; no thread may be using one."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def durable(self) -> AbstractContextManager[sqlite3.Connection]:
        """Start a transaction that is on disk when it ends. Raises StorageFull, StorageFailure."""
        return self._transaction(self._durable)

    def grouped(self) -> AbstractContextManager[sqlite3.Connection]:
        """Start a transaction that is synced by later ones. Raises StorageFull, StorageFailure."""
        return self._transaction(self._grouped)

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    if (
                        connection.in_transaction
                    ):  # SQLite ends the transaction itself when the disk is full
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                kind = kind_of(error)
                if kind is None:
                    raise
                # A file-size limit is an I/O error to SQLite.
                full = kind in (DiskFull, StorageFailure)
                text = _("writing {name} failed: {error}").format(name=self._path.name, error=error)
                raise (StorageFull if full else kind)(text) from error

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """Read rows with a connection of the pool."""
        try:
            connection = self._readers.get_nowait()
        except Empty:
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
        try:
            return connection.execute(sql, arguments).fetchall()
        finally:
            self._readers.put(connection)

    def row(self, sql: str, arguments: Sequence[Any] = ()) -> Any:
        """Read one row, None if there is none."""
        return next(iter(self.rows(sql, arguments)), None)
