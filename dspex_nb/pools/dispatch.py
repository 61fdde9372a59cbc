"""Brings tasks to slots: to a free one at once, else through the queue; one thread drives each slot."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from dspex_nb.errors import PoolClosedError, PoolError, PoolFullError
from dspex_nb.pools.lanes import Lane, Renewal, WaitingTasks, here
from dspex_nb.pools.tasks import Task

Serve = Callable[[Lane, Task | Renewal], str | None]


class Dispatch:
    """The queue of a pool and its slots' threads.

    While tasks wait in the queue no slot is free: whoever frees one gives it the next task.

    Args:
        name: The pool's, in messages and thread names.
        lanes: Its slots.
        queue_size: Tasks that may wait.
        serve: Does a task on a slot, in the slot's thread; returns what to count it as.
        renewing: Whether workers are replaced now and then, so that a slot whose task has ended may take long to be free.

    Attributes:
        lock: Guards everything here, and the leases.
        freed: Notified when a slot may be free and somebody is `awaiting` one.
        counts: How tasks ended.
        closed: Whether it takes no more tasks.
    """

    def __init__(self, name: str, lanes: Sequence[Lane], queue_size: int, serve: Serve, *, renewing: bool = False) -> None:
        self.name, self.lanes, self.queue_size, self._renewing = name, lanes, queue_size, renewing
        self._serve = serve
        self.lock = threading.RLock()
        self.freed = threading.Condition(self.lock)
        self.awaiting = 0
        self.queue = WaitingTasks()
        self.counts: Counter[str] = Counter(done=0, failed=0, broken_off=0, retried=0)
        self.closed = False

    def follow(self, task: Task) -> bool:
        """Leave a task to this thread's slot if the slot's own has just ended, and nobody waits; the lock is held.

        So no other thread must wake up for it.
        """
        if not getattr(here, "ending", False) or here.dispatch is not self or self._renewing:
            return False
        lane: Lane = here.lane
        if lane.own or self.queue or lane.lease is not None or lane.thread is not threading.current_thread():
            return False
        lane.own.append(task)
        return True

    def start(self, task: Task) -> bool:
        """Give a task to a free slot; False if there is none. The lock is held."""
        for lane in self.lanes:
            if lane.idle and lane.lease is None:
                self._give(lane, task)
                return True
        return False

    def enqueue(self, task: Task) -> None:
        """Queue a task that found no free slot; the lock is held.

        Raises:
            PoolFullError: The queue is full.
        """
        if len(self.queue) >= self.queue_size:
            self.queue.purge()
            self.refuse_if_full(len(self.queue), task)
        self.queue.push(task)

    def put(self, lane: Lane, act: Task | Renewal) -> None:
        """Give one slot what only it can do; the lock is held."""
        if lane.idle:
            self._give(lane, act)
        else:
            lane.own.append(act)

    def feed(self, lane: Lane) -> None:
        """Give a slot that has become free the next task of the queue; the lock is held."""
        if lane.free and (task := self.queue.pop()) is not None:
            self._give(lane, task)

    def refuse_if_full(self, waiting: int, task: Task) -> None:
        """Raise PoolFullError if no more may wait."""
        if waiting >= self.queue_size:
            raise PoolFullError(
                f"{task.name}: {waiting} tasks wait in pool {self.name!r}, as many as its queue holds",
                hint="use pool.map or pool.amap, which wait for a place, or give the pool a larger queue_size",
            )

    def count(self, what: str) -> None:
        """Count a task's end."""
        with self.lock:
            self.counts[what] += 1

    def break_off(self, lane: Lane, task: Task, why: PoolError | None = None) -> None:
        """End `task` if it still runs on `lane`: kill the process, or leave the thread behind and drive on with another."""
        with self.lock:
            if lane.task is not task:
                return
            self.counts["broken_off"] += 1
            if task.channel is not None and not lane.worker.separate:
                task.channel.stop()
            if lane.worker.break_off(why):
                return
            task.future.abandoned = True
            lane.task = lane.thread = None
            lane.idle, lane.deadline = True, float("inf")
            if not self.closed and (act := self._waiting_for(lane)) is not None:
                self._give(lane, act)

    def occupied(self, task: Task) -> bool:
        """Whether waiting for `task`, which found no free slot, could never end: this thread drives one that it may need."""
        if getattr(here, "dispatch", None) is not self:
            return False
        return task.lease is None or bool(here.lane.index == task.lease.lane)

    def close(self, wait_s: float) -> None:
        """Take no more tasks, give running ones `wait_s`, then break them off; every future is resolved."""
        with self.lock:
            self.closed = True
            waiting = [*self.queue.clear(), *(task for lane in self.lanes for task in lane.own if isinstance(task, Task))]
            for lane in self.lanes:
                lane.own.clear()
                if lane.idle and lane.thread is not None:
                    lane.inbox.put(None)
            self.freed.notify_all()
        for task in waiting:
            task.future.fail(self.closed_error(task))
        deadline = time.monotonic() + wait_s
        for lane in self.lanes:
            self._close_lane(lane, deadline)

    def closed_error(self, task: Task | None = None) -> PoolClosedError:
        """Return the error of a task that the closed pool does not do, or of one that comes too late."""
        if task is None:
            return PoolClosedError(f"pool {self.name!r} is closed", hint="make a new one with dx.pool(…)")
        return PoolClosedError(
            f"{task.name}: pool {self.name!r} was closed before it was done", hint="close the pool after its results"
        )

    def _give(self, lane: Lane, act: Task | Renewal) -> None:
        lane.idle = False
        lane.task = act if isinstance(act, Task) else None
        if lane.thread is not None:
            lane.inbox.put(act)
            return
        name = f"dspex-pool-{self.name}-{lane.index}"
        lane.thread = threading.Thread(target=self._drive, args=(lane, act), name=name, daemon=True)
        lane.thread.start()

    def _waiting_for(self, lane: Lane) -> Task | Renewal | None:
        """Take what waits for a slot, its own before the queue's; the lock is held."""
        act = lane.own.popleft() if lane.own else self.queue.pop() if lane.lease is None else None
        lane.task = act if isinstance(act, Task) else None
        return act

    def _drive(self, lane: Lane, first: Task | Renewal) -> None:
        me = threading.current_thread()
        here.dispatch, here.lane, here.ending = self, lane, False
        act: Task | Renewal | None = first
        del first  # an idle slot must not keep a result alive
        while act is not None:
            ended_as = self._serve(lane, act)
            act = None  # while it waits for the next
            act = self._next(lane, me, ended_as)
        if lane.thread is me:
            lane.worker.close()

    def _next(self, lane: Lane, me: threading.Thread, ended_as: str | None) -> Task | Renewal | None:
        here.ending = False
        with self.lock:
            if ended_as is not None:
                self.counts[ended_as] += 1
            if lane.thread is not me:  # this thread was abandoned, another drives the slot
                return None
            lane.task = None
            act = self._waiting_for(lane) if lane.own or self.queue else None
            if act is not None:
                return act
            if self.closed:
                return None
            lane.idle = True
            if self.awaiting:
                self.freed.notify_all()
        return lane.inbox.get()

    def _close_lane(self, lane: Lane, deadline: float) -> None:
        thread, task = lane.thread, lane.task
        if thread is None or thread is threading.current_thread():
            return
        if task is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            if task.future.fail(self.closed_error(task)):
                self.break_off(lane, task)
        if lane.thread is thread:
            thread.join(2.0)
