"""The tables and how a connection is opened.

events(seq, run_id, kind, at, json)      the log: every event but tokens, in the order they were written; `seq` only grows
runs(run_id, name, of_kind, status, started, ended, owner_pid, owner_started, error, info, result)
trials(run_id, trial, score, best, examples, elapsed_s, at, info)

`runs` and `trials` are projections of the log, kept in the same transaction. LM calls stay in the log only and are
summed by query: a projection would double the writes of the most frequent event.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from dspex_nb.errors import StoreError

_BUSY_S = 5.0

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, json TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_run ON events (run_id, seq);
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, name TEXT NOT NULL, of_kind TEXT NOT NULL, status TEXT NOT NULL, started REAL NOT NULL,
    ended REAL, owner_pid INTEGER NOT NULL, owner_started INTEGER NOT NULL, error TEXT, info TEXT NOT NULL,
    result TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS trials (
    run_id TEXT NOT NULL, trial INTEGER NOT NULL, score REAL NOT NULL, best REAL NOT NULL, examples INTEGER NOT NULL,
    elapsed_s REAL NOT NULL, at REAL NOT NULL, info TEXT NOT NULL, PRIMARY KEY (run_id, trial));
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
        connection.executescript(_TABLES)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the run store {path} cannot be opened: {error}",
            hint="set DSPEX_HOME to a folder you can write to, or move that file away",
        ) from error
    return connection
