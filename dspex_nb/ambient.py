"""The only ambient state: the current `Session` record, and whose step runs here. Only `api/` and `magics/` read it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_nb.errors import LMNotConfiguredError
from dspex_nb.events import Bus, Ledger
from dspex_nb.leases import BudgetState, book_at, budget_state
from dspex_nb.scopes import Scope

BOOK = "leases.sqlite"
"""In `home()`: what all its processes hold and have used, see `dspex_nb.leases`."""


def home() -> Path:
    """Return the folder of the cache and the run store: `$DSPEX_HOME`, else `~/.dspex_nb`."""
    return Path(os.environ.get("DSPEX_HOME") or Path.home() / ".dspex_nb")


@dataclass(frozen=True, slots=True)
class Session:
    """What a notebook has set: its LM, adapter, cache, pools and limits.

    Attributes:
        lm: A `clients.Client`, or None while none is set.
        adapter: An adapter's name or an adapter; None means the LM's own default.
        cache: A `cache.Cache`, or None for no caching, of steps neither.
        steps: A `runs.step_cache.StepCache` for the results of pure steps, or None.
        pools: A `pools.Pools` registry.
        store: A `store.Store`, or None for no record on disk.
        bus: Where the events of this session's runs go.
        ledger: Calls, tokens and cost so far.
        n_jobs: Rows in flight where a call does not say; None means the LM's `max_concurrency`.
    """

    lm: Any = None
    adapter: Any = None
    cache: Any = None
    steps: Any = None
    pools: Any = None
    store: Any = None
    bus: Bus = field(default_factory=Bus)
    ledger: Ledger = field(default_factory=Ledger)
    n_jobs: int | None = None

    def require_lm(self) -> Any:
        """Return the LM.

        Raises:
            LMNotConfiguredError: None is set.
        """
        if self.lm is None:
            raise LMNotConfiguredError(
                "no language model is set",
                hint="run `%dspex lm local` (the embedded model) or dx.configure(lm=dx.LM('openai/gpt-5-mini'))",
            )
        return self.lm

    @property
    def budget(self) -> BudgetState | None:
        """How the budget stands that `configure(budget=…)` set, all processes together; None without one."""
        return budget_state(book_at(home() / BOOK))


running: ContextVar[tuple[Scope, str] | None] = ContextVar("dspex_running", default=None)
"""The run, and the name in it, of the function step that this code is called by."""

_root = Session()
_scoped: ContextVar[Session | None] = ContextVar("dspex_session", default=None)


def current() -> Session:
    """Return the session in force here: the innermost `context`, else what `configure` set."""
    return _scoped.get() or _root


def configure(**changes: Any) -> Session:
    """Change the notebook's session for every thread and later cell; returns it."""
    global _root  # noqa: PLW0603 - the one root record that `configure` replaces, by design
    _root = replace(_root, **changes)
    return _root


@contextlib.contextmanager
def context(**changes: Any) -> Iterator[Session]:
    """Change the session inside a `with` block only; safe in threads and tasks."""
    token = _scoped.set(replace(current(), **changes))
    try:
        yield current()
    finally:
        _scoped.reset(token)
