"""The results of a run on this machine: one row a step in an SQLite file, opened by any tool.

A replayed row is compared with the one there, not added. Where one differs, the new one holds from
that step on, and the old ones are handed back for the log. Digests are chained, so comparing them
compares everything up to that step.

Metrics are JSON objects in the tables and columns of the view `results`, which is for people who
open the file in an SQLite browser. Beside the steps are the environments in which they were
computed (table `environments`), the digests of the weights that are known (`weights`), every
evaluation (`evaluations`), and what each held-out sample scored in the newest one (`scores`).
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omega21.client.store.result_tables import (
    MAX_COLUMNS,
    RESULTS_FORMAT,
    Of,
    Series,
    StoredEvaluation,
    make_tables,
    make_view,
    metric_names,
    to_columns,
    to_fields,
    value_of,
)
from omega21.client.store.summary import Scored
from omega21.data.durable import make_private_file
from omega21.data.failures import kind_of, storage_failure
from omega21.language import _
from omega21.protocol.digests import CHAIN_START
from omega21.protocol.errors import OmegaError, RunFolderConflict
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.runs import Environment
from omega21.protocol.steps import StepRecord

_COLUMNS: Final = (
    *("step", "loss", "samples", "digest", "ended_at", "seconds"),
    *("non_finite", "skipped", "micro_batch_size", "metrics"),
)
_ENVIRONMENT_COLUMNS: Final = tuple(Environment.model_fields)

# Constant names, no input.
_INSERT: Final = f"INSERT INTO steps VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM steps"  # noqa: S608
_INSERT_ENVIRONMENT: Final = (
    f"INSERT INTO environments VALUES ({', '.join('?' * len(_ENVIRONMENT_COLUMNS))})"  # noqa: S608
)
_SELECT_ENVIRONMENTS: Final = (
    f"SELECT {', '.join(_ENVIRONMENT_COLUMNS)} FROM environments ORDER BY from_step"  # noqa: S608
)
_EVALUATION_COLUMNS: Final = tuple(Evaluation.model_fields)
_INSERT_EVALUATION: Final = (
    f"INSERT OR REPLACE INTO evaluations ({', '.join(_EVALUATION_COLUMNS)}, segment, ended_at) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(_EVALUATION_COLUMNS) + 2))})"
)
_SELECT_EVALUATIONS: Final = (
    f"SELECT {', '.join(_EVALUATION_COLUMNS)}, segment, ended_at FROM evaluations "  # noqa: S608
    "WHERE step > ? ORDER BY step"
)
_READ_AT_ONCE: Final = 1000

BUSY_SECONDS: Final = 5.0
"""How long one try waits for another program that has the file open."""


class Results:
    """The step rows of one run; steps are 1, 2, … without a gap. Safe to use from any thread."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or make the file; `read_only`, beside a program that writes, open what is there.

        Raises RunFolderConflict for a damaged one or one of another format, and for none where it
        is only read.
        """
        self._lock = threading.Lock()
        self._path = path
        mode = "ro" if read_only else "rwc"
        try:
            if not read_only:
                make_private_file(path)
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                timeout=BUSY_SECONDS,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.OperationalError as error:
            raise _failure(path, error) from error
        try:
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            self._check_format(path, version, is_new=version == 0 and not read_only)
            self.last_step, self.last_digest = self._newest()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise _failure(path, error) from error
        except BaseException:
            self._db.close()
            raise

    def _check_format(self, path: Path, version: int, *, is_new: bool) -> None:
        """Make the tables of a new file; refuse those of another format."""
        if is_new:
            self._db.executescript(make_tables())
        elif version != RESULTS_FORMAT:
            raise RunFolderConflict(
                _("{path} has format {found}, this omega21 reads format {known}").format(
                    path=path, found=version, known=RESULTS_FORMAT
                ),
                hint=_("use the version of omega21 that wrote it, or train another run"),
            )

    def check(self) -> None:
        """Read everything once. Raises RunFolderConflict for a damaged file."""
        with self._using():
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _failure(self._path, sqlite3.DatabaseError(found))
        for _row in self.rows():
            pass
        self.evaluations()
        self.environments()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def put(self, rows: Sequence[StepRecord]) -> list[StepRecord]:
        """Store rows that are ascending and without a gap; on disk when it returns.

        Returns the rows that they replaced: those from the first that differs on.
        """
        displaced: list[StepRecord] = []
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
        with self._using():
            found = self._db.execute("SELECT digest FROM steps WHERE step = ?", [step]).fetchone()
        return None if found is None else str(found[0])

    def row(self, step: int) -> StepRecord | None:
        """Return one row."""
        return next(self.rows(first=step, last=step), None)

    def rows(self, *, first: int = 1, last: int | None = None) -> Iterator[StepRecord]:
        """Yield rows, ascending, some at a time."""
        last = self.last_step if last is None else last
        while first <= last:
            stop = min(first + _READ_AT_ONCE - 1, last)
            with self._using():
                found = self._db.execute(
                    f"{_SELECT} WHERE step BETWEEN ? AND ? ORDER BY step", [first, stop]
                ).fetchall()
            yield from (self._as_row(values) for values in found)
            first = stop + 1

    def non_finite_steps(self, *, first: int, last: int) -> list[int]:
        """Return the steps from `first` to `last` whose loss or gradient was not finite."""
        with self._using():
            found = self._db.execute(
                "SELECT step FROM steps WHERE non_finite AND step BETWEEN ? AND ?", [first, last]
            ).fetchall()
        return [step for (step,) in found]

    def seconds_per_step(self) -> float | None:
        """Return how long a step took on average, by the server's clock; None without rows."""
        with self._using():
            (found,) = self._db.execute("SELECT avg(seconds) FROM steps").fetchone()
        return None if found is None else float(found)

    def environments(self) -> list[Environment]:
        """Return the conditions under which the steps were computed, ascending."""
        with self._using():
            found = self._db.execute(_SELECT_ENVIRONMENTS).fetchall()
        return [
            Environment.model_validate(dict(zip(_ENVIRONMENT_COLUMNS, values, strict=True)))
            for values in found
        ]

    def put_environments(self, environments: Sequence[Environment]) -> None:
        """Replace the recorded conditions; on disk when it returns."""
        values = [
            [getattr(environment, name) for name in _ENVIRONMENT_COLUMNS]
            for environment in environments
        ]
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM environments")
            cursor.executemany(_INSERT_ENVIRONMENT, values)

    def put_weights(self, step: int, sha256: str) -> None:
        """Record the digest of the weights after a step; on disk when it returns."""
        with self._transaction() as cursor:
            cursor.execute("INSERT OR REPLACE INTO weights VALUES (?, ?)", [step, sha256])

    def weights(self, *, up_to: int) -> tuple[int, str] | None:
        """Return the newest recorded (step, digest of the weights) not after a step."""
        with self._using():
            found = self._db.execute(
                "SELECT step, sha256 FROM weights WHERE step <= ? ORDER BY step DESC LIMIT 1",
                [up_to],
            ).fetchone()
        return None if found is None else (int(found[0]), str(found[1]))

    def put_evaluation(self, scored: Scored, *, segment: int, ended_at: float) -> None:
        """Store an evaluation; its scores replace those of the one before. On disk on return."""
        evaluation = scored.evaluation
        scores: list[tuple[int, int, float, int]] = []
        if scored.scores is not None and scored.labels is not None:
            pairs = zip(scored.labels.tolist(), scored.scores.tolist(), strict=True)
            scores = [
                (sample, int(label), score, evaluation.step)
                for sample, (label, score) in enumerate(pairs)
            ]
        with self._transaction() as cursor:
            self._add_names(cursor, "evaluation", [evaluation.metrics])
            values = [*to_columns(evaluation, _EVALUATION_COLUMNS), segment, ended_at]
            cursor.execute(_INSERT_EVALUATION, values)
            cursor.execute("DELETE FROM scores")
            cursor.executemany("INSERT INTO scores VALUES (?, ?, ?, ?)", scores)

    def evaluations(self, *, after: int = 0) -> list[StoredEvaluation]:
        """Return the evaluations of steps after `after`, ascending."""
        with self._using():
            found = self._db.execute(_SELECT_EVALUATIONS, [after]).fetchall()
            return [
                StoredEvaluation(
                    Evaluation(**to_fields(_EVALUATION_COLUMNS, values)),
                    *values[len(_EVALUATION_COLUMNS) :],
                )
                for values in found
            ]

    def scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (scores, labels), both [n], of the held-out samples in the newest evaluation.

        Without those whose score is not finite.
        """
        with self._using():
            found = self._db.execute(
                "SELECT score, label FROM scores WHERE score IS NOT NULL ORDER BY sample"
            ).fetchall()
        table = np.array(found, np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def put_vectors(self, steps: Sequence[int], vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the vectors, each [n, size] of n steps; on disk when it returns."""
        values = [
            (name, step, row.astype("<f4").tobytes())
            for name, rows in vectors.items()
            for step, row in zip(steps, rows, strict=True)
        ]
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM vectors")
            cursor.executemany("INSERT INTO vectors VALUES (?, ?, ?)", values)

    def vectors(self) -> dict[str, tuple[list[int], NDArray[np.float32]]]:
        """Return each vector as (steps [n], values [n, size])."""
        found: dict[str, tuple[list[int], list[bytes]]] = {}
        with self._using():
            for name, step, vector in self._db.execute("SELECT * FROM vectors ORDER BY name, step"):
                steps, rows = found.setdefault(name, ([], []))
                steps.append(step)
                rows.append(vector)
            return {
                name: (steps, np.frombuffer(b"".join(rows), "<f4").reshape(len(steps), -1))
                for name, (steps, rows) in found.items()
            }

    def table(self) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """Return the columns of the view `results`, and its rows, some at a time."""
        with self._using():
            found = self._db.execute("SELECT * FROM results LIMIT 0")
        columns = [column[0] for column in found.description]

        def rows() -> Iterator[list[tuple[Any, ...]]]:
            for first in range(1, self.last_step + 1, _READ_AT_ONCE):
                bounds = [first, first + _READ_AT_ONCE - 1]
                with self._using():
                    some = self._db.execute(
                        "SELECT * FROM results WHERE step BETWEEN ? AND ? ORDER BY step", bounds
                    ).fetchall()
                yield some

        return columns, rows()

    def metric_names(self, kind: Of) -> list[str]:
        """Return the names of the metrics that have a column, in the order of their arrival."""
        with self._using():
            return metric_names(self._db, kind)

    def series(self) -> Series:
        """Return the results as arrays."""
        names = self.metric_names("step")
        columns = ("step", "loss", "samples", "seconds")
        wanted = ", ".join((*columns, *(value_of(name, table="steps") for name in names)))
        with self._using():
            found = self._db.execute(
                f"SELECT {wanted} FROM steps ORDER BY step"  # noqa: S608 - names have a pattern
            ).fetchall()
        table = np.array(found, np.float64).reshape(-1, len(columns) + len(names)).T
        step, loss, samples, seconds, *metrics = table
        return Series(step, loss, samples, seconds, dict(zip(names, metrics, strict=True)))

    def _add_names(
        self, cursor: sqlite3.Cursor, kind: Of, metrics: Iterable[Mapping[str, object]]
    ) -> None:
        """Give each metric of a new name a column of the view."""
        known = metric_names(cursor, kind)
        found = dict.fromkeys([*known, *(name for values in metrics for name in values)])
        new = list(found)[len(known) : MAX_COLUMNS]
        if not new:
            return
        cursor.executemany(
            "INSERT INTO metrics (kind, name) VALUES (?, ?)", [(kind, name) for name in new]
        )
        cursor.execute("DROP VIEW results")
        cursor.execute(make_view(metric_names(cursor, "step"), metric_names(cursor, "evaluation")))

    def _add(self, rows: Sequence[StepRecord], *, cut_from: int | None = None) -> None:
        """Add rows in one transaction, after removing those from a step on."""
        start = self.last_step + 1 if cut_from is None else cut_from
        steps = [row.step for row in rows]
        if steps != list(range(start, start + len(rows))):
            raise ValueError(f"rows {steps[:3]}… do not follow step {start - 1}")
        with self._transaction() as cursor:
            if cut_from is not None:
                cursor.execute("DELETE FROM steps WHERE step >= ?", [cut_from])
                for table in ("weights", "evaluations", "scores", "vectors"):
                    cursor.execute(f"DELETE FROM {table} WHERE step >= ?", [cut_from])  # noqa: S608 - constant names
            self._add_names(cursor, "step", (row.metrics for row in rows))
            cursor.executemany(_INSERT, [to_columns(row, _COLUMNS) for row in rows])
        self.last_step, self.last_digest = rows[-1].step, rows[-1].digest

    def _as_row(self, values: Sequence[Any]) -> StepRecord:
        try:
            return StepRecord.model_validate(to_fields(_COLUMNS, values))
        except ValueError as error:  # a ValidationError is one, and broken JSON
            raise _failure(self._path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._using(), closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it itself when the disk is full
                    cursor.execute("ROLLBACK")
                raise

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Hold the file; raise what goes wrong with it as what it is."""
        with self._lock:
            try:
                yield
            except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
                raise  # a bug, and no matter of the disk
            except (sqlite3.Error, ValueError) as error:
                raise _failure(self._path, error) from error

    def _newest(self) -> tuple[int, str]:
        found = self._db.execute(
            "SELECT step, digest FROM steps ORDER BY step DESC LIMIT 1"
        ).fetchone()
        return (0, CHAIN_START) if found is None else (int(found[0]), str(found[1]))


def _failure(path: Path, error: sqlite3.Error | ValueError) -> OmegaError:
    """Tell a disk that refuses, and a lock, from a file that is damaged."""
    if isinstance(error, sqlite3.Error) and kind_of(error) is not None and path.exists():
        return storage_failure(error, path)
    reason = error if isinstance(error, sqlite3.Error) else type(error).__name__
    return RunFolderConflict(
        _("{path} cannot be read: {error}").format(path=path, error=reason),
        hint=_("restore it from a copy"),
    )
