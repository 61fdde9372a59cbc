"""The session's settings on their way to a worker: packed in the kernel, taken in the worker."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import Any

from dspex_nb import ambient
from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.events import LMCalled
from dspex_nb.leases import SESSION, session_id

_packed: tuple[Session | None, bytes | None] = (None, None)


def packed_settings() -> bytes | None:
    """Return what a worker needs to have this session's LM, adapter and cache; None where nothing was set."""
    global _packed  # noqa: PLW0603 - one packing serves until something is set anew
    now, packed = ambient.current(), _packed
    if packed[0] is not now:  # read once: threads may have settings of their own
        packed = _packed = (now, _state(now))
    return packed[1]


def _state(now: Session) -> bytes | None:
    client, cache = now.lm, now.cache
    found: dict[str, Any] = {"adapter": now.adapter, "n_jobs": now.n_jobs, "session": session_id(), "lm": None}
    if client is not None and hasattr(client, "dump_state"):
        found["lm"] = (type(client), client.dump_state(), client.secrets())
    if cache is not None and hasattr(cache, "dump_state"):
        found["cache"] = {**cache.dump_state(), **cache.secrets()}
    elif cache is None:
        found["cache"] = None
    import cloudpickle

    for name in ("adapter", "lm"):
        with contextlib.suppress(Exception):  # one of the user's own may not cross: the worker has the rest
            return bytes(cloudpickle.dumps(found))
        found[name] = None
    return bytes(cloudpickle.dumps(found))


def take_settings(blob: bytes) -> None:
    """In a worker: make the notebook's settings this process's; `pools.carrying` calls it."""
    from dspex_nb.pools import slot

    found = pickle.loads(blob)  # noqa: S301 - the kernel packed it
    os.environ[SESSION] = found["session"]
    changes = {"adapter": found["adapter"], "n_jobs": found["n_jobs"], "lm": None}
    if found["lm"] is not None:
        kind, state, secrets = found["lm"]
        changes["lm"] = kind.from_state(state, secrets)
    if "cache" in found:
        changes["cache"] = None if found["cache"] is None else Cache(**found["cache"])
    bus = ambient.configure(**changes).bus
    bus.unsubscribe(slot.tell)
    bus.subscribe(slot.tell, LMCalled)  # what happens here is told in the run whose task this is
