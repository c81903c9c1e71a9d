"""Step records in the ledger."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Final

import numpy as np

from omega21.engine.storage.database import Database
from omega21.engine.storage.step_values import (
    FloatArray,
    Layout,
    MetricSums,
    add_sums,
    metric_means,
    pack_metrics,
    pack_vectors,
    parse_layout,
    stack_vectors,
    sum_metrics,
)

_COLUMNS: Final = (
    "step", "samples", "loss", "digest", "ended_at", "seconds", "non_finite", "skipped",
    "micro_batch_size", "names", "metrics", "vectors",
)  # fmt: skip
_INSERT_LAYOUT: Final = "INSERT OR IGNORE INTO step_layouts (names) VALUES (?)"
_SELECT_LAYOUT: Final = "SELECT layout FROM step_layouts WHERE names = ?"
_INSERT: Final = "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KEEP_REPLACED: Final = """
INSERT INTO replaced_steps
SELECT run, step, ?, json_object('loss', loss, 'digest', digest, 'ended_at', ended_at) FROM steps
WHERE run = ? AND step BETWEEN ? AND ?
"""
_SELECT: Final = (
    f"SELECT {', '.join(_COLUMNS)} FROM steps JOIN step_layouts USING (layout) "  # noqa: S608
    "WHERE run = ? AND step > ? AND step <= ? ORDER BY step LIMIT ?"
)
_SELECT_DIGEST: Final = "SELECT digest FROM steps WHERE run = ? AND step = ?"
_SELECT_RANGE: Final = "SELECT min(step), max(step) FROM steps WHERE run = ?"
_SELECT_LOSSES: Final = """
SELECT loss FROM steps WHERE run = ? AND loss IS NOT NULL ORDER BY step DESC LIMIT ?
"""
_SELECT_NEWEST: Final = """
SELECT loss, names, metrics FROM steps JOIN step_layouts USING (layout)
WHERE run = ? AND loss IS NOT NULL ORDER BY step DESC LIMIT 1
"""
_SELECT_APPLIED: Final = """
SELECT samples, coalesce(loss, 0) FROM steps
WHERE run = ? AND step > ? AND step <= ? AND non_finite = 0 AND skipped = 0 ORDER BY step
"""
_SELECT_LAST: Final = "SELECT step, digest FROM steps WHERE run = ? ORDER BY step DESC LIMIT 1"
_POINT_COLUMNS: Final = (
    "step", "loss", "loss_min", "loss_max", "samples", "seconds", "ended_at", "non_finite",
)  # fmt: skip
_SELECT_POINTS: Final = """
SELECT max(step), avg(loss), min(loss), max(loss), sum(samples), sum(seconds), max(ended_at),
    sum(non_finite)
