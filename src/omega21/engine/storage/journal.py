"""What is only added to in the ledger: feedback, evaluations and events of runs."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from omega21.engine.storage.database import Database

_INSERT_FEEDBACK: Final = "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)"
_SELECT_FEEDBACK: Final = """
SELECT received_at, validated, adjustments FROM feedback WHERE run = ? ORDER BY rowid DESC LIMIT ?
"""
_SELECT_FEEDBACK_BY_KEY: Final = "SELECT body, received_at FROM feedback WHERE run = ? AND key = ?"
_COUNT_FEEDBACK: Final = """
SELECT count(*), coalesce(sum(validated), 0) FROM feedback WHERE run = ?
"""
_INSERT_EVALUATION: Final = "INSERT OR IGNORE INTO evaluations (run, at, body) VALUES (?, ?, ?)"
_SELECT_EVALUATION: Final = "SELECT number, at FROM evaluations WHERE run = ? AND body = ?"
_SELECT_EVALUATIONS: Final = """
SELECT number, at, body FROM evaluations WHERE run = ? AND number > ? ORDER BY number LIMIT ?
"""
_SELECT_NEWEST_EVALUATION: Final = """
SELECT number, at, body FROM evaluations WHERE run = ? ORDER BY number DESC LIMIT 1
"""
_INSERT_EVENT: Final = "INSERT INTO events VALUES (?, ?, ?, ?)"
_SELECT_EVENTS: Final = """
SELECT at, kind, detail FROM events WHERE run = ? AND kind != 'checkpoint'
ORDER BY rowid DESC LIMIT ?
"""
_COUNT_EVENTS: Final = "SELECT count(*) FROM events WHERE run = ? AND kind != 'checkpoint'"


@dataclass(frozen=True)
class FeedbackTable:
    """Reads and writes feedback."""

    db: Database

    def add(
        self,
        key: int,
        request_key: str | None,
        *,
        body: str,
        adjustments: Sequence[float],
        validated: bool,
        received_at: float,
    ) -> None:
        """Record feedback; durable."""
        text = json.dumps(list(adjustments))
        with self.db.durable() as db:
            db.execute(_INSERT_FEEDBACK, (key, request_key, body, text, validated, received_at))

    def by_key(self, key: int, request_key: str) -> tuple[str, float] | None:
        """Return (body digest, time received) of the feedback that came with a key."""
        row: tuple[str, float] | None = self.db.row(_SELECT_FEEDBACK_BY_KEY, (key, request_key))
        return row

    def newest(self, key: int, limit: int) -> list[tuple[float, bool, list[float]]]:
        """Return (time received, whether validated, adjustments), oldest first."""
        rows = self.db.rows(_SELECT_FEEDBACK, (key, limit))
        return [(at, bool(validated), json.loads(text)) for at, validated, text in rows[::-1]]

    def counts(self, key: int) -> tuple[int, int]:
        """Return how often there was feedback, and how often it was validated."""
        received, validated = self.db.row(_COUNT_FEEDBACK, (key,))
        return received, validated


@dataclass(frozen=True)
class EvaluationTable:
    """Reads and writes evaluations, as (number, time, JSON)."""

    db: Database

    def add(self, key: int, *, body: str) -> tuple[int, float]:
        """Record an evaluation, once; durable. Returns its number and when it was recorded."""
        with self.db.durable() as db:
            db.execute(_INSERT_EVALUATION, (key, time.time(), body))
            number, at = db.execute(_SELECT_EVALUATION, (key, body)).fetchone()
        return number, at

    def page(self, key: int, *, after: int, limit: int) -> list[tuple[int, float, str]]:
        """Return the evaluations after a number, ascending."""
        return self.db.rows(_SELECT_EVALUATIONS, (key, after, limit))

    def newest(self, key: int) -> tuple[int, float, str] | None:
        """Return the newest evaluation, if there is one."""
        row: tuple[int, float, str] | None = self.db.row(_SELECT_NEWEST_EVALUATION, (key,))
        return row


@dataclass(frozen=True)
class EventTable:
    """Reads and writes events. Those of the server have a key of their own."""

    db: Database

    def add(self, key: int, kind: str, detail: str, *, durable: bool = False) -> None:
        """Record something that happened to a run; grouped, or durable with all before it."""
        with self.db.durable() if durable else self.db.grouped() as db:
            db.execute(_INSERT_EVENT, (key, time.time(), kind, detail))

    def newest(self, key: int, limit: int) -> list[tuple[float, str, str]]:
        """Return (time, kind, detail) of the newest events but checkpoints, newest first."""
        return self.db.rows(_SELECT_EVENTS, (key, limit))

    def count(self, key: int) -> int:
        """Count the events of a run but checkpoints."""
        return int(self.db.row(_COUNT_EVENTS, (key,))[0])
