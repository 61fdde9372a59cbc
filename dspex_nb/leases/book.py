"""The book: one SQLite file (WAL) in which all processes of a home write what they hold and what they have used.

    leases(name, token, place, pid, started, until)              who has a request under way
    holds(id, account, session, place, pid, started, until, cost)  calls in flight: a seat at a server, money set aside
    starts(account, slot, requests, tokens)                      what was asked, in slots of a six-hundredth of the window
    spend(session, slot, cost)                                   US dollars paid, in slots of five minutes
    budgets(session, dollars, window_s)

A transaction takes tens of microseconds and never waits for the disk. What a process holds is renewed while it lives, ends
by itself when it does not, and is taken over at once when its owner (pid and start time, where pids mean the same: `place`)
is found dead. A book that cannot be used is said once and left alone for a minute: then each process keeps to the limits by
itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dspex_nb.leases.beating import Heartbeat
from dspex_nb.leases.owners import Owner, is_alive

TTL_S = 30.0
"""Seconds after which what is not renewed is over."""
_BUSY_MS = 50
_OPEN_S = 5.0
_REST_S = 60.0
_TRIES = 40
_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY, token TEXT NOT NULL, place TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL,
    until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, session TEXT NOT NULL, place TEXT NOT NULL, pid INTEGER NOT NULL,
    started INTEGER NOT NULL, until REAL NOT NULL, cost REAL NOT NULL);
CREATE TABLE IF NOT EXISTS starts (
    account TEXT NOT NULL, slot INTEGER NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (account, slot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (
    session TEXT NOT NULL, slot INTEGER NOT NULL, cost REAL NOT NULL, PRIMARY KEY (session, slot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spend_by_time ON spend (slot);
CREATE TABLE IF NOT EXISTS budgets (session TEXT PRIMARY KEY, dollars REAL NOT NULL, window_s REAL) WITHOUT ROWID;
"""


class BusyError(Exception):
    """Another process writes at this moment; ask again in some milliseconds."""


class Book:
    """One such file, opened on first use and again after a fork or when it was replaced.

    Args:
        path: Where it is; made at first use.
        quiet: Do not say that it cannot be used: its folder's owner does.

    Attributes:
        me: This process, as rows name it: place, pid, start.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._here = (0, 0)  # process and inode of the open file
        self._rest_until = 0.0
        self._warned = quiet
        self._beat = self._new_beat()
        self.me = ("", 0, 0)

    @property
    def usable(self) -> bool:
        """Whether it is not being left alone."""
        return time.monotonic() >= self._rest_until

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the file to one thread of one process, to read and write; whatever is raised inside undoes it.

        Raises:
            BusyError: Another process has it.
            OSError, sqlite3.Error: It cannot be used; from now on it is left alone for a while, see `usable`.
        """
        with self._lock:
            try:
                db = self._current()
                db.execute("BEGIN IMMEDIATE")
            except (OSError, sqlite3.Error) as error:
                raise self._busy_or_broken(error) from error
            try:
                yield db
                db.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._busy_or_broken(error) from error
                raise

    def row(self, query: str, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        """Return one row of a query, without waiting for those who write; raises as `transaction` does."""
        with self._lock:
            try:
                found: tuple[Any, ...] | None = self._current().execute(query, values).fetchone()
            except (OSError, sqlite3.Error) as error:
                raise self._busy_or_broken(error) from error
            return found

    def surely(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do what must not be left out, such as giving back; what is never possible is left to its expiry."""
        for _ in range(_TRIES):
            try:
                with self.transaction() as db:
                    work(db)
            except BusyError:
                time.sleep(0.002)
            except (OSError, sqlite3.Error):
                return
            else:
                return

    def keep(self, token: object) -> None:
        """Renew everything of this process's while a token is kept."""
        self._beat.keep(token)

    def drop(self, token: object) -> None:
        """Renew no longer for this token."""
        self._beat.drop(token)

    def is_over(self, place: str, pid: int, started: int, until: float) -> bool:
        """Say whether what a row names has expired or its owner is dead."""
        return until <= time.time() or (place == self.me[0] and not is_alive(Owner(pid, started)))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._db is not None and self._here[0] == os.getpid():
                self._db.close()
            self._db = None

    def __repr__(self) -> str:
        return f"Book({str(self.path)!r})"

    def _new_beat(self) -> Heartbeat:
        return Heartbeat("dspex-leases", TTL_S / 3, lambda: self.surely(self._prolong))

    def _prolong(self, db: sqlite3.Connection) -> None:
        mine = (time.time() + TTL_S, *self.me)
        db.execute("UPDATE leases SET until = ? WHERE place = ? AND pid = ? AND started = ?", mine)
        db.execute("UPDATE holds SET until = ? WHERE place = ? AND pid = ? AND started = ?", mine)

    def _current(self) -> sqlite3.Connection:
        if not self.usable:
            raise OSError(f"{self.path} is being left alone")
        try:
            here = (os.getpid(), os.stat(self.path).st_ino)  # noqa: PTH116 - the hot path
        except FileNotFoundError:
            here = (os.getpid(), 0)
        if self._db is None or here != self._here:
            self._open()
        assert self._db is not None  # noqa: S101 - _open sets it
        return self._db

    def _open(self) -> None:
        if self._db is not None and self._here[0] == os.getpid():
            self._db.close()
        elif self._here[0]:  # after a fork: the parent's connection and heartbeat stay behind
            self._beat = self._new_beat()
        self._db = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=_OPEN_S, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        except BaseException:
            db.close()
            raise
        owner = Owner.here()
        self._db, self.me = db, (_place(), owner.pid, owner.started)
        self._here = (os.getpid(), self.path.stat().st_ino)

    def _busy_or_broken(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error)):
            return BusyError(str(error))
        if self.usable:
            self._rest_until = time.monotonic() + _REST_S
            warned, self._warned = self._warned, True
            if not warned:
                warnings.warn(
                    f"limits, budgets and leases cannot be shared with other processes: {self.path}: {error}. Each process "
                    "keeps to them by itself. Free space there, or move that file away.",
                    RuntimeWarning,
                    stacklevel=5,
                )
        return error


def _place() -> str:
    """Name where this process's id means this process: two containers, or two machines with one home, have equal ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


_books: dict[Path, Book] = {}
_making = threading.Lock()


def book_at(path: Path, *, quiet: bool = False) -> Book:
    """Return this process's only `Book` of a file; see there."""
    with _making:
        found = _books.get(path)
        if found is None:
            found = _books[path] = Book(path, quiet=quiet)
        return found
