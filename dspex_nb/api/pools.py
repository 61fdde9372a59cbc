"""`dx.pool`: named workers for the session, threads or supervised processes."""

from __future__ import annotations

from typing import Any, Literal

from dspex_nb.api.sessions import session
from dspex_nb.errors import PoolError


def pool(
    name: str,
    size: int | None = None,
    backend: Literal["thread", "loky", "dask", "ray"] = "thread",
    *,
    memory_bytes: int | None = None,
    timeout_s: float | None = None,
    gpus: int = 0,
) -> Any:
    """Return the session's pool `name`, made if `size` is given.

    Args:
        name: Steps ask for it by `pool="name"`.
        size: Slots; each slot of a process pool is one supervised process.
        backend: `"thread"` or `"loky"`.
        memory_bytes: Limit of one worker; not kept yet, so refused.
        timeout_s: Seconds a task may run.
        gpus: GPUs of the pool; not kept yet, so refused.

    Raises:
        PoolError: There is no such pool, or a setting that this version does not keep.
    """
    pools = session().pools
    if memory_bytes or gpus:
        raise PoolError("memory_bytes and gpus are not in this version", hint="leave them out")
    return pools.get(name) if size is None else pools.create(name, size, backend, timeout_s=timeout_s)
