"""What a server knows of its runs, in one SQLite file: plans, targets, results, feedback.

Two ways of writing, and every method says which it is:

- *durable*: on disk, synced, when the method returns. Promises made to clients.
- *grouped*: safe from a killed process when the method returns, and from a lost power supply
  some moments later. Results of planned steps: what is lost of them is computed again.

Thread-safe: writers share one connection each under a lock, readers take one from a pool.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from omega21.data.failures import kind_of
from omega21.language import _
from omega21.protocol.errors import DiskFull, RunFolderConflict, StorageFailure, StorageFull
from omega21.protocol.plan import Segment, ShardRef
from omega21.protocol.runs import Environment, RunConfig

FORMAT = 1

_SCHEMA = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, id TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL, created_at REAL NOT NULL, target INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0);
CREATE TABLE dead_runs (id TEXT PRIMARY KEY, removed_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    run INTEGER NOT NULL, number INTEGER NOT NULL, numbers TEXT NOT NULL,
    PRIMARY KEY (run, number)) WITHOUT ROWID;
CREATE TABLE segment_shards (
    run INTEGER NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL,
    sha256 TEXT NOT NULL, samples INTEGER NOT NULL,
    PRIMARY KEY (run, number, position)) WITHOUT ROWID;
CREATE TABLE steps (
    run INTEGER NOT NULL, step INTEGER NOT NULL, samples INTEGER NOT NULL, loss REAL,
    anomaly_prob REAL, anomalies INTEGER NOT NULL, digest TEXT NOT NULL, ended_at REAL NOT NULL,
    seconds REAL NOT NULL, refused INTEGER NOT NULL, skipped INTEGER NOT NULL,
    micro_batch_size INTEGER,
    vectors BLOB NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
CREATE TABLE replaced_steps (
    run INTEGER NOT NULL, step INTEGER NOT NULL, replaced_at REAL NOT NULL, row TEXT NOT NULL);
CREATE TABLE environments (
    run INTEGER NOT NULL, from_step INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (run, from_step)) WITHOUT ROWID;
CREATE TABLE micro_batch_sizes (
    run INTEGER NOT NULL, from_step INTEGER NOT NULL, micro_batch_size INTEGER NOT NULL,
    PRIMARY KEY (run, from_step)) WITHOUT ROWID;
CREATE TABLE inline_batches (
    batch INTEGER PRIMARY KEY, run INTEGER NOT NULL, key TEXT, body TEXT NOT NULL,
    segment TEXT NOT NULL, status TEXT NOT NULL, last_step INTEGER, problem TEXT,
    received_at REAL NOT NULL, UNIQUE (run, key));
CREATE TABLE feedback (
    run INTEGER NOT NULL, key TEXT, body TEXT NOT NULL, adjustments TEXT NOT NULL,
    validated INTEGER NOT NULL, received_at REAL NOT NULL, UNIQUE (run, key));
CREATE TABLE events (
    run INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL);
"""

# Made when the file is opened, since a file of this format may be older than they are.
_ADDED = """
CREATE TABLE IF NOT EXISTS evaluations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, at REAL NOT NULL,
    body TEXT NOT NULL, UNIQUE (run, body));
CREATE INDEX IF NOT EXISTS refused_steps ON steps (run, step) WHERE refused = 1;
"""

_RUN_TABLES = (
    "segments", "segment_shards", "steps", "replaced_steps", "environments", "micro_batch_sizes",
    "inline_batches", "feedback", "events", "evaluations",
)  # fmt: skip

_INLINE_COLUMNS = "batch, key, body, segment, status, last_step, problem"

InlineStatus = Literal["pending", "trained", "refused"]


@dataclass(frozen=True)
class StoredRun:
    """A run as it was written."""

    key: int
    name: str
    id: str
    config: RunConfig
    created_at: float
    target: int
    generation: int
    paused: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one step, as stored. `vectors` is float32: dendrites, coherence, layers."""

    step: int
    samples: int
    loss: float | None
    anomaly_prob: float | None
    anomalies: int
    digest: str
    ended_at: float
    seconds: float
    refused: bool
    skipped: bool
    micro_batch_size: int | None
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class InlineBatch:
    """An inline batch that was accepted: the segment it makes, and what became of it."""

    batch: int
    key: str | None
    body: str
    segment: Segment
    status: InlineStatus
    last_step: int | None
    problem: str | None


@dataclass(frozen=True)
class Totals:
    """Sums over a run's stored results and feedback."""

    samples: int
    steps: int
    mean_loss: float
    mean_anomaly_prob: float
    anomalies: int
    feedback: int
    feedback_validated: int


