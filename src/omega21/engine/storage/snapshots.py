"""Copies of the ledger from which another machine can continue.

A copy has everything except what needs samples that only this machine has: those of inline batches.
Batches that are not trained yet, or were trained after the checkpoint that belongs to the copy, are
left out with everything after them, as if they had never arrived: their clients send them again.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from omega21.protocol.plan import Segment

_DROP_PENDING: Final = "DELETE FROM inline_batches WHERE status = 'pending'"
_SELECT_RUNS: Final = "SELECT key, id FROM runs"
_SELECT_SEGMENTS: Final = "SELECT numbers FROM segments WHERE run = ? ORDER BY number"
_CUT_FROM_SEGMENT: Final = (
    "DELETE FROM segments WHERE run = ? AND number >= ?",
    "DELETE FROM segment_shards WHERE run = ? AND number >= ?",
)
_CUT_AFTER_STEP: Final = (
    "DELETE FROM environments WHERE run = ? AND from_step > ?",
    "DELETE FROM micro_batch_sizes WHERE run = ? AND from_step > ?",
    "DELETE FROM steps WHERE run = ? AND step > ?",
    "DELETE FROM inline_batches WHERE run = ? AND last_step > ?",
    "UPDATE runs SET target = min(target, ?2) WHERE key = ?1",
)


def copy_ledger(source: Path, target: Path, *, steps: Mapping[str, int]) -> None:
    """Write a copy of the ledger at `source` to `target`, while other threads write to it.

    `steps` are those of the checkpoints that belong to it, by run id.
    """
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as copy:
        here.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a write-ahead log
        with copy:
            copy.execute(_DROP_PENDING)
            for key, run_id in copy.execute(_SELECT_RUNS).fetchall():
                _leave_out_inline(copy, key, steps.get(run_id, 0))


def _leave_out_inline(copy: sqlite3.Connection, key: int, step: int) -> None:
    """Truncate a run's plan before its first inline batch after `step`, if there is one."""
    rows = copy.execute(_SELECT_SEGMENTS, (key,))
    last = 0
    for number, (numbers,) in enumerate(rows.fetchall()):
        segment = Segment.parse_lenient(numbers)
        if segment.source.kind == "inline" and last + segment.steps > step:
            _cut(copy, key, number=number, last_step=last)
            return
        last += segment.steps


def _cut(copy: sqlite3.Connection, key: int, *, number: int, last_step: int) -> None:
    for statement in _CUT_FROM_SEGMENT:
        copy.execute(statement, (key, number))
    for statement in _CUT_AFTER_STEP:
        copy.execute(statement, (key, last_step))
