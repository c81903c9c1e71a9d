"""The tables of a server's ledger, and the number of their format."""

from typing import Final

FORMAT: Final = 3
"""Raised by each change of a table; a file of another format is refused."""

TABLES: Final = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, id TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL, created_at REAL NOT NULL, target INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0);
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
    digest TEXT NOT NULL, ended_at REAL NOT NULL, seconds REAL NOT NULL,
    non_finite INTEGER NOT NULL, skipped INTEGER NOT NULL, micro_batch_size INTEGER,
    layout INTEGER NOT NULL, metrics BLOB NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (run, step)) WITHOUT ROWID;
CREATE TABLE step_layouts (layout INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE INDEX non_finite_steps ON steps (run, step) WHERE non_finite = 1;
CREATE TABLE replaced_steps (
    run INTEGER NOT NULL, step INTEGER NOT NULL, replaced_at REAL NOT NULL, record TEXT NOT NULL);
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
CREATE TABLE evaluations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, at REAL NOT NULL,
    body TEXT NOT NULL, UNIQUE (run, body));
CREATE TABLE events (
    run INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL);
"""

TABLES_OF_A_RUN: Final = (
    "segments", "segment_shards", "steps", "replaced_steps", "environments", "micro_batch_sizes",
    "inline_batches", "feedback", "evaluations", "events",
)  # fmt: skip
