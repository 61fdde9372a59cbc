"""The worker of a slot on a cluster: the same supervised process, started by an agent where the engine has room for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from dspex_nb.errors import PoolError
from dspex_nb.pools.children import MODULE, Child
from dspex_nb.pools.far import FarChild, Line, Link
from dspex_nb.pools.processes import ProcessWorker
from dspex_nb.pools.settings import Slot

OPTIONS = ("address", "resources", "gpus", "cpus", "variables", "start_s")
"""Settings that every cluster takes; an engine may have more."""
_START_S = 60.0
_LOOK_S = 0.1


class Engine(Protocol):
    """A cluster's engine, connected."""

    def place(self, slot: Slot, look_s: float, start_s: float) -> Line:
        """Have an agent run where there is room.

        Raises:
            PoolError: There is none within `start_s`.
        """
        ...

    def close(self) -> None:
        """Leave the cluster; end it if it was started here."""
        ...


class Connections:
    """The clusters in use: one connection each, for all pools, until its last slot has been closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[object, tuple[Engine, list[object]]] = {}

    def take(self, key: object, user: object, connect: Any) -> Engine:
        """Return the connection of that key, made if there is none, for `user` until it is left."""
        with self._lock:
            engine, users = self._open[key] if key in self._open else (connect(), [])
            self._open[key] = engine, users
            if user not in users:
                users.append(user)
            return engine

    def leave(self, key: object, user: object) -> None:
        """Note that `user` needs it no more."""
        with self._lock:
            engine, users = self._open.get(key, (None, []))
            if user in users:
                users.remove(user)
            if engine is None or users:
                return
            del self._open[key]
        engine.close()


connections = Connections()


class ClusterWorker(ProcessWorker):
    """Runs tasks in one process somewhere on a cluster.

    Nothing of this process's environment goes there but the variables that `variables=` names.
    """

    def __init__(self, slot: Slot) -> None:
        super().__init__(slot)
        options = slot.settings.options
        self._key = (type(self), options.get("address"), id(options.get("client")))
        self._start_s = float(options.get("start_s") or _START_S)
        self._variables = tuple(options.get("variables") or ())
        self._link: Link | None = None

    def connect(self, options: Mapping[str, Any], size: int) -> Engine:
        """Connect to the cluster; each engine's own."""
        raise NotImplementedError

    def rss_bytes(self) -> int:
        """Return the memory of the process tree, as its agent last told."""
        return self._child.rss_bytes if isinstance(self._child, FarChild) and self._child.alive else 0

    def renew(self) -> None:
        """End the process and have the agent start another."""
        if self._child is not None:
            self._child.terminate(grace_s=0.5)
        self._start()

    def close(self) -> None:
        """End the process, and give its place on the cluster back."""
        super().close()
        if self._link is not None:
            self._link.close()
            self._link = None
        connections.leave(self._key, self)

    def _new_child(self) -> tuple[Child, dict[str, str]]:
        slot = self.slot
        if self._link is None or self._link.lost:
            engine = connections.take(self._key, self, lambda: self.connect(slot.settings.options, slot.size))
            self._link = Link(engine.place(slot, _LOOK_S if slot.settings.memory_bytes else 1.0, self._start_s), slot.name)
        wanted = {"module": MODULE, "args": [slot.name, slot.beat], "env": slot.environment(), "python": slot.settings.python}
        try:
            child = FarChild(self._link, wanted, self._start_s)
        except PoolError as error:
            raise self._no_start(error.message) from error
        return child, {name: os.environ[name] for name in self._variables if name in os.environ}


def share(total: float, slot: Slot) -> float:
    """Return a slot's part of what the pool is to have of something: whole ones dealt out where they go round."""
    part = total / slot.size
    return float(int(part)) if part >= 1 else part


def too_little(pool: str, what: str, found: str, start_s: float) -> PoolError:
    """Return the error of a slot that finds no room."""
    return PoolError(
        f"pool {pool!r}: no place for a slot with {what or 'no special wishes'} after {start_s:g} s; the cluster has {found}",
        hint="ask for less, make the pool smaller, or add workers to the cluster; start_s= waits longer",
    )
