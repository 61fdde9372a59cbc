"""Slots on a Ray cluster: agents as Ray actors. Imported when a pool with `backend="ray"` starts its first worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dspex_nb.errors import PoolError
from dspex_nb.pools.agent import Agent
from dspex_nb.pools.cluster import ClusterWorker, share, too_little
from dspex_nb.pools.settings import Slot, processors

OPTIONS = ("runtime_env",)
_LISTEN_S = 1.0
_LATE_S = 60.0  # a machine that is busy is not lost
_GRACE = "RAY_CLIENT_RECONNECT_GRACE_PERIOD"
_MISSED_S = 3  # Ray's own 30 s would have workers outlive a killed kernel for as long
_NOBODY_THERE = (
    "is `ray start --head` running there? Where it asks for a token, this machine needs it in ~/.ray/auth_token, "
    "and the kernel RAY_AUTH_MODE=token"
)


class RayWorker(ClusterWorker):
    """A slot on a Ray cluster.

    With `address=` (`"auto"`, `"ray://host:10001"`, `"host:6379"`) it connects there; else it uses the Ray that the notebook has
    initialized; else it starts one on this machine, which ends with the pool.
    """

    def connect(self, options: Mapping[str, Any], size: int) -> RayEngine:
        """Connect, or start Ray here."""
        return RayEngine(options, size)


class RayEngine:
    """Ray, initialized."""

    def __init__(self, options: Mapping[str, Any], size: int) -> None:
        import ray

        self._own = not ray.is_initialized()
        if not self._own:
            return
        address = options.get("address")
        given: dict[str, Any] = (
            {"address": address} if address else {"num_cpus": max(size, processors()), "include_dashboard": False}
        )
        try:
            with _missed_for(_MISSED_S):
                ray.init(**given, runtime_env=options.get("runtime_env"), log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise PoolError(
                f"Ray {f'at {address!r} cannot be reached' if address else 'cannot be started'}: {error}",
                hint=_NOBODY_THERE if address else "try again, or start it apart: `ray start --head`",
            ) from error

    def place(self, slot: Slot, look_s: float, start_s: float) -> RayLine:
        """Start an agent as an actor."""
        import ray

        wishes = self._wishes(slot)
        # Coroutine methods: told messages are taken in their order while `listen` waits. An actor that died is not started again:
        # its process is gone, and what ran there must not run twice.
        kind = ray.remote(max_restarts=0, max_task_retries=0, **wishes)(Agent)
        actor = kind.remote(look_s)
        first = actor.listen.remote(0.0)
        ready, _ = ray.wait([first], timeout=start_s)
        if not ready:
            ray.kill(actor)
            told = ", ".join(f"{name}={value}" for name, value in wishes.items())
            raise too_little(slot.pool, told, str(ray.cluster_resources()), start_s)
        try:
            ray.get(first)
        except Exception as error:
            raise PoolError(
                f"pool {slot.pool!r}: a Ray worker cannot run its slot: {type(error).__name__}: {error}",
                hint="the nodes need dspex_nb and Python of the notebook's versions",
            ) from error
        return RayLine(actor)

    def close(self) -> None:
        """Leave Ray, and end it if it was started here."""
        if self._own:
            import ray

            with contextlib.suppress(Exception):
                ray.shutdown()

    @staticmethod
    def _wishes(slot: Slot) -> dict[str, Any]:
        import ray

        options, settings = slot.settings.options, slot.settings
        wishes: dict[str, Any] = {}
        if options.get("cpus") is not None:
            wishes["num_cpus"] = share(options["cpus"], slot)
        if options.get("gpus"):
            asked = options["gpus"]
            total = ray.cluster_resources().get("GPU", 0) if asked is True else asked
            if total:
                wishes["num_gpus"] = share(total, slot)
        if settings.memory_bytes is not None:
            wishes["memory"] = settings.memory_bytes
        if options.get("resources"):
            wishes["resources"] = dict(options["resources"])
        return wishes


@contextlib.contextmanager
def _missed_for(seconds: int) -> Iterator[None]:
    """Have the far end of a `ray://` connection made here wait so long for a notebook that is gone, if nothing else is set."""
    if _GRACE in os.environ:
        yield
        return
    os.environ[_GRACE] = str(seconds)
    try:
        yield
    finally:
        os.environ.pop(_GRACE, None)


class RayLine:
    """The way to an agent that is a Ray actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def tell(self, data: bytes, arrived: Callable[[], None]) -> None:
        """Send, without waiting: Ray keeps the order of calls."""
        if self._actor is not None:
            self._actor.tell.remote(data)
            arrived()

    def listen(self) -> bytes:
        """Wait for what it says."""
        import ray

        actor = self._actor
        if actor is None:
            raise ConnectionError("let go")
        return bytes(ray.get(actor.listen.remote(_LISTEN_S), timeout=_LISTEN_S + _LATE_S))

    def close(self) -> None:
        """End the actor; its processes end with it."""
        actor, self._actor = self._actor, None
        if actor is not None:
            import ray

            with contextlib.suppress(Exception):
                ray.kill(actor)
