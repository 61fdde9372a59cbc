"""The tables and how a connection is opened.

events(seq, run_id, kind, at, json)      the log: every event but tokens, in the order they were written; `seq` only grows;
                                         events of a run's steps that were written at once are one row of kind "steps":
                                         {"columns": {kind: names}, "rows": [[kind, *values], …]}
runs(run_id, name, of_kind, status, started, ended, owner_pid, owner_started, error, info, result)
study_trials(run_id, trial, seq, …), study_examples(run_id, trial, idx, seq, …), study_calls(seq, run_id, trial, …),
study_usage(run_id, …)

All but the log are projections of it, kept in the same transaction; a row's `seq` is the event that last changed it. The LM
calls of studies alone are projected: those of other runs stay in the log and are summed by query, for a projection would
double the writes of their most frequent event. `trials` is what version 1 wrote; its rows are taken over once.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from dspex_nb.errors import StoreError

STEPS = "steps"
_BUSY_S = 5.0

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, json TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_run ON events (run_id, seq);
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, name TEXT NOT NULL, of_kind TEXT NOT NULL, status TEXT NOT NULL, started REAL NOT NULL,
    ended REAL, owner_pid INTEGER NOT NULL, owner_started INTEGER NOT NULL, error TEXT, info TEXT NOT NULL,
    result TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS study_trials (
    run_id TEXT NOT NULL, trial INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'running', score REAL, best REAL, examples INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0, elapsed_s REAL NOT NULL DEFAULT 0, at REAL NOT NULL DEFAULT 0, parent INTEGER,
    calls INTEGER NOT NULL DEFAULT 0, cache_hits INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0, cost REAL NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
    saved_cost REAL NOT NULL DEFAULT 0, unpriced_hits INTEGER NOT NULL DEFAULT 0, info TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, trial));
CREATE INDEX IF NOT EXISTS study_trials_since ON study_trials (run_id, seq);
CREATE TABLE IF NOT EXISTS study_examples (
    run_id TEXT NOT NULL, trial INTEGER NOT NULL, idx INTEGER NOT NULL, seq INTEGER NOT NULL, score REAL, error TEXT,
    elapsed_s REAL NOT NULL, PRIMARY KEY (run_id, trial, idx)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS study_examples_since ON study_examples (run_id, seq);
CREATE TABLE IF NOT EXISTS study_calls (
    seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, trial INTEGER, idx INTEGER, key TEXT NOT NULL, model TEXT NOT NULL,
    step TEXT NOT NULL, cached TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL,
    saved_cost REAL, elapsed_s REAL NOT NULL, error TEXT);
CREATE INDEX IF NOT EXISTS study_calls_of_trial ON study_calls (run_id, trial, seq);
CREATE TABLE IF NOT EXISTS study_usage (
    run_id TEXT PRIMARY KEY, calls INTEGER NOT NULL DEFAULT 0, cache_hits INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0, saved_cost REAL NOT NULL DEFAULT 0,
    unpriced_hits INTEGER NOT NULL DEFAULT 0);
"""
_VERSION = 2
# LM calls of before stay in the log: `Store.usage` sums them there where `study_usage` has no row.
_FROM_1 = """
INSERT OR IGNORE INTO study_trials (run_id, trial, seq, kind, status, score, best, examples, errors, elapsed_s, at, info)
SELECT run_id, trial, coalesce((SELECT max(seq) FROM events WHERE events.run_id = trials.run_id), 0),
       coalesce(json_extract(info, '$.kind'), 'candidate'), 'done', score, best, examples,
       coalesce(json_extract(info, '$.errors'), 0), elapsed_s, at, info FROM trials
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the store's file, making it (readable by its owner only) and its tables if need be.

    Raises:
        StoreError: It cannot be opened, or is no SQLite database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            _make_tables(connection)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the run store {path} cannot be opened: {error}",
            hint="set DSPEX_HOME to a folder you can write to, or move that file away",
        ) from error
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make what is missing; several processes may come here at once, and an earlier version's file may be in use."""
    connection.executescript(_TABLES)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchone():
            connection.execute(_FROM_1)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise
