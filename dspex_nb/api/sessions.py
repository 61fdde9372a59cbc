"""The session in force, with a cache and a run store opened on first use."""

from __future__ import annotations

import threading

from dspex_nb import ambient
from dspex_nb.ambient import Session, home
from dspex_nb.cache import Cache
from dspex_nb.pools import Pools
from dspex_nb.pools.carrying import settings as carried
from dspex_nb.runs.resuming import sweep
from dspex_nb.runs.step_cache import StepCache
from dspex_nb.store import Store

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
    sweep(home() / "unfinished")
    ambient.configure(store=store, cache=Cache(directory=home() / "cache"), steps=StepCache(home() / "steps"), pools=Pools())
    carried.open()  # in a worker of a pool: the notebook's LM, adapter and cache
