"""Environments and micro-batch sizes, which decide the bits of steps besides the plan."""

from dataclasses import dataclass
from typing import Final

from omega21.engine.storage.database import Database
from omega21.protocol.runs import Environment

_DELETE_LATER: Final = "DELETE FROM environments WHERE run = ? AND from_step >= ?"
_INSERT: Final = "INSERT INTO environments VALUES (?, ?, ?)"
_SELECT: Final = "SELECT document FROM environments WHERE run = ? ORDER BY from_step"
_INSERT_SIZE: Final = "INSERT OR REPLACE INTO micro_batch_sizes VALUES (?, ?, ?)"
_SELECT_SIZES: Final = "SELECT from_step, micro_batch_size FROM micro_batch_sizes WHERE run = ?"
DELETE_LATER_SIZES: Final = "DELETE FROM micro_batch_sizes WHERE run = ? AND from_step > ?"


@dataclass(frozen=True)
class EnvironmentTable:
    """Reads and writes the environments of runs."""

    db: Database

    def add(self, key: int, environment: Environment) -> None:
        """Record the environment from a step on, replacing later ones; grouped."""
        with self.db.grouped() as db:
            db.execute(_DELETE_LATER, (key, environment.from_step))
            db.execute(_INSERT, (key, environment.from_step, environment.model_dump_json()))

    def of(self, key: int) -> list[Environment]:
        """Return the environments in which a run's steps were computed, in order."""
        return [Environment.parse_lenient(text) for (text,) in self.db.rows(_SELECT, (key,))]

    def add_micro_batch_size(self, key: int, *, from_step: int, size: int) -> None:
        """Record the micro-batch size from a step on; durable."""
        with self.db.durable() as db:
            db.execute(_INSERT_SIZE, (key, from_step, size))

    def micro_batch_sizes(self, key: int) -> dict[int, int]:
        """Return the sizes by their first step."""
        return dict(self.db.rows(_SELECT_SIZES, (key,)))
