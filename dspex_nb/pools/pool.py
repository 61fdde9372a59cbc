"""A pool: a fixed number of slots, each one thread or one supervised process, that tasks and sessions run on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self

from dspex_nb.errors import (
    PoolClosedError,
    PoolError,
    PoolFullError,
    SessionLostError,
    WorkerDiedError,
)
from dspex_nb.pools.calls import Calls, TaskOptions
from dspex_nb.pools.crew import crew
from dspex_nb.pools.lanes import Lane, Renewal, WaitingTasks
from dspex_nb.pools.leases import Leases
from dspex_nb.pools.limits import Limits
from dspex_nb.pools.sessions import Lease, Session
from dspex_nb.pools.settings import PoolSettings, Slot
from dspex_nb.pools.stats import PoolStats, SlotStats
from dspex_nb.pools.tasks import LogLine, PoolFuture, Task
from dspex_nb.pools.watch import Watch
from dspex_nb.pools.workers import Worker

_here = threading.local()
_ATTEMPTS = 3
_LOG_LINES = 1000


class Pool(Calls):
    """Runs tasks on `size` slots; each future resolves once; a task not declared idempotent starts at most once.

    Args:
        name: Its name, in thread names and messages.
        size: How many slots.
        backend: The backend's name, as it was asked for.
        new_worker: Makes the worker of one slot.
        settings: Limits, queue and how workers are started.

    Attributes:
        log: The last thousand lines that workers printed, logged or warned.
        timeout_s: Seconds a task may run where it does not say; None for no limit.
    """

    def __init__(
        self, name: str, size: int, backend: str, new_worker: Callable[[Slot], Worker], settings: PoolSettings | None = None
    ) -> None:
        super().__init__(self, TaskOptions())
        self.name, self.size, self.backend, self.settings = name, size, backend, settings or PoolSettings()
        self.timeout_s = self.settings.timeout_s
        self.closed = False
        self.log: deque[LogLine] = deque(maxlen=_LOG_LINES)
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._queue = WaitingTasks()
        self._lanes = [Lane(at, new_worker(Slot(name, at, size, self.settings)), self._lock) for at in range(size)]
        self._leases = Leases(self._lanes, self.settings.sessions or size, self._given_back)
        self._counts = {"done": 0, "failed": 0, "broken_off": 0, "retried": 0}
        self._watch = Watch(name, self._look)
        self._limits = Limits(
            self.settings, separate=self.separate, fail=self._fail, break_off=self._break_off, renew=self._renew_idle
        )

    @property
    def separate(self) -> bool:
        """Whether tasks run in other processes."""
        return self._lanes[0].worker.separate

    def session(
        self,
        key: str,
        *,
        initializer: Callable[..., Any] | str | None = None,
        initargs: tuple[Any, ...] = (),
        ttl_s: float | None = None,
        wait_s: float | None = None,
    ) -> Session:
        """Return a session: calls that all run on one slot, which is theirs, so that state left in the worker stays.

        Args:
            key: Its name; opened twice, it is the same session.
            initializer: Called in the worker before the first call, and again in a new worker after the old one died.
            initargs: Its arguments.
            ttl_s: Seconds without a call after which the slot is given back; until then the state outlives the `with` block.
                None: it ends with the block.
            wait_s: Seconds to wait for a slot, 0 to fail at once; None waits as long as it takes.
        """
        return Session(self, key, initializer=initializer, initargs=initargs, ttl_s=ttl_s, wait_s=wait_s)

    def warm(self) -> Self:
        """Start every worker now, with its imports, and wait until all are ready."""
        futures = []
        for lane in self._lanes:
            if lane.lease is None:
                task = Task(_nothing, log=self.log)
                task.payload = lane.worker.pack(task)
                with self._lock:
                    self._put(lane, task)
                futures.append(task.future)
        for future in futures:
            future.result()
        return self

    def run(self, task: Task) -> PoolFuture:
        """Have `task` done; the one way in, which everything else uses."""
        task.log = self.log
        task.payload = self._lanes[0].worker.pack(task)
        with self._lock:
            if self.closed:
                raise PoolClosedError(f"pool {self.name!r} is closed", hint="make a new one with dx.pool(…)")
            inline = self._would_deadlock(task)
            if not inline:
                self._enqueue(task)
        if inline and task.channel is not None:
            crew.start(self._run_here, task)  # its reader is this thread
        elif inline:
            self._run_here(task)
        return task.future

    def stats(self) -> PoolStats:
        """Return what it does and has done."""
        now = time.monotonic()
        with self._lock:
            self._queue.purge()
            own = sum(isinstance(task, Task) and not task.future.done() for lane in self._lanes for task in lane.own)
            slots = tuple(self._slot(lane, now) for lane in self._lanes)
            return PoolStats(
                self.name, self.backend, self.size, sum(lane.task is not None for lane in self._lanes), len(self._queue) + own,
                len(self._leases), **self._counts, queue_size=self.settings.queue_size,
                memory_bytes=sum(slot.memory_bytes for slot in slots), limit_bytes=self.settings.memory_bytes, slots=slots,
            )  # fmt: skip

    def close(self, wait_s: float = 0.0) -> None:
        """Take no more tasks, give running ones `wait_s`, then break off the rest; their futures raise PoolClosedError."""
        with self._lock:
            self.closed = True
            waiting = [*self._queue.clear(), *(task for lane in self._lanes for task in lane.own if isinstance(task, Task))]
            self._leases.end_all("was closed with its pool")
            for lane in self._lanes:
                lane.own.clear()
                lane.wake.notify_all()
            self._freed.notify_all()
        for task in waiting:
            task.future.fail(self._closed_error(task))
        deadline = time.monotonic() + wait_s
        for lane in self._lanes:
            self._close_lane(lane, deadline)
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(wait_s=0.0 if error else 5.0)

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} {self.size} {self.backend}{' closed' if self.closed else ''}>"

    # Slots and their threads

    def _enqueue(self, task: Task) -> None:
        """Queue a task, and wake or start a slot's thread for it; the lock is held."""
        lease = task.lease
        if lease is not None:
            if lease.over:
                raise SessionLostError(f"session {lease.key!r} {lease.over}, its state is gone", hint="open it again")
            lane = self._lanes[lease.lane]
            self._refuse_if_full(lease.waiting, task)
            lease.waiting += 1
            task.future.add_done_callback(lambda _: self._used(lease))
            self._put(lane, task)
            return
        if len(self._queue) >= self.settings.queue_size:
            self._queue.purge()
            self._refuse_if_full(len(self._queue), task)
        self._queue.push(task)
        free = next((lane for lane in self._lanes if lane.free and lane.waiting), None)
        if free is not None:
            free.call()
            return
        resting = next((lane for lane in self._lanes if lane.thread is None and lane.lease is None), None)
        if resting is not None:
            self._start(resting)

    def _put(self, lane: Lane, task: Task | Renewal) -> None:
        """Give a task to one slot; the lock is held."""
        lane.own.append(task)
        if lane.thread is None:
            self._start(lane)
        else:
            lane.call()

    def _refuse_if_full(self, waiting: int, task: Task) -> None:
        if waiting >= self.settings.queue_size:
            raise PoolFullError(
                f"{task.name}: {waiting} tasks wait in pool {self.name!r}, as many as its queue holds",
                hint="use pool.map or pool.amap, which wait for a place, or give the pool a larger queue_size",
            )

    def _start(self, lane: Lane) -> None:
        lane.called = True  # until its thread has looked
        lane.thread = threading.Thread(target=self._drive, args=(lane,), name=f"dspex-pool-{self.name}-{lane.index}", daemon=True)
        lane.thread.start()

    def _drive(self, lane: Lane) -> None:
        me = threading.current_thread()
        _here.pool, _here.lane = self, lane
        while (task := self._next(lane, me)) is not None:
            if isinstance(task, Renewal):
                self._tend(lane, lane.worker.renew)
            else:
                self._do(lane, task)
            del task  # an idle slot must not keep a result alive
        if lane.thread is me:
            lane.worker.close()

    def _next(self, lane: Lane, me: threading.Thread) -> Task | Renewal | None:
        with self._lock:
            while lane.thread is me:  # else this thread was abandoned and another drives the slot
                lane.task, lane.called = None, False
                if lane.own:
                    act = lane.own.popleft()
                    if isinstance(act, Task):
                        lane.task = act
                    return act
                if lane.lease is None and (task := self._queue.pop()) is not None:
                    lane.task = task
                    return task
                if self.closed:
                    return None
                self._freed.notify_all()
                lane.waiting = True
                lane.wake.wait()
                lane.waiting = False
            return None

    def _do(self, lane: Lane, task: Task) -> None:
        if not task.future.started(lambda: self._break_off(lane, task)):
            return
        limit = task.timeout_s if task.timeout_s is not None else self.timeout_s
        lane.began_at = now = time.monotonic()
        lane.deadline, lane.limit = (float("inf"), 0.0) if limit is None else (now + limit, limit)
        due = min(lane.deadline, now + self._limits.tick_s)
        if due < float("inf"):
            self._watch.by(due)
        try:
            value = self._perform(lane, task)
            resolved = task.future.resolve(value) or task.delivered
            if resolved and task.fn is not _nothing:
                lane.served += 1
                self._count("done")
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
            self._count("failed" if task.future.fail(error) or task.delivered else None)
        if lane.thread is threading.current_thread():
            self._tend(lane, lambda: lane.worker.tend(leased=lane.lease is not None))

    def _perform(self, lane: Lane, task: Task) -> Any:
        """Make the call; make it again where its worker died before it began, or in it if the task is idempotent."""
        attempt = 1
        while True:
            try:
                self._make_ready(lane, task)
                if task.future.done():  # broken off while its worker started
                    raise CancelledError
                return lane.worker.run(task)
            except WorkerDiedError as error:
                given = task.channel is not None and task.channel.given
                again = (not error.began or task.idempotent) and not given and not isinstance(error, SessionLostError)
                if not again or attempt == _ATTEMPTS or task.future.done() or self.closed:
                    raise
                attempt += 1
                self._count("retried" if error.began else None)

    def _make_ready(self, lane: Lane, task: Task) -> None:
        """Have a worker there, and for a session the one with its state."""
        lane.worker.ready()
        lease = task.lease
        if lease is None or lease.generation == lane.worker.generation:
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
        lane.deadline = float("inf")
        if self.closed:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the next task meets it and says so
            self.log.append(LogLine(time.time(), f"{self.name}-{lane.index}", "", "pool", "ERROR", str(error)))

    def _break_off(self, lane: Lane, task: Task, why: PoolError | None = None) -> None:
        """End `task` if it still runs on `lane`: kill the process, or leave the thread behind and drive on with another."""
        with self._lock:
            if lane.task is not task:
                return
            self._counts["broken_off"] += 1
            if task.channel is not None and not self.separate:
                task.channel.stop()
            if lane.worker.break_off(why):
                return
            task.future.abandoned = True
            lane.task = lane.thread = None
            if not self.closed and (lane.own or (len(self._queue) and lane.lease is None)):
                self._start(lane)

    def _close_lane(self, lane: Lane, deadline: float) -> None:
        thread, task = lane.thread, lane.task
        if thread is None or thread is threading.current_thread():
            return
        if task is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            if task.future.fail(self._closed_error(task)):
                self._break_off(lane, task)
        if lane.thread is thread:
            thread.join(2.0)

    def _closed_error(self, task: Task) -> PoolClosedError:
        return PoolClosedError(
            f"{task.name}: pool {self.name!r} was closed before it was done", hint="close the pool after its results"
        )

    def _count(self, what: str | None) -> None:
        if what is not None:
            with self._lock:
                self._counts[what] += 1

    def _slot(self, lane: Lane, now: float) -> SlotStats:
        task, worker = lane.task, lane.worker
        return SlotStats(
            f"{self.name}-{lane.index}", task.name if task else "", now - lane.began_at if task else 0.0,
            lane.lease.key if lane.lease else "", worker.rss_bytes(), lane.served, max(0, worker.generation - 1),
            getattr(worker, "pid", None),
        )  # fmt: skip

    # Limits

    def _look(self, now: float) -> float:
        """Hold every slot to its limits and every session to its time; return when to look again."""
        following = min(self._limits.look(lane, now) for lane in self._lanes)
        with self._lock:
            return min(following, self._leases.look(now))

    def _fail(self, lane: Lane, task: Task, error: PoolError) -> None:
        if task.future.fail(error):
            self._count("failed")
            self._break_off(lane, task)

    def _renew_idle(self, lane: Lane) -> None:
        with self._lock:
            if lane.task is None and lane.lease is None and not lane.own:
                self._put(lane, Renewal())

    # A task that submits to its own pool

    def _would_deadlock(self, task: Task) -> bool:
        """Whether waiting for `task` from the current thread could never end: it occupies the slot the task needs."""
        if self.separate or getattr(_here, "pool", None) is not self:
            return False
        if task.lease is not None:
            return bool(_here.lane.index == task.lease.lane)
        free = sum(lane.lease is None and not lane.own and (lane.waiting or lane.thread is None) for lane in self._lanes)
        return bool(free <= len(self._queue))

    def _run_here(self, task: Task) -> None:
        if task.future.started(lambda: None):
            try:
                task.future.resolve(self._lanes[0].worker.run(task))
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
                task.future.fail(error)

    # Sessions

    def lease(self, key: str, initializer: Task | None, ttl_s: float | None, wait_s: float | None) -> Lease:
        """Hold a slot for `key`, or join those who hold it.

        Raises:
            PoolFullError: None can be had within `wait_s`.
            PoolClosedError: The pool is closed.
        """
        if initializer is not None:
            initializer.log = self.log
            initializer.payload = self._lanes[0].worker.pack(initializer)
        until = None if wait_s is None else time.monotonic() + wait_s
        with self._lock:
            while True:
                if self.closed:
                    raise PoolClosedError(f"pool {self.name!r} is closed", hint="make a new one with dx.pool(…)")
                found = self._leases.find(key, initializer, ttl_s, idle=until is not None)
                if found is not None:
                    self._watch.by(time.monotonic() + found.left_s(time.monotonic()))
                    return found
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise self._leases.refusal(key, self.name)
                self._freed.wait(left)

    def release(self, lease: Lease) -> None:
        """Give a slot back, when nobody holds it any more and its time to live has passed."""
        with self._lock:
            self._leases.release(lease)
        if lease.ttl_s is not None:
            self._watch.by(lease.used_at + lease.ttl_s)

    def _used(self, lease: Lease) -> None:
        """Note the end of a session's call."""
        with self._lock:
            lease.waiting -= 1
        lease.used_at = time.monotonic()
        if lease.ttl_s is not None:
            self._watch.by(lease.used_at + lease.ttl_s)

    def _given_back(self, lease: Lease) -> None:
        """Replace the worker of a session that has ended, so that its state reaches nobody else. The lock is held."""
        lane = self._lanes[lease.lane]
        if not self.closed:
            if lease.generation is not None or lease.waiting:
                self._put(lane, Renewal())
            elif lane.waiting:
                lane.call()
        self._freed.notify_all()


def _nothing() -> None:
    """Do nothing: a worker that has done it is ready."""
