"""What processes share without a server: who holds what, how much was asked of whom, what was spent; see `book.py`."""

from dspex_nb.leases.accounts import Account, Claim, account_of
from dspex_nb.leases.book import BusyError, book_at
from dspex_nb.leases.budgets import SESSION, Budget, BudgetState, budget_state, read_budget, session_id, set_budget
from dspex_nb.leases.named import Lease, NamedLeases
from dspex_nb.leases.owners import Owner, is_alive

__all__ = [
    "SESSION",
    "Account",
    "Budget",
    "BudgetState",
    "BusyError",
    "Claim",
    "Lease",
    "NamedLeases",
    "Owner",
    "account_of",
    "book_at",
    "budget_state",
    "is_alive",
    "read_budget",
    "session_id",
    "set_budget",
]
