"""`dx.pool`: named workers for the session, threads or supervised processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from dspex_nb.api.displays import in_notebook, show
from dspex_nb.api.sessions import session
from dspex_nb.pools import NAMED, Pool, Pools
from dspex_nb.views.pool_views import PoolTableInfo, SlotInfo, pool_table_html, pool_table_text
from dspex_nb.widgets import LiveView

_LIVE_S = 0.5


def pool(  # noqa: PLR0913 - a record would only hide the settings
    name: str,
    size: int | None = None,
    backend: Literal["thread", "loky", "dask", "ray"] | None = None,
    *,
    memory_bytes: int | None = None,
    timeout_s: float | None = None,
    gpus: int | bool | Sequence[str] | None = None,
    cpu_threads: int | None = None,
    max_tasks: int | None = None,
    max_age_s: float | None = None,
    heartbeat_s: float = 300.0,
    queue_size: int = 10_000,
    sessions: int | None = None,
    python: str | None = None,
    imports: Sequence[str] = (),
    **backend_options: Any,
) -> Pool:
    """Return the session's pool `name`, made if `size`, `backend` or any setting is given, or if the name is a known one.

    Args:
        name: Steps ask for it by `pool="name"`. `modules` (8 slots), `optimizers` (2, 4 GB each), `retrievers` (4, GPUs) and
            `multimodal` (2, 8 GB each) are made at first use, as large as the machine allows.
        size: Slots; by default as many as the machine has processors.
        backend: `"thread"`, or `"loky"`: each slot is one supervised process; `"dask"` and `"ray"`: it runs on a cluster
            (docs/pools.md). By default threads, but processes for the four names.
        memory_bytes: Most memory of one worker and all it started; a task that takes more fails, its worker is killed.
        timeout_s: Seconds a task may run.
        gpus: GPUs the workers see, dealt out over the slots: how many, True for all, ids, 0 for none.
        cpu_threads: Threads of OpenMP and BLAS in one worker.
        max_tasks: Tasks after which a worker is replaced.
        max_age_s: Age at which a worker is replaced.
        heartbeat_s: Seconds without a sign of life after which a worker with a task is killed; 0 never.
        queue_size: Tasks that may wait; `submit` refuses one more.
        sessions: Sessions open at once; by default one a slot.
        python: Another interpreter for the workers, 3.11 or newer, with packages of its own; calls go by import path.
        imports: Modules that a worker imports as it starts.
        **backend_options: Of clusters: `address`, `resources`, `cpus`, `variables` (names of environment variables that
            travel), `start_s`; of Dask also `client` and `security`, of Ray `runtime_env`.

    Raises:
        PoolError: There is no such pool, or a setting that cannot be kept.
    """
    pools: Pools = session().pools
    settings: dict[str, Any] = {
        "memory_bytes": memory_bytes, "timeout_s": timeout_s, "gpus": gpus, "cpu_threads": cpu_threads, "max_tasks": max_tasks,
        "max_age_s": max_age_s, "sessions": sessions, "python": python, "imports": tuple(imports) or None,
        "heartbeat_s": None if heartbeat_s == 300.0 else heartbeat_s, "queue_size": None if queue_size == 10_000 else queue_size,  # noqa: PLR2004
        **backend_options,
    }  # fmt: skip
    given = {setting: value for setting, value in settings.items() if value is not None}
    if size is None and backend is None and not given and (name in pools.names() or name not in NAMED):
        return pools.get(name)
    return pools.create(name, size, backend, **given)


class PoolTable:
    """The pools and their slots: a table that follows them while tasks run, and then stays as it is.

    Attributes:
        info: The pools as they were when this was made.
    """

    def __init__(self) -> None:
        self.info = _infos()

    @property
    def text(self) -> str:
        """The table as plain text."""
        return pool_table_text(self.info)

    def __repr__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        if not (in_notebook() and _at_work()):
            show(pool_table_html(_infos()), pool_table_text(_infos()))
            return
        view = LiveView(lambda: pool_table_html(_infos()), lambda: pool_table_text(_infos()), tick_s=_LIVE_S).show()
        threading.Thread(target=_follow, args=(view,), name="dspex-pool-table", daemon=True).start()


def pool_status() -> PoolTable:
    """Return the pools: slots, queue, memory, tasks done, failures."""
    return PoolTable()


def _follow(view: LiveView) -> None:
    while _at_work():
        time.sleep(_LIVE_S)
    view.finish()


def _at_work() -> bool:
    return any(pool.running or pool.waiting for pool in _infos())


def _infos() -> list[PoolTableInfo]:
    pools: Pools = session().pools
    found = [pools.get(name).stats() for name in pools.names()]
    return [
        PoolTableInfo(
            s.name, s.backend, s.size, s.running, s.queued, s.queue_size, s.sessions, s.done, s.failed, s.broken_off, s.retried,
            s.memory_bytes, s.limit_bytes,
            [SlotInfo(o.name, o.task, o.running_s, o.session, o.memory_bytes, o.done, o.restarts) for o in s.slots],
        )
        for s in found
    ]  # fmt: skip
