"""Inline batches in the ledger: accepted, then trained or refused."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from omega21.engine.storage.database import Database
from omega21.engine.storage.environments import DELETE_LATER_SIZES
from omega21.engine.storage.runs import UPDATE_TARGET
from omega21.engine.storage.segments import insert_segment
from omega21.engine.storage.steps import StoredStep, insert_steps
from omega21.protocol.plan import Segment

_INSERT: Final = """
INSERT INTO inline_batches (run, key, body, segment, status, received_at)
VALUES (?, ?, ?, ?, 'pending', ?)
"""
_SET_TRAINED: Final = "UPDATE inline_batches SET status = 'trained', last_step = ? WHERE batch = ?"
_SET_REFUSED: Final = "UPDATE inline_batches SET status = 'refused', problem = ? WHERE batch = ?"
_SELECT: Final = "SELECT batch, key, body, segment, status, last_step, problem FROM inline_batches "
_SELECT_BY_KEY: Final = _SELECT + "WHERE run = ? AND key = ?"
_SELECT_PENDING: Final = _SELECT + "WHERE run = ? AND status = 'pending' ORDER BY batch"

InlineStatus = Literal["pending", "trained", "refused"]


@dataclass(frozen=True)
class InlineBatch:
    """An accepted inline batch: its segment and its result."""

    batch: int
    key: str | None
    body: str
    segment: Segment
    status: InlineStatus
    last_step: int | None
    problem: str | None


@dataclass(frozen=True)
class InlineTable:
    """Reads and writes inline batches."""

    db: Database

    def add(self, key: int, request_key: str | None, *, body: str, segment: Segment) -> int:
        """Accept an inline batch; durable. Returns its number."""
        values = (key, request_key, body, segment.model_dump_json(), time.time())
        with self.db.durable() as db:
            batch = db.execute(_INSERT, values).lastrowid
        assert batch is not None
        return batch

    def finish(
        self, key: int, batch: int, *, number: int, segment: Segment, records: Sequence[StoredStep]
    ) -> None:
        """Append a trained batch to the plan, with its step records and the target; durable."""
        last = records[-1].step
        with self.db.durable() as db:
            insert_segment(db, key, number, segment=segment, known_shards=0)
            insert_steps(db, key, records)
            db.execute(UPDATE_TARGET, (last, key))
            db.execute(_SET_TRAINED, (last, batch))

    def refuse(self, key: int, batch: int, *, problem: str, step: int) -> None:
        """Record why a batch was refused after `step`; durable.

        The micro-batch sizes that were tried for it are removed.
        """
        with self.db.durable() as db:
            db.execute(_SET_REFUSED, (problem, batch))
            db.execute(DELETE_LATER_SIZES, (key, step))

    def by_key(self, key: int, request_key: str) -> InlineBatch | None:
        """Return the batch that came with an Idempotency-Key."""
        row = self.db.row(_SELECT_BY_KEY, (key, request_key))
        return None if row is None else _parse(row)

    def pending(self, key: int) -> list[InlineBatch]:
        """Return the batches accepted and not yet trained or refused, in order."""
        return [_parse(row) for row in self.db.rows(_SELECT_PENDING, (key,))]


def _parse(row: Sequence[Any]) -> InlineBatch:
    batch, key, body, segment, status, last, problem = row
    return InlineBatch(batch, key, body, Segment.parse_lenient(segment), status, last, problem)
