"""A pool: a fixed number of slots, each one thread or one supervised process, that tasks and sessions run on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from dspex_nb.errors import PoolError, SessionLostError
from dspex_nb.pools.calls import Calls
from dspex_nb.pools.crew import crew
from dspex_nb.pools.dispatch import Dispatch
from dspex_nb.pools.futures import PoolFuture
from dspex_nb.pools.lanes import Lane, Renewal
from dspex_nb.pools.leases import Leases
from dspex_nb.pools.limits import Limits
from dspex_nb.pools.serving import Serving
from dspex_nb.pools.sessions import Session
from dspex_nb.pools.settings import PoolSettings, Slot
from dspex_nb.pools.stats import PoolStats, SlotStats
from dspex_nb.pools.tasks import Lease, LogLine, Task
from dspex_nb.pools.watch import Watch
from dspex_nb.pools.workers import Worker

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
    """

    def __init__(
        self, name: str, size: int, backend: str, new_worker: Callable[[Slot], Worker], settings: PoolSettings | None = None
    ) -> None:
        super().__init__(self)
        self.name, self.size, self.backend, self.settings = name, size, backend, settings or PoolSettings()
        self.log: deque[LogLine] = deque(maxlen=_LOG_LINES)
        self._lanes = [Lane(at, new_worker(Slot(name, at, size, self.settings))) for at in range(size)]
        self._watch = Watch(name, self._look)
        self._limits = Limits(
            self.settings, separate=self.separate, fail=self._fail, break_off=self._break_off, renew=self._renew_idle
        )
        self._serving = Serving(name, self.log.append, self._watch, self._limits, self.settings.timeout_s)
        renewing = self.settings.max_tasks is not None or self.settings.max_age_s is not None
        serve, queue_size = self._serving.serve, self.settings.queue_size
        self._slots = self._serving.slots = Dispatch(name, self._lanes, queue_size, serve, renewing=renewing)
        self._lock = self._slots.lock
        self._leases = Leases(self._lanes, self.settings.sessions or size, self._given_back)

    @property
    def separate(self) -> bool:
        """Whether tasks run in other processes."""
        return self._lanes[0].worker.separate

    @property
    def closed(self) -> bool:
        """Whether it takes no more tasks."""
        return self._slots.closed

    @property
    def timeout_s(self) -> float | None:
        """Seconds a task may run where it does not say; None for no limit."""
        return self._serving.timeout_s

    @timeout_s.setter
    def timeout_s(self, seconds: float | None) -> None:
        self._serving.timeout_s = seconds

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
                task = Task(_nothing, log=self.log, counts=False)
                task.payload = lane.worker.pack(task)
                with self._lock:
                    self._slots.put(lane, task)
                futures.append(task.future)
        for future in futures:
            future.result()
        return self

    def run(self, task: Task) -> PoolFuture:
        """Have `task` done; the one way in, which everything else uses."""
        task.log = self.log
        worker, slots = self._lanes[0].worker, self._slots
        task.payload = worker.pack(task)
        with self._lock:
            if slots.closed:
                raise slots.closed_error()
            if task.lease is None and ((task.follows and slots.follow(task)) or slots.start(task)):
                return task.future
            if worker.separate or task.follows or not slots.occupied(task):
                if task.lease is not None:
                    self._enqueue_held(task, task.lease)
                else:
                    slots.enqueue(task)
                return task.future
        if task.channel is not None:
            crew.start(self._run_here, task)  # its reader is this thread
        else:
            self._run_here(task)
        return task.future

    def stats(self) -> PoolStats:
        """Return what it does and has done."""
        now = time.monotonic()
        with self._lock:
            self._slots.queue.purge()
            own = sum(isinstance(task, Task) and not task.future.done() for lane in self._lanes for task in lane.own)
            slots = tuple(self._slot(lane, now) for lane in self._lanes)
            return PoolStats(
                self.name, self.backend, self.size, sum(lane.task is not None for lane in self._lanes),
                len(self._slots.queue) + own, len(self._leases), **self._slots.counts, queue_size=self.settings.queue_size,
                memory_bytes=sum(slot.memory_bytes for slot in slots), limit_bytes=self.settings.memory_bytes, slots=slots,
            )  # fmt: skip

    def close(self, wait_s: float = 0.0) -> None:
        """Take no more tasks, give running ones `wait_s`, then break off the rest; their futures raise PoolClosedError."""
        with self._lock:
            self._slots.closed = True
            self._leases.end_all("was closed with its pool")
        self._slots.close(wait_s)
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(wait_s=0.0 if error else 5.0)

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} {self.size} {self.backend}{' closed' if self.closed else ''}>"

    def _slot(self, lane: Lane, now: float) -> SlotStats:
        task, worker = lane.task, lane.worker
        return SlotStats(
            f"{self.name}-{lane.index}", task.name if task else "", now - lane.began_at if task else 0.0,
            lane.lease.key if lane.lease else "", worker.rss_bytes(), lane.served, max(0, worker.generation - 1),
            getattr(worker, "pid", None),
        )  # fmt: skip

    def _run_here(self, task: Task) -> None:
        """Do a task in the thread that asks for it: it drives the slot the task would wait for."""
        if task.future.started(lambda: None):
            try:
                task.future.resolve(self._lanes[0].worker.run(task))
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
                task.future.fail(error)

    # Limits

    def _look(self, now: float) -> float:
        """Hold every slot to its limits and every session to its time; return when to look again."""
        following = min(self._limits.look(lane, now) for lane in self._lanes)
        with self._lock:
            return min(following, self._leases.look(now))

    def _fail(self, lane: Lane, task: Task, error: PoolError) -> None:
        if task.future.fail(error):
            self._slots.count("failed")
            self._slots.break_off(lane, task)

    def _break_off(self, lane: Lane, task: Task, why: PoolError) -> None:
        self._slots.break_off(lane, task, why)

    def _renew_idle(self, lane: Lane) -> None:
        with self._lock:
            if lane.free:
                self._slots.put(lane, Renewal())

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
                if self._slots.closed:
                    raise self._slots.closed_error()
                found = self._leases.find(key, initializer, ttl_s, idle=until is not None)
                if found is not None:
                    self._watch.by(time.monotonic() + found.left_s(time.monotonic()))
                    return found
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise self._leases.refusal(key, self.name)
                self._slots.awaiting += 1
                try:
                    self._slots.freed.wait(left)
                finally:
                    self._slots.awaiting -= 1

    def release(self, lease: Lease) -> None:
        """Give a slot back, when nobody holds it any more and its time to live has passed."""
        with self._lock:
            self._leases.release(lease)
        if lease.ttl_s is not None:
            self._watch.by(lease.used_at + lease.ttl_s)

    def _enqueue_held(self, task: Task, lease: Lease) -> None:
        """Give a session's slot a task; the lock is held."""
        if lease.over:
            raise SessionLostError(f"session {lease.key!r} {lease.over}, its state is gone", hint="open it again")
        self._slots.refuse_if_full(lease.waiting, task)
        lease.waiting += 1
        task.future.add_done_callback(lambda _: self._used(lease))
        self._slots.put(self._lanes[lease.lane], task)

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
        if not self._slots.closed:
            if lease.generation is not None or lease.waiting:
                self._slots.put(lane, Renewal())
            else:
                self._slots.feed(lane)
        self._slots.freed.notify_all()


def _nothing() -> None:
    """Do nothing: a worker that has done it is ready."""
