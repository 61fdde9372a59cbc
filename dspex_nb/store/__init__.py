"""The run store: an event log in SQLite (WAL) with tables projected for views, one writer a process, several processes."""

from dspex_nb.leases.owners import Owner, is_alive
from dspex_nb.store.rows import CallRow, ExampleRow, LMUsage, RunRow, TrialRow
from dspex_nb.store.store import Store

__all__ = ["CallRow", "ExampleRow", "LMUsage", "Owner", "RunRow", "Store", "TrialRow", "is_alive"]
