"""Budgets: how much a session may spend, alone or together with everything of its home in a span of time."""

from __future__ import annotations

import os
import re
import sqlite3
import time
import uuid
from dataclasses import dataclass

from dspex_nb.errors import BudgetExceededError, DSPexError
from dspex_nb.leases.book import Book, BusyError

SESSION = "DSPEX_SESSION"
SLOT_S = 300.0
_LOOK_S = 0.25
_KEPT_S = 35 * 86400.0
_SPANS = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0}
_FORM = re.compile(r"\s*\$?\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:/\s*|per\s+|a\s+)?(hour|day|week|month)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `dollars`: of this session if `window_s` is None, else of the whole home in any such span."""

    dollars: float
    window_s: float | None = None

    def __str__(self) -> str:
        span = next((f" a {name}" for name, seconds in _SPANS.items() if seconds == self.window_s), "")
        return f"{dollars(self.dollars)}{span or ' for this session'}"


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget as it stands: US dollars `spent`, and `reserved` for calls in flight."""

    budget: Budget
    spent: float
    reserved: float

    @property
    def left(self) -> float:
        """What may still be spent."""
        return max(self.budget.dollars - self.spent - self.reserved, 0.0)


def read_budget(given: object) -> Budget:
    """Return the budget meant by a number of US dollars, or by a text such as `"$5"` or `"$5/day"`.

    Raises:
        DSPexError: It means none.
    """
    if isinstance(given, Budget):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < float("inf"):
        return Budget(float(given))
    found = _FORM.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise DSPexError(
            f"budget={given!r:.80} is no budget",
            hint="write '$5' for this session, '$5/day' (hour, week, month) for all your kernels together, or None",
        )
    return Budget(float(found[1]), _SPANS[found[2].lower()] if found[2] else None)


def session_id() -> str:
    """Return this session's id: the kernel's own, which its workers and studies have from it in their environment."""
    return os.environ.get(SESSION) or os.environ.setdefault(SESSION, uuid.uuid4().hex[:12])


class Budgets:
    """The budget in force for this process's session, looked up again four times a second."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._found: Budget | None = None
        self._fresh_until = 0.0

    def in_force(self) -> Budget | None:
        """Return the budget, None without one."""
        if time.monotonic() >= self._fresh_until:
            self._look()
        return self._found

    def put(self, budget: Budget | None) -> None:
        """Set the session's budget, or lift it.

        Raises:
            DSPexError: It cannot be written down, so it would not hold.
        """
        try:
            with self.book.transaction() as db:
                if budget is None:
                    db.execute("DELETE FROM budgets WHERE session = ?", (session_id(),))
                else:
                    db.execute("REPLACE INTO budgets VALUES (?, ?, ?)", (session_id(), budget.dollars, budget.window_s))
                db.execute("DELETE FROM spend WHERE slot < ?", (int((time.time() - _KEPT_S) / SLOT_S),))
        except Exception as error:
            raise DSPexError(
                f"the budget cannot be written to {self.book.path}: {error}", hint="set DSPEX_HOME to a folder you can write to"
            ) from error
        self._found, self._fresh_until = budget, time.monotonic() + _LOOK_S

    def state(self) -> BudgetState | None:
        """Return how it stands, None without one."""
        budget = self.in_force()
        if budget is None:
            return None
        with self.book.transaction() as db:
            return BudgetState(budget, *used(db, budget))

    def _look(self) -> None:
        row = None
        if self.book.path.exists():  # else nobody has set any, and nothing is made to find that out
            try:
                row = self._row()
            except (OSError, sqlite3.Error):  # said already; what was known holds on
                self._fresh_until = time.monotonic() + _LOOK_S
                return
        self._found = Budget(*row) if row is not None else None
        self._fresh_until = time.monotonic() + _LOOK_S

    def _row(self) -> tuple[float, float | None] | None:
        while True:  # what is not known may not be taken for no budget
            try:
                return self.book.row("SELECT dollars, window_s FROM budgets WHERE session = ?", (session_id(),))
            except BusyError:  # somebody is making the file
                time.sleep(0.005)


def used(db: sqlite3.Connection, budget: Budget) -> tuple[float, float]:
    """Return US dollars spent under a budget, and set aside for calls in flight."""
    if budget.window_s is None:
        spent = db.execute("SELECT total(cost) FROM spend WHERE session = ?", (session_id(),)).fetchone()
        held = db.execute("SELECT total(cost) FROM holds WHERE session = ?", (session_id(),)).fetchone()
    else:
        since = int((time.time() - budget.window_s) / SLOT_S)
        spent = db.execute("SELECT total(cost) FROM spend WHERE slot >= ?", (since,)).fetchone()
        held = db.execute("SELECT total(cost) FROM holds").fetchone()
    return float(spent[0]), float(held[0])


def add_spend(db: sqlite3.Connection, session: str, cost: float) -> None:
    """Write down what was paid."""
    db.execute(
        "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT (session, slot) DO UPDATE SET cost = cost + excluded.cost",
        (session, int(time.time() / SLOT_S), cost),
    )


def refusal(budget: Budget, spent: float, cost: float) -> BudgetExceededError:
    """Return the error of a call that does not fit in what is left."""
    figures = f"{dollars(spent)} spent, {dollars(max(budget.dollars - spent, 0.0))} left"
    return BudgetExceededError(
        f"the budget of {budget} does not pay for this call, which may cost {dollars(cost)}: {figures}; nothing was sent",
        hint="raise it with dx.configure(budget=…), lift it with budget=None, or ask for shorter answers (max_tokens=)",
    )


def dollars(amount: float) -> str:
    """Return an amount with as many digits as it needs."""
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4g}"


_of: dict[Book, Budgets] = {}


def budgets_of(book: Book) -> Budgets:
    """Return a book's only `Budgets` in this process."""
    return _of.setdefault(book, Budgets(book))


def set_budget(book: Book, budget: Budget | None) -> None:
    """Set this session's budget in a book, or lift it."""
    budgets_of(book).put(budget)


def budget_state(book: Book) -> BudgetState | None:
    """Return how this session's budget stands, None without one or where it cannot be read."""
    try:
        return budgets_of(book).state()
    except Exception:  # noqa: BLE001 - busy or broken: a view shows it the next time
        return None
