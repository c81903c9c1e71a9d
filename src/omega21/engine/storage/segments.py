"""Plans in the ledger: segments, and the shards that each lists."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from omega21.engine.storage.database import Database
from omega21.protocol.plan import Segment, ShardRef

_INSERT: Final = "INSERT OR IGNORE INTO segments VALUES (?, ?, ?)"
_INSERT_SHARD: Final = "INSERT INTO segment_shards VALUES (?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT number, numbers FROM segments WHERE run = ? ORDER BY number"
_SELECT_SHARDS: Final = """
SELECT number, sha256, samples FROM segment_shards WHERE run = ? ORDER BY number, position
"""


@dataclass(frozen=True)
class SegmentTable:
    """Reads and writes plans."""

    db: Database

    def put(self, key: int, number: int, *, segment: Segment, known_shards: int) -> None:
        """Add a segment, or the shards after the first `known_shards` of one; durable."""
        with self.db.durable() as db:
            insert_segment(db, key, number, segment=segment, known_shards=known_shards)

    def of(self, key: int) -> list[Segment]:
        """Return a run's plan."""
        shards: dict[int, list[ShardRef]] = {}
        for number, sha256, samples in self.db.rows(_SELECT_SHARDS, (key,)):
            shards.setdefault(number, []).append(ShardRef(sha256=sha256, samples=samples))
        return [
            Segment.parse_lenient(numbers).model_copy(
                update={"shards": tuple(shards.get(number, ()))}
            )
            for number, numbers in self.db.rows(_SELECT, (key,))
        ]


def insert_segment(
    db: sqlite3.Connection, key: int, number: int, *, segment: Segment, known_shards: int
) -> None:
    """Add a segment, or the shards after the first `known_shards` of one."""
    db.execute(_INSERT, (key, number, segment.numbers().model_dump_json()))
    new = enumerate(segment.shards[known_shards:], start=known_shards)
    db.executemany(
        _INSERT_SHARD, ((key, number, place, ref.sha256, ref.samples) for place, ref in new)
    )
