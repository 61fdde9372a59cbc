"""Slots on a Dask cluster: agents as Dask actors. Imported when a pool with `backend="dask"` starts its first worker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from dspex_nb.errors import PoolError
from dspex_nb.pools.agent import Agent
from dspex_nb.pools.cluster import ClusterWorker, share, too_little
from dspex_nb.pools.settings import Slot, processors

OPTIONS = ("client", "security")
_LISTEN_S = 1.0
_numbers = itertools.count()
_LATE_S = 60.0  # a machine that is busy is not lost


class DaskWorker(ClusterWorker):
    """A slot on a Dask cluster.

    With `address=` (a scheduler's, `security=` for TLS) it connects there, with `client=` it uses that one; else the notebook's
    own current client; else it starts a cluster of this machine's processors, which ends with the pool.
    """

    def connect(self, options: Mapping[str, Any], size: int) -> DaskEngine:
        """Connect, or start a cluster."""
        return DaskEngine(options, size)


class DaskEngine:
    """A connected client, and the cluster if it was started here."""

    def __init__(self, options: Mapping[str, Any], size: int) -> None:
        from distributed import Client, LocalCluster

        self._cluster: Any = None
        self._client: Any = options.get("client") or (None if options.get("address") else _current_client())
        self._own = self._client is None
        if options.get("address"):
            try:
                self._client = Client(options["address"], security=options.get("security"), set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise PoolError(
                    f"the Dask scheduler at {options['address']!r} cannot be reached: {error}",
                    hint="is `dask scheduler` running there, and may this machine connect to its port?",
                ) from error
        elif self._client is None:
            workers = min(size, processors())
            self._cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
            )
            self._client = Client(self._cluster, set_as_default=False, direct_to_workers=True)

    def place(self, slot: Slot, look_s: float, start_s: float) -> DaskLine:
        """Submit an agent as an actor."""
        options = slot.settings.options
        resources = dict(options.get("resources") or {})
        gpus = self._gpus(options.get("gpus") or 0)
        if gpus:  # asked for none, Dask would look for a worker that has some
            resources["GPU"] = share(gpus, slot)
        workers = self._spread(slot, resources)
        future = self._client.submit(
            Agent, look_s, actor=True, pure=False, key=f"dspex-{slot.name}-{id(slot):x}-{next(_numbers)}",
            resources=resources or None, workers=workers, allow_other_workers=workers is not None, retries=0,
        )  # fmt: skip
        try:
            agent = future.result(timeout=start_s)
            with self._client.as_current():  # its first call binds it to the client
                agent.listen(0.0).result(timeout=start_s)
            return DaskLine(self._client, future, agent)
        except TimeoutError as error:
            future.cancel()
            wishes = ", ".join(f"{name}={count:g}" for name, count in resources.items())
            raise too_little(slot.pool, wishes, self._found(), start_s) from error
        except Exception as error:
            raise PoolError(
                f"pool {slot.pool!r}: a Dask worker cannot run its slot: {type(error).__name__}: {error}",
                hint="the workers need dspex_nb and Python of the notebook's versions",
            ) from error

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._own:
            with contextlib.suppress(Exception):
                self._client.close(timeout=2)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=5)

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def _spread(self, slot: Slot, resources: Mapping[str, float]) -> list[str] | None:
        """Return the worker whose turn it is; Dask would put the small actors of all slots onto one."""
        fitting = [
            address
            for address, worker in sorted(self._workers().items())
            if all(worker.get("resources", {}).get(name, 0) >= count for name, count in resources.items())
        ]
        return [fitting[slot.index % len(fitting)]] if fitting else None

    def _gpus(self, asked: Any) -> float:
        if asked is not True:
            return float(asked)
        return float(sum(worker.get("resources", {}).get("GPU", 0) for worker in self._workers().values()))

    def _found(self) -> str:
        workers = self._workers()
        told = [f"{worker['nthreads']} thread(s), {worker.get('resources') or 'no resources'}" for worker in workers.values()]
        return f"{len(workers)} worker(s): {'; '.join(told[:5])}" if workers else "no worker"


class DaskLine:
    """The way to an agent that is a Dask actor: through the scheduler, or directly where the client may."""

    def __init__(self, client: Any, future: Any, agent: Any) -> None:
        self._client, self._future, self._agent = client, future, agent

    def tell(self, data: bytes, arrived: Callable[[], None]) -> None:
        """Send, without waiting."""
        agent = self._agent
        if agent is None:
            return
        sent = asyncio.run_coroutine_threadsafe(_awaited(agent.tell, data), self._client.loop.asyncio_loop)
        sent.add_done_callback(lambda _: arrived())

    def listen(self) -> bytes:
        """Wait for what it says."""
        agent = self._agent
        if agent is None:
            raise ConnectionError("let go")
        return bytes(agent.listen(_LISTEN_S).result(timeout=_LISTEN_S + _LATE_S))

    def close(self) -> None:
        """Release the actor: its worker forgets it, and it ends its processes."""
        future, self._future, self._agent = self._future, None, None
        if future is not None:
            with contextlib.suppress(Exception):
                future.release()


async def _awaited(call: Callable[[bytes], Any], data: bytes) -> None:
    await call(data)


def _current_client() -> Any:
    """Return the client that the notebook has made, None if it has none."""
    from distributed import Client

    with contextlib.suppress(ValueError):
        return Client.current()
    return None
