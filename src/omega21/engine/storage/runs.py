"""Runs in the ledger: what each is, its target, whether it is paused, and which are removed."""

import time
from dataclasses import dataclass
from typing import Final

from omega21.engine.storage.database import Database
from omega21.engine.storage.schema import TABLES_OF_A_RUN
from omega21.protocol.runs import RunConfig

_INSERT: Final = "INSERT INTO runs (name, id, config, created_at) VALUES (?, ?, ?, ?)"
_SELECT: Final = (
    "SELECT key, name, id, config, created_at, target, revision, paused FROM runs ORDER BY key"
)
_DELETE: Final = "DELETE FROM runs WHERE key = ?"
_DELETE_ALL_OF: Final = tuple(f"DELETE FROM {table} WHERE run = ?" for table in TABLES_OF_A_RUN)  # noqa: S608 - our names
_INSERT_DEAD: Final = "INSERT OR IGNORE INTO dead_runs VALUES (?, ?)"
_SELECT_DEAD: Final = "SELECT 1 FROM dead_runs WHERE id = ?"
_UPDATE_CONTROL: Final = "UPDATE runs SET revision = ?, paused = ? WHERE key = ?"
UPDATE_TARGET: Final = "UPDATE runs SET target = ? WHERE key = ?"


@dataclass(frozen=True)
class StoredRun:
    """A run as it was written."""

    key: int
    name: str
    id: str
    config: RunConfig
    created_at: float
    target: int
    revision: int
    paused: bool


@dataclass(frozen=True)
class RunTable:
    """Reads and writes runs."""

    db: Database

    def add(self, name: str, run_id: str, config: RunConfig) -> StoredRun:
        """Add a run; durable."""
        now = time.time()
        with self.db.durable() as db:
            key = db.execute(_INSERT, (name, run_id, config.model_dump_json(), now)).lastrowid
        assert key is not None
        return StoredRun(key, name, run_id, config, now, 0, 0, paused=False)

    def all(self) -> list[StoredRun]:
        """Return all runs, in the order they were made."""
        return [
            StoredRun(key, name, run_id, RunConfig.parse_lenient(config), at, target, rev, bool(p))
            for key, name, run_id, config, at, target, rev, p in self.db.rows(_SELECT)
        ]

    def remove(self, key: int, run_id: str) -> None:
        """Remove a run with all that it has, and remember its id as dead; durable."""
        with self.db.durable() as db:
            db.execute(_INSERT_DEAD, (run_id, time.time()))
            for statement in (_DELETE, *_DELETE_ALL_OF):
                db.execute(statement, (key,))

    def is_dead(self, run_id: str) -> bool:
        """Whether a run of this id was removed."""
        return self.db.row(_SELECT_DEAD, (run_id,)) is not None

    def set_target(self, key: int, target: int) -> None:
        """Write a run's target; durable."""
        with self.db.durable() as db:
            db.execute(UPDATE_TARGET, (target, key))

    def set_control(self, key: int, *, revision: int, paused: bool) -> None:
        """Write whether a run is paused; durable."""
        with self.db.durable() as db:
            db.execute(_UPDATE_CONTROL, (revision, paused, key))
