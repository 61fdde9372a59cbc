"""The disk tier's index: which items there are, how large, how old; one SQLite file (WAL) shared by all processes.

Everything in it can be rebuilt from the items, so it is written without waiting for the disk (`synchronous=OFF`), and an
index that is lost, damaged or of another make is made anew, also under a process that has it open. One that another program
keeps locked is left alone for a minute. A trigger keeps the totals, so that asking for the size is one look-up however many
entries there are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_SCHEMA = """
BEGIN IMMEDIATE;
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
_WAIT_S = 10.0
_STEP_S = 0.02
_REST_S = 60.0
Row = tuple[str, int, float, float | None]
_left_open: list[sqlite3.Connection] = []


class SizeIndex:
    """Keys, sizes and ages of the items under `directory`; opened on first use.

    Args:
        directory: Where the items are.
        scan: Gives (key, bytes, used, expires) of every item there, for an index made anew.
    """

    def __init__(self, directory: Path, scan: Callable[[], Iterable[Row]]) -> None:
        self.path = directory / "index.sqlite"
        self._scan = scan
        self._lock = threading.RLock()
        self._locked_until = 0.0
        self._db: sqlite3.Connection | None = None
        self._here = (0, 0)  # process and inode of the open file
        self._damaged = 0

    def add(self, key: str, size: int, expires: float | None) -> int:
        """Record an item and return the bytes of all items together."""
        with self._opened() as db:
            db.execute(_UPSERT, (key, size, time.time(), expires))
            return self._totals(db)[0]

    def add_many(self, rows: Iterable[Row]) -> None:
        """Record items (key, bytes, used, expires) in one transaction."""
        with self._opened() as db, _transaction(db):
            db.executemany(_UPSERT, rows)

    def touch(self, used: dict[str, float]) -> None:
        """Record when items were last used."""
        with self._opened() as db, _transaction(db):
            db.executemany("UPDATE items SET used = ? WHERE key = ?", [(at, key) for key, at in list(used.items())])

    def remove(self, keys: Iterable[str]) -> None:
        """Forget items."""
        with self._opened() as db, _transaction(db):
            db.executemany("DELETE FROM items WHERE key = ?", [(key,) for key in keys])

    def knows(self, key: str) -> bool:
        """Say whether the item is recorded."""
        with self._opened() as db:
            return db.execute("SELECT 1 FROM items WHERE key = ?", (key,)).fetchone() is not None

    def totals(self) -> tuple[int, int]:
        """Return bytes and entries of all items together."""
        with self._opened() as db:
            return self._totals(db)

    def sizes(self) -> list[tuple[str, int]]:
        """Return key and bytes of every item."""
        with self._opened() as db:
            return db.execute("SELECT key, bytes FROM items").fetchall()

    def expired(self) -> list[str]:
        """Return the keys of the items whose time is over."""
        with self._opened() as db:
            return [row[0] for row in db.execute("SELECT key FROM items WHERE expires <= ?", (time.time(),))]

    def oldest_over(self, limit_bytes: int, keep_bytes: int) -> list[str]:
        """Return the keys used longest ago that must go to leave `keep_bytes`, none if the limit is kept."""
        keys: list[str] = []
        with self._opened() as db, _transaction(db):  # one view of sizes and ages: two processes do not both make room
            total = self._totals(db)[0]
            if total > limit_bytes:
                for key, size in db.execute("SELECT key, bytes FROM items ORDER BY used"):
                    if total <= keep_bytes:
                        break
                    keys.append(key)
                    total -= size
        return keys

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._db is not None and self._here[0] == os.getpid():
                self._db.close()
            self._db = None

    @staticmethod
    def _totals(db: sqlite3.Connection) -> tuple[int, int]:
        row = db.execute("SELECT bytes, entries FROM totals").fetchone()
        return (int(row[0]), int(row[1]))

    # Opening

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Give the open index to one thread at a time.

        Raises:
            sqlite3.Error, OSError: It cannot be opened or used. A damaged one is let go, and the next use makes it anew.
        """
        with self._lock:
            if time.monotonic() < self._locked_until:
                raise sqlite3.OperationalError("the index is locked by another program")
            try:
                yield self._current()
            except sqlite3.OperationalError as error:
                if "locked" in str(error):  # every further call would wait as long
                    self._locked_until = time.monotonic() + _REST_S
                raise
            except sqlite3.DatabaseError:
                self._damaged = self._here[1]
                self._let_go()
                raise

    def _current(self) -> sqlite3.Connection:
        try:
            here = (os.getpid(), os.stat(self.path).st_ino)  # noqa: PTH116 - the hot path
        except FileNotFoundError:
            here = (os.getpid(), 0)
        if self._db is None or here != self._here:  # first use, after a fork, or the file was replaced under us
            self._let_go()
            self._db = self._open()
            self._here = (os.getpid(), self.path.stat().st_ino)
        return self._db

    def _let_go(self) -> None:
        """Leave the open file as it is: SQLite, closing it, would delete the write-ahead log of the one that took its name."""
        if self._db is not None:
            _left_open.append(self._db)
        self._db = None

    def _open(self) -> sqlite3.Connection:
        with contextlib.suppress(_NoIndexError):
            return self._connect()
        with _alone(self.path.with_suffix(".lock")):
            with contextlib.suppress(_NoIndexError):
                return self._connect()  # another process made it while this one waited
            return self._make()

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists() or self.path.stat().st_ino == self._damaged:
            raise _NoIndexError
        db = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, cached_statements=32)
        try:
            db.execute("PRAGMA synchronous=OFF")
            db.execute("SELECT key, bytes, used, expires FROM items LIMIT 1").fetchone()
            self._totals(db)
        except sqlite3.DatabaseError as error:
            db.close()
            if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
                raise  # locked, or a full disk: the index itself is good
            raise _NoIndexError from error
        return db

    def _make(self) -> sqlite3.Connection:
        for suffix in ("-wal", "-shm", ""):  # a log without its index would be played into the new one
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").unlink()
        db = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, cached_statements=32)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.executescript(_SCHEMA)  # begins what the commit ends: nobody meets an index that does not know its items
            db.executemany(_UPSERT, self._scan())
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db


class _NoIndexError(Exception):
    """There is no index, or it is none of ours."""


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time in, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows: two that make the index at once may count wrongly until the next trim
        yield
        return
    with path.open("w") as file:
        for _ in range(int(_WAIT_S / _STEP_S)):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_STEP_S)
        else:
            raise sqlite3.OperationalError("the index is locked: another process does not finish making it")
        yield