class Ledger:
    """The server's SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises RunFolderConflict for one of another kind or format."""
        self._path = path
        self._lock = threading.RLock()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._durable = self._connect()
            self._prepare()
            self._durable.execute("PRAGMA synchronous = FULL")
            self._grouped = self._connect()
            self._grouped.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.DatabaseError as error:
            self.close()
            raise RunFolderConflict(
                _("{path} cannot be read: {error}").format(path=path, error=error),
                hint=_("restore it, or use another --data-dir"),
            ) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False
        )
        with self._lock:
            self._connections.append(connection)
        return connection

    def _prepare(self) -> None:
        (version,) = self._durable.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            self.close()
            raise RunFolderConflict(
                _("{path} has format {found}, this omega21 reads {known}").format(
                    path=self._path, found=version, known=FORMAT
                ),
                hint=_("use the version of omega21 that wrote it, or another --data-dir"),
            )
        self._durable.execute("PRAGMA journal_mode = WAL")
        if version == 0:
            self._durable.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        self._durable.executescript(_ADDED)

    def close(self) -> None:
        """Close every connection; no thread may be using one."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:  # SQLite ends it itself when the disk is full
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                kind = kind_of(error)
                if kind is None:
                    raise
                # A file that may grow no more is an I/O error to SQLite.
                full = kind in (DiskFull, StorageFailure)
                text = _("writing {name} failed: {error}").format(name=self._path.name, error=error)
                raise (StorageFull if full else kind)(text) from error

    def query(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """Read rows with a connection of the pool."""
        try:
            connection = self._readers.get_nowait()
        except Empty:
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
        try:
            return connection.execute(sql, arguments).fetchall()
        finally:
            self._readers.put(connection)

    def _query_one(self, sql: str, arguments: Sequence[Any] = ()) -> Any:
        """Read one row, None where there is none."""
        rows = self.query(sql, arguments)
        return rows[0] if rows else None

    # --- runs ---

    def add_run(self, name: str, run_id: str, config: RunConfig) -> StoredRun:
        """Add a run; durable."""
        now = time.time()
        with self._transaction(self._durable) as db:
            cursor = db.execute(
                "INSERT INTO runs (name, id, config, created_at) VALUES (?, ?, ?, ?)",
                (name, run_id, config.model_dump_json(), now),
            )
            key = cursor.lastrowid
        assert key is not None
        return StoredRun(key, name, run_id, config, now, 0, 0, paused=False)

    def runs(self) -> list[StoredRun]:
        """Return all runs, in the order they were made."""
        rows = self.query(
            "SELECT key, name, id, config, created_at, target, generation, paused FROM runs "
            "ORDER BY key"
        )
        return [
            StoredRun(key, name, run_id, RunConfig.parse_lenient(config), at, target, gen, bool(p))
            for key, name, run_id, config, at, target, gen, p in rows
        ]

    def remove_run(self, key: int, run_id: str) -> None:
        """Remove a run and remember its id as dead; durable."""
        with self._transaction(self._durable) as db:
            db.execute("INSERT OR IGNORE INTO dead_runs VALUES (?, ?)", (run_id, time.time()))
            db.execute("DELETE FROM runs WHERE key = ?", (key,))
            for table in _RUN_TABLES:
                db.execute(f"DELETE FROM {table} WHERE run = ?", (key,))  # noqa: S608 - our names

    def is_dead(self, run_id: str) -> bool:
        """Whether a run of this id was removed."""
        row = self._query_one("SELECT 1 FROM dead_runs WHERE id = ?", (run_id,))
        return row is not None

    def set_target(self, key: int, target: int) -> None:
        """Write a run's target; durable."""
        with self._transaction(self._durable) as db:
            db.execute("UPDATE runs SET target = ? WHERE key = ?", (target, key))

    def set_control(self, key: int, *, generation: int, paused: bool) -> None:
        """Write whether a run is paused; durable."""
        with self._transaction(self._durable) as db:
            db.execute(
                "UPDATE runs SET generation = ?, paused = ? WHERE key = ?",
                (generation, paused, key),
            )

    # --- plans ---

    def put_segment(self, key: int, number: int, *, segment: Segment, known_shards: int) -> None:
        """Add a segment, or the shards after the first `known_shards` of one; durable."""
        with self._transaction(self._durable) as db:
            _insert_segment(db, key, number, segment=segment, known_shards=known_shards)

    def segments(self, key: int) -> list[Segment]:
        """Return a run's plan."""
        shards: dict[int, list[ShardRef]] = {}
        for number, sha256, samples in self.query(
            "SELECT number, sha256, samples FROM segment_shards WHERE run = ? "
            "ORDER BY number, position",
            (key,),
        ):
            shards.setdefault(number, []).append(ShardRef(sha256=sha256, samples=samples))
        rows = self.query(
            "SELECT number, numbers FROM segments WHERE run = ? ORDER BY number", (key,)
        )
        return [
            Segment.parse_lenient(numbers).model_copy(
                update={"shards": tuple(shards.get(number, ()))}
            )
            for number, numbers in rows
        ]

    # --- results ---

    def add_results(self, key: int, results: Sequence[Result]) -> None:
        """Write results; grouped. A row that is there is replaced, and the old one kept aside."""
        with self._transaction(self._grouped) as db:
            _insert_results(db, key, results)

    def digest_at(self, key: int, step: int) -> str | None:
        """Return the chained digest stored for a step."""
        row = self._query_one("SELECT digest FROM steps WHERE run = ? AND step = ?", (key, step)
        )  # fmt: skip
        return None if row is None else str(row[0])

    def last_step(self, key: int) -> int:
        """Return the last step that has a result, 0 for none."""
        row = self._query_one("SELECT coalesce(max(step), 0) FROM steps WHERE run = ?", (key,))
        return int(row[0])

    def results(self, key: int, *, after: int, until: int, limit: int) -> list[Result]:
        """Return results after a step, up to `until`, ascending."""
        rows = self.query(
            "SELECT step, samples, loss, anomaly_prob, anomalies, digest, ended_at, seconds, "
            "refused, skipped, micro_batch_size, vectors FROM steps "
            "WHERE run = ? AND step > ? AND step <= ? ORDER BY step LIMIT ?",
            (key, after, until, limit),
        )
        return [_to_result(row) for row in rows]

    def recent_losses(self, key: int, count: int) -> list[float]:
        """Return the last finite losses, oldest first."""
        rows = self.query(
            "SELECT loss FROM steps WHERE run = ? AND loss IS NOT NULL ORDER BY step DESC LIMIT ?",
            (key, count),
        )
        return [float(loss) for (loss,) in rows][::-1]

    def totals(self, key: int) -> Totals:
        """Sum up a run's results and feedback."""
        samples, steps, loss, prob, anomalies = self._query_one(
            "SELECT coalesce(sum(samples), 0), count(*), coalesce(avg(loss), 0), "
            "coalesce(sum(anomaly_prob * samples) / sum(samples), 0), coalesce(sum(anomalies), 0) "
            "FROM steps WHERE run = ? AND refused = 0 AND skipped = 0",
            (key,),
        )
        received, validated = self._query_one(
            "SELECT count(*), coalesce(sum(validated), 0) FROM feedback WHERE run = ?", (key,)
        )
        return Totals(samples, steps, loss, prob, anomalies, received, validated)

    # --- what makes the bits ---

    def add_environment(self, key: int, environment: Environment) -> None:
        """Record the conditions from a step on, instead of those known so far; grouped."""
        with self._transaction(self._grouped) as db:
            db.execute(
                "DELETE FROM environments WHERE run = ? AND from_step >= ?",
                (key, environment.from_step),
            )
            db.execute(
                "INSERT INTO environments VALUES (?, ?, ?)",
                (key, environment.from_step, environment.model_dump_json()),
            )

    def environments(self, key: int) -> list[Environment]:
        """Return the conditions under which a run's steps were computed, in order."""
        rows = self.query(
            "SELECT document FROM environments WHERE run = ? ORDER BY from_step", (key,)
        )
        return [Environment.parse_lenient(document) for (document,) in rows]

    def add_micro_batch_size(self, key: int, *, from_step: int, micro_batch_size: int) -> None:
        """Record that batches are computed in parts from a step on; durable."""
        with self._transaction(self._durable) as db:
            db.execute(
                "INSERT OR REPLACE INTO micro_batch_sizes VALUES (?, ?, ?)",
                (key, from_step, micro_batch_size),
            )

    def micro_batch_sizes(self, key: int) -> list[tuple[int, int]]:
        """Return (from step, part size), ascending."""
        return self.query(
            "SELECT from_step, micro_batch_size FROM micro_batch_sizes WHERE run = ?"
            " ORDER BY from_step",
            (key,),
        )

    # --- inline batches ---

    def add_inline(self, key: int, request_key: str | None, *, body: str, segment: Segment) -> int:
        """Accept an inline batch; durable. Returns its number."""
        with self._transaction(self._durable) as db:
            cursor = db.execute(
                "INSERT INTO inline_batches (run, key, body, segment, status, received_at) "
                "VALUES (?, ?, ?, ?, 'pending', ?)",
                (key, request_key, body, segment.model_dump_json(), time.time()),
            )
            batch = cursor.lastrowid
        assert batch is not None
        return batch

    def finish_inline(
        self, key: int, batch: int, *, number: int, segment: Segment, results: Sequence[Result]
    ) -> None:
        """Put a trained inline batch into the plan, with its results and the target; durable."""
        with self._transaction(self._durable) as db:
            _insert_segment(db, key, number, segment=segment, known_shards=0)
            _insert_results(db, key, results)
            last = results[-1].step
            db.execute("UPDATE runs SET target = ? WHERE key = ?", (last, key))
            db.execute(
                "UPDATE inline_batches SET status = 'trained', last_step = ? WHERE batch = ?",
                (last, batch),
            )

    def refuse_inline(self, key: int, batch: int, *, problem: str, step: int) -> None:
        """Record why an inline batch was refused after `step`; durable.

        The sizes of parts that were tried for it are forgotten with it.
        """
        with self._transaction(self._durable) as db:
            db.execute(
                "UPDATE inline_batches SET status = 'refused', problem = ? WHERE batch = ?",
                (problem, batch),
            )
            db.execute("DELETE FROM micro_batch_sizes WHERE run = ? AND from_step > ?", (key, step))

    def inline_by_key(self, key: int, request_key: str) -> InlineBatch | None:
        """Return the inline batch that came with an Idempotency-Key."""
        found = self._inline("run = ? AND key = ?", (key, request_key))
        return found[0] if found else None

    def pending_inline(self, key: int) -> list[InlineBatch]:
        """Return the inline batches accepted and not yet trained or refused, in order."""
        return self._inline("run = ? AND status = 'pending'", (key,))

    def _inline(self, where: str, arguments: Sequence[Any]) -> list[InlineBatch]:
        rows = self.query(
            f"SELECT {_INLINE_COLUMNS} FROM inline_batches WHERE {where} ORDER BY batch",  # noqa: S608
            arguments,
        )
        return [
            InlineBatch(batch, key, body, Segment.parse_lenient(segment), status, last, problem)
            for batch, key, body, segment, status, last, problem in rows
        ]

    # --- feedback ---

    def add_feedback(
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
        with self._transaction(self._durable) as db:
            db.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)",
                (key, request_key, body, json.dumps(list(adjustments)), validated, received_at),
            )

    def feedback_by_key(self, key: int, request_key: str) -> tuple[str, float] | None:
        """Return (body digest, time received) of the feedback that came with a key."""
        row = self._query_one(
            "SELECT body, received_at FROM feedback WHERE run = ? AND key = ?",
            (key, request_key),
        )
        return None if row is None else (str(row[0]), float(row[1]))

    # --- evaluations ---

    def add_evaluation(self, key: int, *, body: str) -> tuple[int, float]:
        """Record an evaluation, once; durable. Returns its number and when it was recorded."""
        with self._transaction(self._durable) as db:
            db.execute(
                "INSERT OR IGNORE INTO evaluations (run, at, body) VALUES (?, ?, ?)",
                (key, time.time(), body),
            )
            row = db.execute(
                "SELECT number, at FROM evaluations WHERE run = ? AND body = ?", (key, body)
            ).fetchone()
        return int(row[0]), float(row[1])

    # --- events ---

    def add_event(self, key: int, kind: str, detail: str, *, durable: bool = False) -> None:
        """Record something that happened to a run; grouped, or durable with all before it."""
        with self._transaction(self._durable if durable else self._grouped) as db:
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (key, time.time(), kind, detail))


