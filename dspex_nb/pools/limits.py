"""Time, memory and signs of life: what a pool's watching thread looks at, slot by slot."""

from __future__ import annotations

from collections.abc import Callable

from dspex_nb.errors import MemoryLimitError, PoolError, TaskTimeoutError, WorkerHungError
from dspex_nb.pools.lanes import Lane
from dspex_nb.pools.settings import PoolSettings
from dspex_nb.pools.tasks import Task
from dspex_nb.pools.watch import TICK_S

_MB = 1_000_000
NEVER = float("inf")


class Limits:
    """Holds a pool's slots to their limits.

    Args:
        settings: The limits.
        separate: Whether the workers are processes, whose memory and life can be seen.
        fail: Fails a task with an error and ends it.
        break_off: Ends a worker; its task raises the error, or runs again.
        renew: Replaces the worker of an idle slot.
    """

    def __init__(
        self,
        settings: PoolSettings,
        *,
        separate: bool,
        fail: Callable[[Lane, Task, PoolError], None],
        break_off: Callable[[Lane, Task, PoolError], None],
        renew: Callable[[Lane], None],
    ) -> None:
        self._settings, self._separate = settings, separate
        self._fail, self._break_off, self._renew = fail, break_off, renew
        self.tick_s = self._tick()

    def look(self, lane: Lane, now: float) -> float:
        """Look at one slot; return when to look again, infinity while it has no task."""
        task = lane.task
        if task is not None and now >= lane.deadline:
            self._expire(lane, task)
        elif self.tick_s < NEVER and lane.thread is not None:
            self._measure(lane, task)
        if task is None:
            return NEVER
        return min(lane.deadline if lane.deadline > now else now + TICK_S, now + self.tick_s)

    def _tick(self) -> float:
        """Return how often workers with a task are looked at."""
        if not self._separate:
            return NEVER
        beat = self._settings.heartbeat_s
        return TICK_S if self._settings.memory_bytes else beat / 4 if beat else NEVER

    def _expire(self, lane: Lane, task: Task) -> None:
        where = "its worker process was killed" if self._separate else "its thread was abandoned, its result will be discarded"
        text = f"{task.name}: not done after {lane.limit:g} s; {where}"
        self._fail(lane, task, TaskTimeoutError(text, hint="raise timeout_s, or do less in one task"))

    def _measure(self, lane: Lane, task: Task | None) -> None:
        """Kill a worker that takes too much memory or gives no sign of life."""
        limit, silence = self._settings.memory_bytes, self._settings.heartbeat_s
        taken = lane.worker.rss_bytes() if limit else 0
        if limit and taken > limit:
            self._over_memory(lane, task, taken, limit)
        elif silence and task is not None and lane.worker.silent_s() > silence:
            error = WorkerHungError(
                f"{task.name}: its worker gave no sign of life for {silence:g} s and was killed",
                hint="C code that holds the GIL for longer looks the same: raise heartbeat_s for it",
            )
            self._break_off(lane, task, error)

    def _over_memory(self, lane: Lane, task: Task | None, taken: int, limit: int) -> None:
        if task is None:  # what an earlier task left behind must not be blamed on the next one
            self._renew(lane)
            return
        error = MemoryLimitError(
            f"{task.name}: its worker took {taken / _MB:,.0f} MB, over the pool's limit of {limit / _MB:,.0f} MB, and was killed",
            hint="do less in one task, or raise memory_bytes",
        )
        self._fail(lane, task, error)
