"""The session in force, with a cache and a run store opened on first use."""

from __future__ import annotations

import threading

from dspex_nb import ambient
from dspex_nb.ambient import Session, home
from dspex_nb.api.packing import packed_settings
from dspex_nb.cache import Cache
from dspex_nb.events import Event, LMCalled
from dspex_nb.leases import session_id
from dspex_nb.pools import Pools
from dspex_nb.pools.carrying import settings as carried
from dspex_nb.runs.resuming import sweep
from dspex_nb.runs.step_cache import StepCache
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.store import Store

_opening = threading.Lock()


def session() -> Session:
    """Return the session in force, opening its cache, pools and run store on first use."""
    if ambient.current().store is None:
        with _opening:
            if ambient.current().store is None:
                _open()
    return ambient.current()


def scope_here(*, own_steps: bool = False) -> Scope:
    """Return the scope of a call made now: a new run's, or inside a function step that step's, whose stop reaches it.

    Args:
        own_steps: The call has steps of its own, which are another run's: only its stop is shared.
    """
    around = ambient.running.get()
    if around is None:
        return Scope(new_run_id(), session().bus)
    scope, name = around
    return Scope(new_run_id(), scope.bus, scope.cancel) if own_steps else scope.at_step(name)


def _open() -> None:
    session_id()  # before any worker starts: it is theirs too
    store = Store(home() / "runs.sqlite")
    now = ambient.current()
    now.bus.subscribe(now.ledger.take, LMCalled, quick=True)
    store.attach(now.bus)
    store.mark_interrupted()
    sweep(home() / "unfinished")
    ambient.configure(store=store, cache=Cache(directory=home() / "cache"), steps=StepCache(home() / "steps"), pools=Pools())
    carried.pack, carried.tell = packed_settings, _tell
    carried.open()  # in a worker of a pool: the notebook's LM, adapter and cache


def _tell(event: Event) -> None:
    """Take what a worker asked of a model in a task of no run."""
    ambient.current().bus.publish(event)