def _insert_segment(
    db: sqlite3.Connection, key: int, number: int, *, segment: Segment, known_shards: int
) -> None:
    db.execute(
        "INSERT OR IGNORE INTO segments VALUES (?, ?, ?)",
        (key, number, segment.numbers().model_dump_json()),
    )
    db.executemany(
        "INSERT INTO segment_shards VALUES (?, ?, ?, ?, ?)",
        (
            (key, number, position, ref.sha256, ref.samples)
            for position, ref in enumerate(segment.shards)
            if position >= known_shards
        ),
    )


def _insert_results(db: sqlite3.Connection, key: int, results: Sequence[Result]) -> None:
    first, last = results[0].step, results[-1].step
    db.execute(
        "INSERT INTO replaced_steps SELECT run, step, ?, json_object('loss', loss, 'digest', "
        "digest, 'ended_at', ended_at) FROM steps WHERE run = ? AND step BETWEEN ? AND ?",
        (time.time(), key, first, last),
    )
    db.executemany(
        "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (key, r.step, r.samples, r.loss, r.anomaly_prob, r.anomalies, r.digest, r.ended_at,
             r.seconds, r.refused, r.skipped, r.micro_batch_size, r.vectors.astype("<f4").tobytes())
            for r in results
        ),
    )  # fmt: skip


def _to_result(row: Sequence[Any]) -> Result:
    return Result(
        step=row[0], samples=row[1], loss=row[2], anomaly_prob=row[3], anomalies=row[4],
        digest=row[5], ended_at=row[6], seconds=row[7], refused=bool(row[8]),
        skipped=bool(row[9]), micro_batch_size=row[10], vectors=np.frombuffer(row[11], dtype="<f4"),
    )  # fmt: skip
