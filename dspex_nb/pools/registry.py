"""Pools by name, and the backends they can have."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from dspex_nb.errors import MissingDependencyError, PoolError, did_you_mean
from dspex_nb.pools.cluster import OPTIONS
from dspex_nb.pools.memory import machine_bytes
from dspex_nb.pools.pool import Pool
from dspex_nb.pools.processes import ProcessWorker
from dspex_nb.pools.settings import PoolSettings, Slot, devices, processors
from dspex_nb.pools.workers import ThreadWorker, Worker

_BACKENDS: dict[str, Callable[[Slot], Worker]] = {"thread": ThreadWorker, "loky": ProcessWorker, "process": ProcessWorker}
_OPTIONS: dict[str, tuple[str, ...]] = {}
CLUSTERS = {"dask": ("distributed", "dask_engine", "DaskWorker"), "ray": ("ray", "ray_engine", "RayWorker")}
"""Backends that reach other machines: the package each needs, the module here that imports it, and its worker."""


@dataclass(frozen=True, slots=True)
class NamedPool:
    """What a pool of a known name is, where the machine has as much: slots, memory of a worker, whether it sees the GPUs."""

    size: int
    memory_bytes: int | None = None
    gpus: bool = False


NAMED = {
    "modules": NamedPool(8),
    "optimizers": NamedPool(2, memory_bytes=4 * 1024**3),
    "retrievers": NamedPool(4, gpus=True),
    "multimodal": NamedPool(2, memory_bytes=8 * 1024**3),
}
"""Pools that are made, of processes, when they are first asked for."""


def register_backend(name: str, new_worker: Callable[[Slot], Worker], options: Iterable[str] = ()) -> None:
    """Add a backend.

    Args:
        name: Its name.
        new_worker: Makes the worker of one slot.
        options: Names of settings of its own, which it finds in `slot.settings.options`.
    """
    _BACKENDS[name], _OPTIONS[name] = new_worker, tuple(options)


class Pools:
    """Pools by name. `"loky"` and `"process"` are the same: supervised processes, each its own slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def create(self, name: str, size: int | None = None, backend: str | None = None, **settings: Any) -> Pool:
        """Make the pool `name`; one of that name that exists already is closed first.

        Args:
            name: Its name; `modules`, `optimizers`, `retrievers` and `multimodal` have sizes and limits of their own.
            size: Slots; None means what the name has, at most the machine's processors, and the processors for other names.
            backend: `"thread"` (the default, but for the four names), `"loky"`, `"dask"`, `"ray"`, or one that was registered.
            **settings: The fields of `PoolSettings`; `gpus` also as True for all there are, or how many.

        Raises:
            PoolError: The backend or a setting is unknown, or the size is not positive.
        """
        named = NAMED.get(name)
        backend = backend or ("loky" if named else "thread")
        if backend in CLUSTERS and backend not in _BACKENDS:
            _load(backend)
        if backend not in _BACKENDS:
            known = sorted({*_BACKENDS, *CLUSTERS})
            raise PoolError(
                f"pool {name!r}: backend {backend!r} is not known",
                hint=f"{did_you_mean(backend, known)}backends: {', '.join(known)}",
            )
        own = {setting: settings.pop(setting) for setting in _OPTIONS.get(backend, ()) if setting in settings}
        if named is not None and named.gpus and "gpus" in _OPTIONS.get(backend, ()):
            own.setdefault("gpus", True)  # the cluster's, not this machine's
        kept = _settings(name, {**settings, "options": own}, named if backend != "thread" else None, far=backend in CLUSTERS)
        if size is None:
            size = _size(kept, named) if backend not in CLUSTERS else named.size if named is not None else processors()
        if size < 1:
            raise PoolError(f"pool {name!r}: size is {size}, expected at least 1", hint="e.g. size=4")
        pool = Pool(name, size, backend, _BACKENDS[backend], kept)
        with self._lock:
            old, self._pools[name] = self._pools.get(name), pool
        if old is not None:
            old.close()
        return pool

    def get(self, name: str) -> Pool:
        """Return the pool `name`; the four of known names are made when they are first asked for.

        Raises:
            PoolError: There is none.
        """
        pool = self._pools.get(name)
        if pool is None and name in NAMED:
            return self.create(name)
        if pool is None:
            known = [*self.names(), *NAMED]
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


def _load(backend: str) -> None:
    """Register a cluster's backend.

    Raises:
        MissingDependencyError: Its package is not installed.
    """
    package, module, worker = CLUSTERS[backend]
    if importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"backend {backend!r} needs the package {package!r}", hint=f"pip install 'dspex_nb[{backend}]'"
        )
    engine = importlib.import_module(f"dspex_nb.pools.{module}")
    register_backend(backend, getattr(engine, worker), (*OPTIONS, *engine.OPTIONS))


def _settings(name: str, given: dict[str, Any], named: NamedPool | None, *, far: bool) -> PoolSettings:
    known = [field.name for field in fields(PoolSettings) if field.name != "options"]
    for setting in given:
        if setting not in {*known, "options"}:
            raise PoolError(
                f"pool {name!r}: no setting {setting!r}", hint=f"{did_you_mean(setting, known)}settings: {', '.join(known)}"
            )
    chosen = dict(given)
    if named is not None:
        chosen.setdefault("memory_bytes", named.memory_bytes)
        chosen.setdefault("gpus", named.gpus and not far)
    chosen["gpus"] = _gpus(name, chosen.get("gpus"))
    chosen["imports"] = tuple(chosen.get("imports") or ())
    return PoolSettings(**chosen).checked(name)


def _gpus(name: str, asked: Any) -> tuple[str, ...] | None:
    """Return the ids of the devices: True is all there are, a number the first so many, None leaves the workers alone."""
    if asked is None or asked is False or isinstance(asked, tuple | list):
        return None if asked is None or asked is False else tuple(map(str, asked))
    found = devices()
    if asked is True:
        return found
    if asked > len(found):
        raise PoolError(
            f"pool {name!r}: gpus={asked}, but {len(found)} can be seen here",
            hint="gpus=True takes what there is; or name ids: gpus=['0']",
        )
    return found[:asked]


def _size(settings: PoolSettings, named: NamedPool | None) -> int:
    """Return how many slots the machine has room for."""
    size = processors() if named is None else min(named.size, processors())
    memory = machine_bytes()
    if settings.memory_bytes and memory:
        size = min(size, memory // settings.memory_bytes)
    return max(1, size)
