"""The tables of results.sqlite, and the number of their format.

Metrics are stored as JSON objects. The names that occurred are in the table `metrics`; the view
`results` has a column for each, so it is made again when there is a new name.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.evaluations import Evaluation
from omega21.protocol.metrics import MAX_METRICS
from omega21.protocol.steps import StepRecord

RESULTS_FORMAT: Final = 6

Of = Literal["step", "evaluation"]
"""Whether a metric is one of steps, or one of evaluations."""

MAX_COLUMNS: Final = 2 * MAX_METRICS
"""Maximum number of metrics of steps, and of evaluations, that get a column."""

_TABLES: Final = """
CREATE TABLE steps (
    step INTEGER PRIMARY KEY, loss REAL, samples INTEGER NOT NULL, digest TEXT NOT NULL,
    ended_at REAL NOT NULL, seconds REAL NOT NULL, non_finite INTEGER NOT NULL,
    skipped INTEGER NOT NULL, micro_batch_size INTEGER, metrics TEXT NOT NULL
) STRICT;
CREATE TABLE environments (
    from_step INTEGER PRIMARY KEY, device TEXT NOT NULL, precision TEXT NOT NULL,
    deterministic INTEGER NOT NULL, threads INTEGER NOT NULL,
    torch_version TEXT NOT NULL, omega21_version TEXT NOT NULL
) STRICT;
CREATE TABLE weights (step INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT;
CREATE TABLE evaluations (
    step INTEGER PRIMARY KEY, samples INTEGER NOT NULL, not_finite INTEGER NOT NULL, loss REAL,
    metrics TEXT NOT NULL, segment INTEGER NOT NULL, ended_at REAL NOT NULL
) STRICT;
CREATE TABLE scores (
    sample INTEGER PRIMARY KEY, label INTEGER NOT NULL, score REAL, step INTEGER NOT NULL
) STRICT;
CREATE TABLE vectors (
    name TEXT NOT NULL, step INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (name, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE metrics (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name)
) STRICT;
"""
_VIEW: Final = """
CREATE VIEW results AS
SELECT
    steps.step, steps.loss, {metrics} steps.samples, steps.seconds,
    steps.samples / nullif(steps.seconds, 0) AS samples_per_second,
    datetime(steps.ended_at, 'unixepoch') AS ended_at_utc,
    CASE WHEN non_finite THEN 'non-finite' WHEN skipped THEN 'skipped' ELSE 'applied' END
        AS outcome,
    evaluations.loss AS evaluation_loss {evaluated}
FROM steps LEFT JOIN evaluations USING (step);
"""


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """An evaluation, the segment whose held-out samples it scored, and when (since 1970)."""

    evaluation: Evaluation
    segment: int
    ended_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The results of all steps as arrays [n]; NaN where a step has none."""

    step: NDArray[np.float64]
    loss: NDArray[np.float64]
    samples: NDArray[np.float64]
    seconds: NDArray[np.float64]
    metrics: dict[str, NDArray[np.float64]]


def value_of(name: str, *, table: str) -> str:
    """Return the SQL expression of a metric; its name has the pattern of one, so no quotes."""
    return f"""json_extract({table}.metrics, '$."{name}"')"""


def make_view(steps: Sequence[str], evaluations: Sequence[str]) -> str:
    """Return the SQL of the view `results`, with a column for each metric."""
    columns = _columns(steps, table="steps", prefix="metric_")
    evaluated = _columns(evaluations, table="evaluations", prefix="evaluation_")
    return _VIEW.format(
        metrics="".join(f"{column}, " for column in columns),
        evaluated="".join(f", {column}" for column in evaluated),
    )


def _columns(names: Iterable[str], *, table: str, prefix: str) -> list[str]:
    return [f'{value_of(name, table=table)} AS "{prefix}{name}"' for name in names]


def make_tables() -> str:
    """Return the SQL that makes the tables of a new file."""
    return f"BEGIN; {_TABLES} {make_view((), ())} PRAGMA user_version = {RESULTS_FORMAT}; COMMIT;"


def metric_names(db: sqlite3.Connection | sqlite3.Cursor, kind: Of) -> list[str]:
    """Return the names of metrics in the order of their arrival."""
    found = db.execute("SELECT name FROM metrics WHERE kind = ? ORDER BY position", [kind])
    return [str(name) for (name,) in found.fetchall()]


def to_columns(message: StepRecord | Evaluation, columns: Sequence[str]) -> list[object]:
    """Return a message's fields as they are stored: metrics as JSON."""
    fields = [getattr(message, name) for name in columns]
    return [json.dumps(value) if isinstance(value, dict) else value for value in fields]


def to_fields(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return stored values by the name of their field."""
    fields = dict(zip(columns, values, strict=False))
    return {**fields, "metrics": json.loads(fields["metrics"])}
