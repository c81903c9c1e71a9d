"""Requests and bytes by calendar month, in one small SQLite file that programs may share.

Each addition is one transaction: two programs may count at the same time, and what a killed
program had not added yet is lost, never counted twice. The file is opened for each addition only.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_WAIT_SECONDS: Final = 1.0
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS traffic (name TEXT, month TEXT, requests INTEGER, "
    "bytes_in INTEGER, bytes_out INTEGER, PRIMARY KEY (name, month)) WITHOUT ROWID"
)
_ADD: Final = (
    "INSERT INTO traffic VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "requests = requests + excluded.requests, bytes_in = bytes_in + excluded.bytes_in, "
    "bytes_out = bytes_out + excluded.bytes_out"
)
_READ: Final = "SELECT requests, bytes_in, bytes_out FROM traffic WHERE month = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests, and bytes towards the server (`bytes_in`) and from it."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.requests + other.requests,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
        )

    def __sub__(self, other: "Counted") -> "Counted":
        return Counted(
            self.requests - other.requests,
            self.bytes_in - other.bytes_in,
            self.bytes_out - other.bytes_out,
        )


class TrafficLedger:
    """The traffic counted under a name (a server), by calendar month (UTC)."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def month(self) -> str:
        """Return the current month, such as 2025-01."""
        return time.strftime("%Y-%m", time.gmtime(self._clock()))

    def add(self, name: str, counted: Counted) -> None:
        """Add to the current month; the file contains it on return.

        Raises sqlite3.Error or OSError when the file cannot be written; nothing is added then.
        """
        with self._opened() as db, db:
            db.execute(
                _ADD, [name, self.month(), counted.requests, counted.bytes_in, counted.bytes_out]
            )

    def read(self, name: str) -> Counted:
        """Return the counts of the current month; zeros without a file. Raises as `add`."""
        if not self._path.exists():
            return Counted()
        with self._opened() as db:
            found = db.execute(_READ, [self.month(), name]).fetchone()
        return Counted(*found) if found else Counted()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_CREATE)
            yield db
