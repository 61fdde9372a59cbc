"""Leases by name: of all processes one has it, until it gives it back, dies, or is not heard of for a while."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from dataclasses import dataclass

from dspex_nb.leases.book import TTL_S, Book, BusyError

_counter = itertools.count()
_TAKE = (
    "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET token = excluded.token, "
    "place = excluded.place, pid = excluded.pid, started = excluded.started, until = excluded.until "
    "WHERE leases.until <= ? RETURNING 1"
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A name that is held."""

    name: str
    token: str


class NamedLeases:
    """The leases of one book."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def take(self, name: str) -> Lease | None:
        """Return the lease if it is free or its owner is dead; None while somebody has it.

        A book that cannot be used gives a lease that nobody else sees.
        """
        lease = Lease(name, f"{os.getpid()}.{next(_counter)}")
        try:
            with self.book.transaction() as db:
                if not self._taken(db, lease):
                    return None
        except BusyError:
            return None
        except (OSError, sqlite3.Error):
            return lease
        except BaseException:  # ■, perhaps when it was written already: nobody would give it back
            self.give_back(lease)
            raise
        self.book.keep(lease)
        return lease

    def _taken(self, db: sqlite3.Connection, lease: Lease) -> bool:
        now = time.time()
        row = (lease.name, lease.token, *self.book.me, now + TTL_S)
        if db.execute(_TAKE, (*row, now)).fetchone() is not None:
            return True
        holder = db.execute("SELECT place, pid, started, until FROM leases WHERE name = ?", (lease.name,)).fetchone()
        if not self.book.is_over(*holder):
            return False
        db.execute("REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)", row)
        return True

    def give_back(self, lease: Lease) -> None:
        """Let others have it."""
        self.book.drop(lease)
        if self.book.usable:
            gone = (lease.name, lease.token)
            self.book.surely(lambda db: db.execute("DELETE FROM leases WHERE name = ? AND token = ?", gone))
