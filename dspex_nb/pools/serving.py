"""Does one task on one slot: within its limits, again where it may be, its future resolved once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

from dspex_nb.errors import PoolError, SessionLostError, WorkerDiedError
from dspex_nb.pools.lanes import Lane, Renewal, here
from dspex_nb.pools.limits import NEVER, Limits
from dspex_nb.pools.tasks import Lease, LogLine, Task
from dspex_nb.pools.watch import Watch

_ATTEMPTS = 3


class Slots(Protocol):
    """What serving needs of the slots' dispatch."""

    @property
    def closed(self) -> bool:
        """Whether the pool is closed."""
        ...

    def count(self, what: str) -> None:
        """Count a task's end."""
        ...

    def break_off(self, lane: Lane, task: Task, why: PoolError | None = None) -> None:
        """End `task` if it still runs on `lane`."""
        ...


class Serving:
    """Called in the slots' threads.

    Args:
        name: The pool's.
        say: Takes what goes wrong between two tasks.
        watch: Called by when a task is to be looked at.
        limits: Says when that is.
        timeout_s: Seconds a task may run where it does not say.

    Attributes:
        slots: Set before the first task.
    """

    slots: Slots

    def __init__(self, name: str, say: Callable[[LogLine], None], watch: Watch, limits: Limits, timeout_s: float | None) -> None:
        self._name, self._say, self._watch, self._limits, self.timeout_s = name, say, watch, limits, timeout_s
        self._watched = limits.tick_s < NEVER

    def serve(self, lane: Lane, act: Task | Renewal) -> str | None:
        """Do a task, or replace the slot's worker; return what to count it as, None where it was counted or does not count."""
        if isinstance(act, Renewal):
            self._tend(lane, lane.worker.renew)
            return None
        if not act.future.started(lambda: self.slots.break_off(lane, act)):
            return None
        lane.began_at = time.monotonic()
        try:
            if not lane.worker.separate and act.lease is None:  # a thread is always there, and does not die
                self._set_limits(lane, act)
                value = lane.worker.run(act)
            else:
                value = self._perform(lane, act)
            here.ending = True
            ended = "done" if (act.future.resolve(value) or act.delivered) and act.counts else None
            lane.served += ended is not None
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
            here.ending = True
            ended = "failed" if act.future.fail(error) or act.delivered else None
        lane.deadline = NEVER
        if lane.worker.separate and lane.task is act:  # else nothing needs care, or this thread was abandoned
            self._tend(lane, lambda: lane.worker.tend(leased=lane.lease is not None))
        return ended

    def _set_limits(self, lane: Lane, task: Task) -> None:
        limit = task.timeout_s if task.timeout_s is not None else self.timeout_s
        now = time.monotonic()
        if limit is not None:
            lane.deadline, lane.limit = now + limit, limit
        if limit is not None or self._watched:
            self._watch.by(min(lane.deadline, now + self._limits.tick_s))

    def _perform(self, lane: Lane, task: Task) -> Any:
        """Make the call; make it again where its worker died before it began, or in it if the task is idempotent."""
        attempt = 1
        while True:
            try:
                lane.worker.ready()
                if attempt == 1:  # how long a cluster takes to find a place is not the task's time
                    self._set_limits(lane, task)
                if task.lease is not None:
                    self._build_state(lane, task, task.lease)
                if task.future.done():  # broken off while its worker started
                    raise CancelledError
                return lane.worker.run(task)
            except WorkerDiedError as error:
                given = task.channel is not None and task.channel.given
                again = (not error.began or task.idempotent) and not given and not isinstance(error, SessionLostError)
                if not again or attempt == _ATTEMPTS or task.future.done() or self.slots.closed:
                    raise
                attempt += 1
                if error.began:
                    self.slots.count("retried")

    def _build_state(self, lane: Lane, task: Task, lease: Lease) -> None:
        """Have the state of the task's session in the worker."""
        if lease.generation == lane.worker.generation:
            return
        if lease.initializer is not None:
            lane.worker.run(lease.initializer)
        elif lease.generation is not None:
            raise SessionLostError(
                f"{task.name}: the worker of session {lease.key!r} died, and its state with it",
                hint="open a new session, or give this one an initializer that builds its state",
            )
        lease.generation = lane.worker.generation

    def _tend(self, lane: Lane, act: Callable[[], None]) -> None:
        if self.slots.closed:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the next task meets it and says so
            self._say(LogLine(time.time(), f"{self._name}-{lane.index}", "", "pool", "ERROR", str(error)))
