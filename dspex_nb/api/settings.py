"""What users set of the session: `configure` for good, `context` for a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from dspex_nb import ambient
from dspex_nb.adapters import check_adapter
from dspex_nb.ambient import BOOK, Session, home
from dspex_nb.api.lms import client_of
from dspex_nb.api.programs import check_width
from dspex_nb.api.sessions import session
from dspex_nb.cache import Cache
from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.leases import book_at, read_budget, set_budget

_SETTINGS = ("lm", "adapter", "cache", "pools", "n_jobs")
_UNSET: Any = object()


def configure(**settings: Any) -> Session:
    """Change the notebook's session and return it.

    Args:
        **settings: `lm` (a `dx.LM` or a model string), `adapter` (`"chat"`, `"json"`, `"compact"` or None for the
            LM's own), `cache` (a `dx.Cache`, or False for none), `pools`, `n_jobs`, and `budget`: US dollars, `5` or `"$5"` for
            this kernel with its workers and studies since it began, `"$5/day"` (hour, week, month) for all your kernels in any
            such span; None lifts it. Calls that it does not pay for raise `BudgetExceededError` and are not sent.

    Raises:
        DSPexError: A setting that does not exist, or a value it cannot have.
    """
    session()
    given = dict(settings)
    limit = given.pop("budget", _UNSET)
    changed = ambient.configure(**_checked(given))
    if limit is not _UNSET:
        set_budget(book_at(home() / BOOK), None if limit is None else read_budget(limit))
    return changed


@contextlib.contextmanager
def context(**settings: Any) -> Iterator[Session]:
    """Change settings inside a `with` block only; safe in threads and tasks."""
    session()
    with ambient.context(**_checked(settings)) as inner:
        yield inner


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name == "budget":
            raise DSPexError("a budget is not for a block, it is for the session", hint="dx.configure(budget='$5')")
        if name not in _SETTINGS:
            hint = did_you_mean(name, (*_SETTINGS, "budget")) or "see dx.configure?"
            raise DSPexError(f"no setting {name!r}; there are {', '.join((*_SETTINGS, 'budget'))}", hint=hint)
    changes = dict(settings)
    if "lm" in changes:
        changes["lm"] = client_of(changes["lm"])
    if isinstance(changes.get("cache"), bool):
        changes["cache"] = Cache(directory=home() / "cache") if changes["cache"] else None
    if isinstance(changes.get("adapter"), str):
        check_adapter(changes["adapter"])  # a misspelt name is told here, not at the first call
    cache = changes.get("cache")
    if cache is not None and not isinstance(cache, Cache):
        raise DSPexError(f"cache={cache!r:.80} is no cache", hint="give a dx.Cache, True or False")
    check_width(changes.get("n_jobs"))
    return changes
