"""The disk tier's index: which items there are, how large, how old; one SQLite file (WAL) shared by all processes.

Everything in it can be rebuilt from the items, so it is written without waiting for the disk (`synchronous=OFF`), and an
index that is damaged or of another make is put aside and built anew. A trigger keeps the totals, so that asking for the size
is one look-up however many entries there are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, used REAL NOT NULL, expires REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_used ON items (used);
CREATE TABLE IF NOT EXISTS totals (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS item_added AFTER INSERT ON items
  BEGIN UPDATE totals SET bytes = bytes + new.bytes, entries = entries + 1; END;
CREATE TRIGGER IF NOT EXISTS item_removed AFTER DELETE ON items
  BEGIN UPDATE totals SET bytes = bytes - old.bytes, entries = entries - 1; END;
CREATE TRIGGER IF NOT EXISTS item_changed AFTER UPDATE OF bytes ON items
  BEGIN UPDATE totals SET bytes = bytes + new.bytes - old.bytes; END;
"""
_UPSERT = (
    "INSERT INTO items VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET bytes = excluded.bytes, used = excluded.used, expires = excluded.expires"
)


class SizeIndex:
    """Keys, sizes and ages of the items under `directory`.

    Attributes:
        fresh: The index had to be made anew, so it does not know the items that are there.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "index.sqlite"
        self._lock = threading.RLock()
        self.fresh = not self.path.exists()
        try:
            self._open()
        except sqlite3.OperationalError:  # locked, or a full disk: the index itself is good
            raise
        except sqlite3.DatabaseError:
            self._put_aside()
            self.fresh = True
            self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False, cached_statements=32)
        try:
            self._db.execute("PRAGMA busy_timeout=10000")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            if not self.fresh:
                self._db.execute("SELECT bytes FROM totals")
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                self._db.close()
                raise
            self.fresh = True
        except sqlite3.DatabaseError:
            self._db.close()
            raise
        self._db.executescript(_SCHEMA)

    def _put_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").unlink()

    def add(self, key: str, size: int, expires: float | None) -> int:
        """Record an item and return the bytes of all items together."""
        with self._lock:
            self._check_process()
            self._db.execute(_UPSERT, (key, size, time.time(), expires))
            return self._totals()[0]

    def add_many(self, rows: Iterable[tuple[str, int, float, float | None]]) -> None:
        """Record items (key, bytes, used, expires) in one transaction."""
        with self._lock, self._transaction():
            self._db.executemany(_UPSERT, rows)

    def touch(self, used: dict[str, float]) -> None:
        """Record when items were last used."""
        with self._lock, self._transaction():
            self._db.executemany("UPDATE items SET used = ? WHERE key = ?", [(at, key) for key, at in used.items()])

    def remove(self, keys: Iterable[str]) -> None:
        """Forget items."""
        with self._lock, self._transaction():
            self._db.executemany("DELETE FROM items WHERE key = ?", [(key,) for key in keys])

    def totals(self) -> tuple[int, int]:
        """Return bytes and entries of all items together."""
        with self._lock:
            self._check_process()
            return self._totals()

    def sizes(self) -> list[tuple[str, int]]:
        """Return key and bytes of every item."""
        with self._lock:
            self._check_process()
            return self._db.execute("SELECT key, bytes FROM items").fetchall()

    def expired(self) -> list[str]:
        """Return the keys of the items whose time is over."""
        with self._lock:
            self._check_process()
            return [row[0] for row in self._db.execute("SELECT key FROM items WHERE expires <= ?", (time.time(),))]

    def oldest(self, excess_bytes: int) -> list[str]:
        """Return the keys used longest ago that together have at least `excess_bytes`."""
        keys: list[str] = []
        with self._lock:
            self._check_process()
            for key, size in self._db.execute("SELECT key, bytes FROM items ORDER BY used"):
                if excess_bytes <= 0:
                    break
                keys.append(key)
                excess_bytes -= size
        return keys

    def close(self) -> None:
        """Close the file."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _totals(self) -> tuple[int, int]:
        row = self._db.execute("SELECT bytes, entries FROM totals").fetchone()
        return (int(row[0]), int(row[1]))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._check_process()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _check_process(self) -> None:
        if self._pid != os.getpid():  # SQLite handles must not cross a fork
            self._open()
