"""What a pool and its slots do, as records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotStats:
    """One slot: what it runs and for how long, its session, its memory, how many tasks it did, its worker's process id."""

    name: str
    task: str
    running_s: float
    session: str
    memory_bytes: int
    done: int
    restarts: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool does now (`running`, `queued`, `sessions`) and has done since it was made (`done`, `failed`, `broken_off`)."""

    name: str
    backend: str
    size: int
    running: int
    queued: int
    sessions: int
    done: int
    failed: int
    broken_off: int
    retried: int = 0
    queue_size: int = 0
    memory_bytes: int = 0
    limit_bytes: int | None = None
    slots: tuple[SlotStats, ...] = ()
