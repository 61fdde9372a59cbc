"""Named pools of threads and supervised processes, and the child processes they and the studies are made of."""

from dspex_nb.pools.child import ChildProcess
from dspex_nb.pools.crew import Crew, crew
from dspex_nb.pools.pool import Pool, PoolStats, Session
from dspex_nb.pools.registry import Pools, register_backend
from dspex_nb.pools.tasks import PoolFuture, Task
from dspex_nb.pools.workers import Worker

__all__ = [
    "ChildProcess",
    "Crew",
    "Pool",
    "PoolFuture",
    "PoolStats",
    "Pools",
    "Session",
    "Task",
    "Worker",
    "crew",
    "register_backend",
]
