"""What `%dspex pools` shows: each pool, and under it each slot with what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dspex_nb.views.formats import bytes_text, count_text, cut
from dspex_nb.views.markup import Html, frame, heading, muted, section
from dspex_nb.views.tables import Column, number, table_html, table_text


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot: its name, the task it runs and for how long, its session, memory, tasks done and restarts of its worker."""

    name: str
    task: str = ""
    running_s: float = 0.0
    session: str = ""
    memory_bytes: int = 0
    done: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class PoolTableInfo:
    """A pool.

    Attributes:
        name: Its name.
        backend: What its slots are.
        size: How many slots.
        running: Slots with a task.
        waiting: Tasks in the queue.
        queue_size: Tasks the queue holds.
        sessions: Sessions open.
        done: Tasks that ended well.
        failed: Tasks that raised, took too long or too much, or lost their worker.
        broken_off: Tasks that were cancelled or killed.
        retried: Tasks that ran again after their worker died.
        memory_bytes: Memory of all its workers, 0 for threads.
        limit_bytes: What one worker may take, None for no limit.
        slots: Its slots.
    """

    name: str
    backend: str = "thread"
    size: int = 0
    running: int = 0
    waiting: int = 0
    queue_size: int = 0
    sessions: int = 0
    done: int = 0
    failed: int = 0
    broken_off: int = 0
    retried: int = 0
    memory_bytes: int = 0
    limit_bytes: int | None = None
    slots: Sequence[SlotInfo] = ()


_EMPTY = "no pool yet; make one with dx.pool('modules')"
_TASK = 60


def _columns() -> list[Column]:
    counts = ("Slots", "Running", "Waiting", "Sessions", "Done", "Failed", "Broken off", "Run again", "Memory", "Limit a worker")
    return [Column("Pool"), Column("Backend"), *(number(name) for name in counts)]


def _row(pool: PoolTableInfo) -> tuple[str, ...]:
    waiting = f"{count_text(pool.waiting)} of {count_text(pool.queue_size)}" if pool.queue_size else count_text(pool.waiting)
    return (
        pool.name, pool.backend, count_text(pool.size), count_text(pool.running), waiting, count_text(pool.sessions),
        count_text(pool.done), count_text(pool.failed), count_text(pool.broken_off), count_text(pool.retried),
        bytes_text(pool.memory_bytes) if pool.memory_bytes else "", bytes_text(pool.limit_bytes) if pool.limit_bytes else "",
    )  # fmt: skip


def _slot_columns() -> list[Column]:
    return [Column("Slot"), Column("Task"), number("Since"), Column("Session"), *map(number, ("Memory", "Done", "Restarts"))]


def _slot_row(slot: SlotInfo) -> tuple[str, ...]:
    since = f"{slot.running_s:,.1f} s" if slot.task else ""
    memory = bytes_text(slot.memory_bytes) if slot.memory_bytes else ""
    task = cut(slot.task, _TASK) if slot.task else "idle"
    return slot.name, task, since, slot.session, memory, count_text(slot.done), count_text(slot.restarts)


def _slots(pools: Sequence[PoolTableInfo]) -> list[tuple[str, ...]]:
    return [_slot_row(slot) for pool in pools for slot in pool.slots]


def pool_table_html(pools: Sequence[PoolTableInfo]) -> str:
    """Draw the pools and their slots as HTML."""
    table = table_html(_columns(), [_row(pool) for pool in pools], empty=_EMPTY)
    rows = _slots(pools)
    slots = [section("Slots"), table_html(_slot_columns(), rows, limit=None)] if rows else [Html("")]
    running = sum(pool.running for pool in pools)
    return frame(heading("pools", muted(f"{running} running") if running else ""), table, *slots)


def pool_table_text(pools: Sequence[PoolTableInfo]) -> str:
    """Write the pools and their slots as text."""
    if not pools:
        return _EMPTY
    return "\n\n".join([table_text(_columns(), [_row(pool) for pool in pools]), table_text(_slot_columns(), _slots(pools))])
