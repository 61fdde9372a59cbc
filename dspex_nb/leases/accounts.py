"""What all processes of a home together may ask of one account at a server: seats, requests and tokens a minute, money."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from dataclasses import dataclass

from dspex_nb.leases.book import TTL_S, Book, BusyError
from dspex_nb.leases.budgets import Budget, add_spend, budgets_of, refusal, session_id, used

SLOTS = 600
"""Slots that a window is cut into: a start is forgotten at most a slot's length too late, never too early."""
_BUSY_WAIT_S = 0.005
_SEAT_WAIT_S = 0.03
_MONEY_WAIT_S = 0.1


@dataclass(slots=True, eq=False)
class Claim:
    """A call that was let in: what was set aside for it, to be corrected when it has ended."""

    slot: int
    tokens: int
    hold: int | None
    cost: float = 0.0


class Account:
    """One account at one server.

    Args:
        book: Where all processes write.
        name: Names the account; holds no secret.
        seats: Calls in flight at once, over all processes; None where that is no limit of the server's.
        rpm: Requests that may start in a window, None for no limit.
        tpm: Tokens that may be asked for in a window, None for no limit.
    """

    def __init__(
        self, book: Book, name: str, *, seats: int | None = None, rpm: int | None = None, tpm: int | None = None
    ) -> None:
        self.book, self.name = book, name
        self.seats, self.rpm, self.tpm = seats, rpm, tpm
        self.limited = not (seats is None and rpm is None and tpm is None)
        self._budgets = budgets_of(book)
        self._ask_at = 0.0

    def budget(self) -> Budget | None:
        """Return the budget in force, None without one."""
        return self._budgets.in_force()

    def claim(self, window_s: float, tokens: int, budget: Budget | None, cost: float) -> Claim | float:
        """Let a call in, or return the seconds after which to ask again.

        Args:
            window_s: Length of the window of rates.
            tokens: Set aside until the answer says what it used.
            budget: The budget in force.
            cost: US dollars the call may cost, set aside likewise.

        Raises:
            BudgetExceededError: It does not fit in what is left, whatever calls in flight turn out to cost.
            OSError, sqlite3.Error: The book cannot be used.
        """
        wait_s = self._ask_at - time.monotonic()
        if wait_s > 0:  # somebody of this process was refused a moment ago
            return wait_s
        claim = None
        try:
            with self.book.transaction() as db:
                wait_s = max(
                    self._wait_for_money(db, budget, cost), self._wait_for_seat(db), self._wait_for_rate(db, window_s, tokens)
                )
                claim = None if wait_s > 0 else self._enter(db, window_s, tokens, cost if budget is not None else None)
        except BusyError:
            return _BUSY_WAIT_S
        except KeyboardInterrupt:
            if claim is not None:  # written already, perhaps: nobody would settle it
                self.settle(claim, 0, None)
            raise
        if claim is None:
            self._ask_at = time.monotonic() + wait_s
            return wait_s
        if claim.hold is not None:
            self.book.keep(claim)
        return claim

    def settle(self, claim: Claim | None, tokens: int, cost: float | None) -> None:
        """Give back what a call did not use, and write down what it cost (None or 0: nothing known to have been paid)."""
        less = claim.tokens - tokens if claim is not None else 0
        if claim is not None and claim.hold is not None:
            self.book.drop(claim)
        elif not less and not cost:
            return

        def work(db: sqlite3.Connection) -> None:
            if claim is not None and claim.hold is not None:
                db.execute("DELETE FROM holds WHERE id = ?", (claim.hold,))
            if claim is not None and less:
                changed = (less, self.name, claim.slot)
                db.execute("UPDATE starts SET tokens = max(tokens - ?, 0) WHERE account = ? AND slot = ?", changed)
            if cost:
                add_spend(db, session_id(), cost)

        self.book.surely(work)
        self._ask_at = 0.0

    def _enter(self, db: sqlite3.Connection, window_s: float, tokens: int, cost: float | None) -> Claim:
        slot, hold = int(time.time() / (window_s / SLOTS)), None
        if cost is not None or self.seats is not None:
            row = (self.name, session_id(), *self.book.me, time.time() + TTL_S, cost or 0.0)
            hold = db.execute("INSERT INTO holds VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
        if self.rpm is not None or self.tpm is not None:
            db.execute(
                "INSERT INTO starts VALUES (?, ?, 1, ?) ON CONFLICT (account, slot) "
                "DO UPDATE SET requests = requests + 1, tokens = tokens + excluded.tokens",
                (self.name, slot, tokens),
            )
        return Claim(slot, tokens, hold, cost or 0.0)

    def _wait_for_seat(self, db: sqlite3.Connection) -> float:
        if self.seats is None:
            return 0.0
        count = "SELECT count(*) FROM holds WHERE account = ?"
        if db.execute(count, (self.name,)).fetchone()[0] < self.seats:
            return 0.0
        _clear_dead(self.book, db)
        return _SEAT_WAIT_S if db.execute(count, (self.name,)).fetchone()[0] >= self.seats else 0.0

    def _wait_for_rate(self, db: sqlite3.Connection, window_s: float, tokens: int) -> float:
        if self.rpm is None and self.tpm is None:
            return 0.0
        width, now = window_s / SLOTS, time.time()
        oldest, newest = int((now - window_s) / width), int(now / width)
        # Slots of the future are those of a clock that was set back.
        db.execute("DELETE FROM starts WHERE account = ? AND (slot < ? OR slot > ?)", (self.name, oldest, newest + SLOTS))
        summed = "SELECT total(requests), total(tokens) FROM starts WHERE account = ?"
        requests, asked = db.execute(summed, (self.name,)).fetchone()
        over = max(requests + 1 - self.rpm if self.rpm is not None else 0, 0)
        # A single request larger than the limit waits for an empty window.
        much = max(asked + min(tokens, self.tpm) - self.tpm if self.tpm is not None else 0, 0)
        if not over and not much:
            return 0.0
        listed = "SELECT slot, requests, tokens FROM starts WHERE account = ? ORDER BY slot"
        for slot, count, some in db.execute(listed, (self.name,)):
            over, much = over - count, much - some
            if over <= 0 and much <= 0:
                return float(max((slot + 1) * width + window_s - now, width))
        return width

    def _wait_for_money(self, db: sqlite3.Connection, budget: Budget | None, cost: float) -> float:
        if budget is None:
            return 0.0
        spent, held = used(db, budget)
        if spent + held + cost <= budget.dollars and spent < budget.dollars:
            return 0.0
        _clear_dead(self.book, db)
        spent, held = used(db, budget)
        if spent + cost > budget.dollars or spent >= budget.dollars:
            raise refusal(budget, spent, cost)
        return _MONEY_WAIT_S if spent + held + cost > budget.dollars else 0.0


def _clear_dead(book: Book, db: sqlite3.Connection) -> None:
    """Free what dead processes held. Their calls may have been paid for, so the money set aside for them counts as spent."""
    rows = db.execute("SELECT id, session, cost, place, pid, started, until FROM holds").fetchall()
    for hold, session, cost, *owner in rows:
        if book.is_over(*owner):
            db.execute("DELETE FROM holds WHERE id = ?", (hold,))
            if cost:
                add_spend(db, session, cost)


_accounts: dict[tuple[Book, str, int | None, int | None, int | None], Account] = {}
_making = threading.Lock()


def account_of(book: Book, identity: str, *, seats: int | None, rpm: int | None, tpm: int | None) -> Account:
    """Return this process's only `Account` with these limits; `identity` says which model, server and key, and is only hashed."""
    name = hashlib.sha256(identity.encode()).hexdigest()[:24]
    with _making:
        key = (book, name, seats, rpm, tpm)
        found = _accounts.get(key)
        if found is None:
            found = _accounts[key] = Account(book, name, seats=seats, rpm=rpm, tpm=tpm)
        return found
