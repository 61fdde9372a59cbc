"""The notebook's session as users set it: `configure`, `context`, `session`, with a cache and a run store by default."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from dspex_nb import session as ambient
from dspex_nb.api.lms import client_of
from dspex_nb.cache import Cache
from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.pools import Pools
from dspex_nb.session import Session, home
from dspex_nb.store import Store

_SETTINGS = ("lm", "adapter", "cache", "pools", "n_jobs")
_opening = threading.Lock()


def session() -> Session:
    """Return the session in force, opening its cache, pools and run store on first use."""
    if ambient.current().store is None:
        with _opening:
            if ambient.current().store is None:
                _open()
    return ambient.current()


def _open() -> None:
    store = Store(home() / "runs.sqlite")
    now = ambient.current()
    now.bus.subscribe(now.ledger.take)
    store.attach(now.bus)
    store.mark_interrupted()
    ambient.configure(store=store, cache=Cache(directory=home() / "cache"), pools=Pools())


def configure(**settings: Any) -> Session:
    """Change the notebook's session and return it.

    Args:
        **settings: `lm` (a `dx.LM` or a model string), `adapter` (`"chat"`, `"json"`, `"compact"` or None for the
            LM's own), `cache` (a `dx.Cache`, or False for none), `pools`, `n_jobs`.

    Raises:
        DSPexError: A setting that does not exist.
    """
    session()
    return ambient.configure(**_checked(settings))


@contextlib.contextmanager
def context(**settings: Any) -> Iterator[Session]:
    """Change settings inside a `with` block only; safe in threads and tasks."""
    session()
    with ambient.context(**_checked(settings)) as inner:
        yield inner


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in _SETTINGS:
            hint = did_you_mean(name, _SETTINGS) or "see dx.configure?"
            raise DSPexError(f"no setting {name!r}; there are {', '.join(_SETTINGS)}", hint=hint)
    changes = dict(settings)
    if "lm" in changes:
        changes["lm"] = client_of(changes["lm"])
    if isinstance(changes.get("cache"), bool):
        changes["cache"] = Cache(directory=home() / "cache") if changes["cache"] else None
    return changes
