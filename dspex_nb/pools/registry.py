"""Pools by name, and the backends they can have."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dspex_nb.errors import PoolError, did_you_mean
from dspex_nb.pools.pool import Pool
from dspex_nb.pools.workers import ProcessWorker, ThreadWorker, Worker

_BACKENDS: dict[str, Callable[[str], Worker]] = {"thread": ThreadWorker, "loky": ProcessWorker, "process": ProcessWorker}


def register_backend(name: str, new_worker: Callable[[str], Worker]) -> None:
    """Add a backend: `new_worker(slot_name)` makes the worker of one slot."""
    _BACKENDS[name] = new_worker


class Pools:
    """Pools by name. `"loky"` and `"process"` are the same: supervised processes, each its own slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def create(self, name: str, size: int, backend: str = "thread", *, timeout_s: float | None = None) -> Pool:
        """Make the pool `name`; one of that name that exists already is closed first.

        Raises:
            PoolError: The backend is unknown or the size is not positive.
        """
        if backend not in _BACKENDS:
            raise PoolError(
                f"pool {name!r}: backend {backend!r} is not known",
                hint=f"{did_you_mean(backend, _BACKENDS)}backends: {', '.join(sorted(_BACKENDS))}",
            )
        if size < 1:
            raise PoolError(f"pool {name!r}: size is {size}, expected at least 1", hint="e.g. size=4")
        pool = Pool(name, size, backend, _BACKENDS[backend], timeout_s=timeout_s)
        with self._lock:
            old, self._pools[name] = self._pools.get(name), pool
        if old is not None:
            old.close()
        return pool

    def get(self, name: str) -> Pool:
        """Return the pool `name`.

        Raises:
            PoolError: There is none.
        """
        with self._lock:
            pool, known = self._pools.get(name), list(self._pools)
        if pool is None:
            raise PoolError(
                f"there is no pool {name!r}",
                hint=f"{did_you_mean(name, known)}make it first: dx.pool({name!r}, size=4, backend='thread')",
            )
        return pool

    def names(self) -> list[str]:
        """Return the names of the pools, oldest first."""
        with self._lock:
            return list(self._pools)

    def close(self) -> None:
        """Close every pool."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()
