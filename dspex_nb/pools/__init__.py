"""Named pools of threads and supervised processes, and the child processes they and the studies are made of."""

from dspex_nb.pools.calls import Calls
from dspex_nb.pools.channels import Channel
from dspex_nb.pools.child import ChildProcess
from dspex_nb.pools.crew import Crew, crew
from dspex_nb.pools.futures import PoolFuture
from dspex_nb.pools.pool import Pool
from dspex_nb.pools.registry import NAMED, Pools, register_backend
from dspex_nb.pools.sessions import Session
from dspex_nb.pools.settings import PoolSettings, Slot
from dspex_nb.pools.stats import PoolStats, SlotStats
from dspex_nb.pools.streams import PoolStream
from dspex_nb.pools.tasks import LogLine, Task
from dspex_nb.pools.workers import Worker

__all__ = [
    "NAMED",
    "Calls",
    "Channel",
    "ChildProcess",
    "Crew",
    "LogLine",
    "Pool",
    "PoolFuture",
    "PoolSettings",
    "PoolStats",
    "PoolStream",
    "Pools",
    "Session",
    "Slot",
    "SlotStats",
    "Task",
    "Worker",
    "crew",
    "register_backend",
]
