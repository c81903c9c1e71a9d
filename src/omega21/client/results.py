"""The results of a run on this machine: one row a step in an SQLite file, opened by any tool.

A replayed row is compared with the one there, not added. Where one differs, the new one holds from
that step on, and the old ones are handed back for the log. Digests are chained, so comparing them
compares everything up to that step.

Beside them are the conditions under which stretches of steps were computed (table `stretches`), and
the digests of the weights that are known (table `weights`).
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from omega21.protocol.digests import CHAIN_START
from omega21.protocol.errors import RunFolderConflict
from omega21.protocol.runs import Stretch
from omega21.protocol.steps import StepRow

RESULTS_FORMAT: Final = 2

_COLUMNS: Final = (
    *("step", "loss", "anomaly_prob", "samples", "digest"),
    *("ended_at", "seconds", "refused", "skipped", "part_size"),
)
_STRETCH_COLUMNS: Final = tuple(Stretch.model_fields)
_CREATE_STEPS: Final = """
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, loss REAL, anomaly_prob REAL, samples INTEGER NOT NULL,
    digest TEXT NOT NULL, ended_at REAL NOT NULL, seconds REAL NOT NULL,
    refused INTEGER NOT NULL, skipped INTEGER NOT NULL, part_size INTEGER
) STRICT;
"""
_CREATE_CONDITIONS: Final = """
CREATE TABLE stretches (
    from_step INTEGER PRIMARY KEY, device TEXT NOT NULL, precision TEXT NOT NULL,
    deterministic INTEGER NOT NULL, threads INTEGER NOT NULL,
    torch_version TEXT NOT NULL, omega21_version TEXT NOT NULL
) STRICT;
CREATE TABLE weights (step INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT;
"""
# Constant names, no input.
_INSERT: Final = f"INSERT INTO steps VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM steps"  # noqa: S608
_INSERT_STRETCH: Final = f"INSERT INTO stretches VALUES ({', '.join('?' * len(_STRETCH_COLUMNS))})"  # noqa: S608
_SELECT_STRETCHES: Final = f"SELECT {', '.join(_STRETCH_COLUMNS)} FROM stretches ORDER BY from_step"  # noqa: S608
_READ_AT_ONCE: Final = 1000


class Results:
    """The step rows of one run; steps are 1, 2, … without a gap. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises RunFolderConflict for a damaged or a newer one."""
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise RunFolderConflict(
                f"{path} cannot be read: {error}", hint="restore it from a copy"
            ) from error
        if version > RESULTS_FORMAT:
            self._db.close()
            raise RunFolderConflict(
                f"{path} has format {version}, this omega21 reads up to {RESULTS_FORMAT}",
                hint="use the version of omega21 that wrote it, or a newer one",
            )
        if version < RESULTS_FORMAT:
            create = _CREATE_CONDITIONS if version else _CREATE_STEPS + _CREATE_CONDITIONS
            self._db.executescript(
                f"BEGIN; {create} PRAGMA user_version = {RESULTS_FORMAT}; COMMIT;"
            )
        self.last_step, self.last_digest = self._newest()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def put(self, rows: Sequence[StepRow]) -> list[StepRow]:
        """Store rows that are ascending and without a gap; on disk when it returns.

        Returns the rows that they replaced: those from the first that differs on.
        """
        displaced: list[StepRow] = []
        for place, row in enumerate(rows):
            if row.step > self.last_step:
                self._add(rows[place:])
                break
            if self.digest(row.step) != row.digest:
                displaced = list(self.rows(first=row.step))
                self._add(rows[place:], cut_from=row.step)
                break
        return displaced

    def digest(self, step: int) -> str | None:
        """Return the chained digest after a step, or None when it is not here."""
        if step == 0:
            return CHAIN_START
        with self._lock:
            found = self._db.execute("SELECT digest FROM steps WHERE step = ?", [step]).fetchone()
        return None if found is None else str(found[0])

    def row(self, step: int) -> StepRow | None:
        """Return one row."""
        return next(self.rows(first=step, last=step), None)

    def rows(self, *, first: int = 1, last: int | None = None) -> Iterator[StepRow]:
        """Yield rows, ascending, some at a time."""
        last = self.last_step if last is None else last
        while first <= last:
            stop = min(first + _READ_AT_ONCE - 1, last)
            with self._lock:
                found = self._db.execute(
                    f"{_SELECT} WHERE step BETWEEN ? AND ? ORDER BY step", [first, stop]
                ).fetchall()
            yield from (_as_row(values) for values in found)
            first = stop + 1

    def seconds_per_step(self) -> float | None:
        """Return how long a step took on average, by the server's clock; None without rows."""
        with self._lock:
            (found,) = self._db.execute("SELECT avg(seconds) FROM steps").fetchone()
        return None if found is None else float(found)

    def stretches(self) -> list[Stretch]:
        """Return the conditions under which the steps were computed, ascending."""
        with self._lock:
            found = self._db.execute(_SELECT_STRETCHES).fetchall()
        return [
            Stretch.model_validate(dict(zip(_STRETCH_COLUMNS, values, strict=True)))
            for values in found
        ]

    def put_stretches(self, stretches: Sequence[Stretch]) -> None:
        """Replace the recorded conditions; on disk when it returns."""
        values = [[getattr(stretch, name) for name in _STRETCH_COLUMNS] for stretch in stretches]
        with self._lock, self._transaction() as cursor:
            cursor.execute("DELETE FROM stretches")
            cursor.executemany(_INSERT_STRETCH, values)

    def put_weights(self, step: int, sha256: str) -> None:
        """Record the digest of the weights after a step; on disk when it returns."""
        with self._lock, self._transaction() as cursor:
            cursor.execute("INSERT OR REPLACE INTO weights VALUES (?, ?)", [step, sha256])

    def weights(self, *, up_to: int) -> tuple[int, str] | None:
        """Return the newest recorded (step, digest of the weights) not after a step."""
        with self._lock:
            found = self._db.execute(
                "SELECT step, sha256 FROM weights WHERE step <= ? ORDER BY step DESC LIMIT 1",
                [up_to],
            ).fetchone()
        return None if found is None else (int(found[0]), str(found[1]))

    def _add(self, rows: Sequence[StepRow], *, cut_from: int | None = None) -> None:
        """Add rows in one transaction, after removing those from a step on."""
        start = self.last_step + 1 if cut_from is None else cut_from
        steps = [row.step for row in rows]
        if steps != list(range(start, start + len(rows))):
            raise ValueError(f"rows {steps[:3]}… do not follow step {start - 1}")
        with self._lock:
            with self._transaction() as cursor:
                if cut_from is not None:
                    cursor.execute("DELETE FROM steps WHERE step >= ?", [cut_from])
                    cursor.execute("DELETE FROM weights WHERE step >= ?", [cut_from])
                cursor.executemany(_INSERT, [_as_values(row) for row in rows])
            self.last_step, self.last_digest = rows[-1].step, rows[-1].digest

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _newest(self) -> tuple[int, str]:
        found = self._db.execute(
            "SELECT step, digest FROM steps ORDER BY step DESC LIMIT 1"
        ).fetchone()
        return (0, CHAIN_START) if found is None else (int(found[0]), str(found[1]))


def _as_values(row: StepRow) -> list[object]:
    return [getattr(row, name) for name in _COLUMNS]


def _as_row(values: Sequence[Any]) -> StepRow:
    return StepRow.model_validate(dict(zip(_COLUMNS, values, strict=True)))