FROM steps WHERE run = ? AND step > ? AND step <= ? GROUP BY (step - 1) / ? ORDER BY 1
"""
_SELECT_METRICS: Final = """
SELECT step, samples, names, metrics FROM steps JOIN step_layouts USING (layout)
WHERE run = ? AND step > ? AND step <= ? ORDER BY step
"""
_SELECT_VECTORS: Final = """
SELECT names, vectors FROM steps JOIN step_layouts USING (layout)
WHERE run = ? AND step IN (SELECT value FROM json_each(?)) ORDER BY step
"""
_SELECT_TIMES: Final = """
SELECT step, ended_at FROM steps WHERE run = ? AND step IN (SELECT value FROM json_each(?))
"""
_COUNT_NON_FINITE: Final = """
SELECT count(*) FROM steps INDEXED BY non_finite_steps WHERE run = ? AND non_finite = 1
"""
_SELECT_NON_FINITE: Final = """
SELECT step, ended_at FROM steps INDEXED BY non_finite_steps WHERE run = ? AND non_finite = 1
ORDER BY step DESC LIMIT ?
"""


@dataclass(frozen=True, kw_only=True)
class StoredStep:
    """The record of one step, the same before it is written and as it is read.

    Loss and metrics are the shortest decimals of float32 values, vectors are float32. A metric that
    is not finite is None.
    """

    step: int
    samples: int
    loss: float | None
    metrics: dict[str, float | None]
    digest: str
    ended_at: float
    seconds: float
    non_finite: bool
    skipped: bool
    micro_batch_size: int | None
    vectors: dict[str, FloatArray]

    @property
    def layout(self) -> Layout:
        """The names and sizes of its values."""
        return Layout.of(self.metrics, self.vectors)


@dataclass(frozen=True)
class StepTotals:
    """Sums over the steps of a run that were applied; metrics are means over their samples."""

    samples: int
    steps: int
    mean_loss: float
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class _Sums:
    """Sums over the steps of a run up to one; they hold while its chained digest is the same."""

    step: int = 0
    digest: str | None = None
    samples: int = 0
    steps: int = 0
    loss: float = 0.0
    metrics: MetricSums = field(default_factory=dict)


@dataclass(frozen=True)
class StepTable:
    """Reads and writes step records."""

    db: Database
    _sums: dict[int, _Sums] = field(default_factory=dict)

    def add(self, key: int, records: Sequence[StoredStep]) -> None:
        """Write records; grouped. One that is there is replaced, and the old one kept aside."""
        with self.db.grouped() as db:
            insert_steps(db, key, records)

    def page(self, key: int, *, after: int, until: int, limit: int) -> list[StoredStep]:
        """Return the records after a step, up to `until`, ascending."""
        return [_parse(row) for row in self.db.rows(_SELECT, (key, after, until, limit))]

    def digest_at(self, key: int, step: int) -> str | None:
        """Return the chained digest stored for a step."""
        row = self.db.row(_SELECT_DIGEST, (key, step))
        return None if row is None else str(row[0])

    def range(self, key: int) -> tuple[int, int]:
        """Return the first step and the last that have a record, (1, 0) for none."""
        first, last = self.db.row(_SELECT_RANGE, (key,))
        return (1, 0) if first is None else (first, last)

    def recent_losses(self, key: int, count: int) -> list[float]:
        """Return the last finite losses, oldest first."""
        return [float(loss) for (loss,) in self.db.rows(_SELECT_LOSSES, (key, count))][::-1]

    def newest(self, key: int) -> tuple[float | None, dict[str, float | None]]:
        """Return the loss and the metrics of the newest step that counted; (None, {}) for none."""
        row = self.db.row(_SELECT_NEWEST, (key,))
        return (row[0], parse_layout(row[1]).unpack_metrics(row[2])) if row else (None, {})

    def totals(self, key: int) -> StepTotals:
        """Sum up a run's records: those since the last call, unless earlier ones were replaced."""
        known = self._sums.get(key, _Sums())
        if known.step and self.digest_at(key, known.step) != known.digest:
            known = _Sums()
        step, digest = self.db.row(_SELECT_LAST, (key,)) or (0, None)
        if step > known.step:
            known = self._sums[key] = self._add_sums(key, known, step=step, digest=digest)
        return StepTotals(
            samples=known.samples,
            steps=known.steps,
            mean_loss=known.loss / known.steps if known.steps else 0.0,
            metrics={name: column[0] for name, column in metric_means(known.metrics).items()},
        )

    def _add_sums(self, key: int, known: _Sums, *, step: int, digest: str | None) -> _Sums:
        applied = self.db.rows(_SELECT_APPLIED, (key, known.step, step))
        rows = self.db.rows(_SELECT_METRICS, (key, known.step, step))
        groups = np.zeros(len(rows), np.int64)
        metrics = sum_metrics([row[1:] for row in rows], groups, count=1)
        return _Sums(
            step=step,
            digest=digest,
            samples=known.samples + sum(samples for samples, _loss in applied),
            steps=known.steps + len(applied),
            # One after another: the same bits wherever the sums were taken up again.
            loss=reduce(add, (loss for _samples, loss in applied), known.loss),
            metrics=add_sums(known.metrics, metrics),
        )

    def points(self, key: int, *, after: int, until: int, width: int) -> dict[str, list[Any]]:
        """Sum up each `width` steps after a step, up to `until`; columns by name."""
        rows = self.db.rows(_SELECT_POINTS, (key, after, until, width))
        return {name: [row[i] for row in rows] for i, name in enumerate(_POINT_COLUMNS)}

    def metrics(
        self, key: int, *, after: int, until: int, width: int
    ) -> dict[str, list[float | None]]:
        """Return the means of the metrics for the same groups of steps as `points`, by name."""
        rows = self.db.rows(_SELECT_METRICS, (key, after, until))
        steps = np.array([step for step, *_ in rows], np.int64)
        numbers, groups = np.unique((steps - 1) // width, return_inverse=True)
        return metric_means(sum_metrics([row[1:] for row in rows], groups, count=len(numbers)))

    def vectors(self, key: int, steps: Sequence[int]) -> dict[str, FloatArray]:
        """Return the vectors [n, size] of steps that have a record, ascending, by name."""
        return stack_vectors(self.db.rows(_SELECT_VECTORS, (key, json.dumps(steps))))

    def times(self, key: int, steps: Sequence[int]) -> dict[int, float]:
        """Return when steps ended, of those that have a record."""
        return dict(self.db.rows(_SELECT_TIMES, (key, json.dumps(steps))))

    def count_non_finite(self, key: int) -> int:
        """Count the steps whose loss or gradient was not finite."""
        return int(self.db.row(_COUNT_NON_FINITE, (key,))[0])

    def non_finite(self, key: int, limit: int) -> list[tuple[int, float]]:
        """Return (step, time) of the newest steps whose loss or gradient was not finite."""
        return self.db.rows(_SELECT_NON_FINITE, (key, limit))


def insert_steps(db: sqlite3.Connection, key: int, records: Sequence[StoredStep]) -> None:
    """Write records, in order; what they replace is kept aside."""
    db.execute(_KEEP_REPLACED, (time.time(), key, records[0].step, records[-1].step))
    layouts = [record.layout for record in records]
    numbers = {layout: _layout_number(db, layout) for layout in dict.fromkeys(layouts)}
    db.executemany(
        _INSERT,
        (
            (key, r.step, r.samples, r.loss, r.digest, r.ended_at, r.seconds, r.non_finite,
             r.skipped, r.micro_batch_size, numbers[layout], pack_metrics(r.metrics),
             pack_vectors(r.vectors))
            for r, layout in zip(records, layouts, strict=True)
        ),
    )  # fmt: skip


def _layout_number(db: sqlite3.Connection, layout: Layout) -> int:
    """Return the number of a layout, which is stored with the first step that has it."""
    names = layout.text()
    db.execute(_INSERT_LAYOUT, (names,))
    return int(db.execute(_SELECT_LAYOUT, (names,)).fetchone()[0])


def _parse(row: Sequence[Any]) -> StoredStep:
    fields = dict(zip(_COLUMNS, row, strict=True))
    layout = parse_layout(fields.pop("names"))
    return StoredStep(
        **fields
        | {
            "non_finite": bool(fields["non_finite"]),
            "skipped": bool(fields["skipped"]),
            "metrics": layout.unpack_metrics(fields["metrics"]),
            "vectors": layout.unpack_vectors(fields["vectors"]),
        }
    )
