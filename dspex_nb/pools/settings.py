"""What a pool is asked to keep: its limits, its queue, its sessions, how its workers are started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.errors import PoolError

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What holds for every task and worker of a pool.

    Attributes:
        timeout_s: Seconds a task may run where it does not say; None for no limit.
        queue_size: Tasks that may wait; one more is refused.
        sessions: Sessions that may be open at once; None means one a slot.
        memory_bytes: Most memory (RSS) of one worker and all it started.
        cpu_threads: Threads that OpenMP and BLAS take in one worker; None means the machine's processors over the slots.
        gpus: Ids of the devices its workers see, dealt out over the slots; None leaves the environment as it is.
        max_tasks: Tasks after which a worker is replaced.
        max_age_s: Age at which a worker is replaced, between two tasks.
        heartbeat_s: Seconds without a sign of life after which a worker with a task is killed; 0 never.
        python: Another interpreter for the workers; their calls go by import path.
        imports: Modules a worker imports as it starts, ahead of its first task.
        options: What the backend takes besides, e.g. the address of a cluster.
    """

    timeout_s: float | None = None
    queue_size: int = 10_000
    sessions: int | None = None
    memory_bytes: int | None = None
    cpu_threads: int | None = None
    gpus: tuple[str, ...] | None = None
    max_tasks: int | None = None
    max_age_s: float | None = None
    heartbeat_s: float = 300.0
    python: str | None = None
    imports: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def checked(self, name: str) -> PoolSettings:
        """Return itself.

        Raises:
            PoolError: A figure that is not positive.
        """
        for setting in (
            "timeout_s",
            "queue_size",
            "sessions",
            "memory_bytes",
            "cpu_threads",
            "max_tasks",
            "max_age_s",
        ):
            figure = getattr(self, setting)
            if figure is not None and not figure > 0:
                raise PoolError(
                    f"pool {name!r}: {setting} is {figure}, expected more than 0", hint=f"leave {setting} out for the default"
                )
        return self


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a pool, as its worker sees it."""

    pool: str
    index: int
    size: int
    settings: PoolSettings

    @property
    def name(self) -> str:
        """Its name, in thread names, messages and the process list."""
        return f"{self.pool}-{self.index}"

    @property
    def beat(self) -> str:
        """Seconds between two signs of life, 0 for none, as its worker is told."""
        return str(self.settings.heartbeat_s / 3)

    def environment(self) -> dict[str, str | None]:
        """Return the variables that keep a worker to its processors and devices; what the user has set stays."""
        threads = self.settings.cpu_threads
        count = str(threads or max(1, processors() // self.size))
        found: dict[str, str | None] = {
            name: count for name in _THREAD_VARIABLES if threads is not None or name not in os.environ
        }
        gpus = self.settings.gpus
        if gpus is not None:
            own = gpus[self.index :: self.size] or ((gpus[self.index % len(gpus)],) if gpus else ())
            found |= dict.fromkeys(_GPU_VARIABLES, ",".join(own))
        return found


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> tuple[str, ...]:
    """Return the ids of the GPUs this process sees, none where there are none."""
    for name in _GPU_VARIABLES:
        if name in os.environ:
            return tuple(part.strip() for part in os.environ[name].split(",") if part.strip() not in {"", "-1"})
    try:
        found = [name.removeprefix("nvidia") for name in os.listdir("/dev") if name.startswith("nvidia")]  # noqa: PTH208 - names only
    except OSError:
        return ()
    return tuple(sorted((number for number in found if number.isdigit()), key=int))
