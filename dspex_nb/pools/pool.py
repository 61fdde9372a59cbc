"""A pool: a fixed number of slots, each one thread or one supervised process, that tasks and sessions run on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from dspex_nb.errors import PoolClosedError, PoolError, TaskTimeoutError, WorkerDiedError
from dspex_nb.pools.tasks import PoolFuture, Task
from dspex_nb.pools.workers import Worker

_here = threading.local()


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


class _Lane:
    """One slot: its worker, its pinned tasks, and the thread that drives it."""

    __slots__ = ("index", "pinned", "sessions", "task", "thread", "worker")

    def __init__(self, index: int, worker: Worker) -> None:
        self.index, self.worker = index, worker
        self.pinned: deque[Task] = deque()
        self.sessions = 0
        self.task: Task | None = None
        self.thread: threading.Thread | None = None


class Pool:
    """Runs tasks on `size` slots; each future resolves once, each task starts at most once.

    Args:
        name: Its name, in thread names and messages.
        size: How many slots.
        backend: The backend's name, as it was asked for.
        new_worker: Makes the worker of one slot.
        timeout_s: Seconds a task may run where it does not say; None for no limit.
    """

    def __init__(
        self, name: str, size: int, backend: str, new_worker: Callable[[str], Worker], *, timeout_s: float | None = None
    ) -> None:
        self.name, self.size, self.backend, self.timeout_s = name, size, backend, timeout_s
        self.closed = False
        self._change = threading.Condition()
        self._queue: deque[Task] = deque()
        self._lanes = [_Lane(index, new_worker(f"{name}-{index}")) for index in range(size)]
        self._idle = 0
        self._keys: dict[str, tuple[_Lane, int]] = {}
        self._counts = {"done": 0, "failed": 0, "broken_off": 0}

    @property
    def separate(self) -> bool:
        """Whether tasks run in other processes."""
        return self._lanes[0].worker.separate

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture:
        """Have `fn(*args, **kwargs)` called on a free slot.

        Raises:
            PoolClosedError: The pool is closed.
            PoolError: The call cannot be sent to a worker process.
        """
        return self.run(Task(fn, args, kwargs))

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout_s: float | None = None) -> Iterator[Any]:
        """Yield `fn` of each item, in order; at most two tasks a slot are in the pool at once, so inputs may be endless."""
        waiting: deque[PoolFuture] = deque()
        try:
            for args in zip(*iterables, strict=False):
                waiting.append(self.run(Task(fn, args, timeout_s=timeout_s)))
                if len(waiting) >= 2 * self.size:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, an interrupt, or a consumer that went away: nothing may run on
            for future in waiting:
                future.cancel()

    def session(self, key: str) -> Session:
        """Return a session: calls that all run on one slot, so that state left in the worker is there for the next call."""
        return Session(self, key)

    def run(self, task: Task) -> PoolFuture:
        """Have `task` done; the one way in, which `submit`, `map` and sessions use."""
        task.payload = self._lanes[0].worker.pack(task)
        with self._change:
            if self.closed:
                raise PoolClosedError(f"pool {self.name!r} is closed", hint="make a new one with dx.pool(…)")
            inline = self._would_deadlock(task)
            if not inline:
                self._enqueue(task)
        if inline:
            self._run_here(task)
        return task.future

    def stats(self) -> PoolStats:
        """Return what it does and has done."""
        with self._change:
            queued = len(self._queue) + sum(len(lane.pinned) for lane in self._lanes)
            running = sum(lane.task is not None for lane in self._lanes)
            return PoolStats(
                self.name, self.backend, self.size, running, queued, sum(lane.sessions for lane in self._lanes), **self._counts
            )

    def close(self, wait_s: float = 0.0) -> None:
        """Take no more tasks, give running ones `wait_s`, then break off the rest; their futures raise PoolClosedError."""
        with self._change:
            self.closed = True
            waiting = [*self._queue, *(task for lane in self._lanes for task in lane.pinned)]
            self._queue.clear()
            for lane in self._lanes:
                lane.pinned.clear()
            self._change.notify_all()
        for task in waiting:
            task.future.fail(self._closed_error(task))
        deadline = time.monotonic() + wait_s
        for lane in self._lanes:
            self._close_lane(lane, deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(wait_s=0.0 if error else 5.0)

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} {self.size} {self.backend}{' closed' if self.closed else ''}>"

    # Slots and their threads

    def _enqueue(self, task: Task) -> None:
        """Queue a task, and start a slot's thread if it needs one; the lock is held."""
        if task.lane is not None:
            lane = self._lanes[task.lane]
            lane.pinned.append(task)
            if lane.thread is None:
                self._start(lane)
            self._change.notify_all()  # only that slot's thread may take it
            return
        self._queue.append(task)
        if self._idle < len(self._queue):
            resting = next((lane for lane in self._lanes if lane.thread is None), None)
            if resting is not None:
                self._start(resting)
        self._change.notify()

    def _start(self, lane: _Lane) -> None:
        lane.thread = threading.Thread(target=self._drive, args=(lane,), name=f"dspex-pool-{self.name}-{lane.index}", daemon=True)
        lane.thread.start()

    def _drive(self, lane: _Lane) -> None:
        me = threading.current_thread()
        _here.pool, _here.lane = self, lane
        while (task := self._next(lane, me)) is not None:
            self._do(lane, task)
        if lane.thread is me:
            lane.worker.close()

    def _next(self, lane: _Lane, me: threading.Thread) -> Task | None:
        with self._change:
            while lane.thread is me:  # else this thread was abandoned and another drives the slot
                lane.task = None
                queue = lane.pinned or self._queue
                if queue:
                    lane.task = queue.popleft()
                    return lane.task
                if self.closed:
                    return None
                self._idle += 1
                self._change.wait()
                self._idle -= 1
            return None

    def _do(self, lane: _Lane, task: Task) -> None:
        if not task.future.started(lambda: self._break_off(lane, task)):
            return
        limit = task.timeout_s if task.timeout_s is not None else self.timeout_s
        timer = None
        if limit is not None:
            timer = threading.Timer(limit, self._expire, (lane, task, limit))
            timer.daemon = True
            timer.start()
        try:
            _make_ready(lane.worker, task)
            if task.future.done():  # broken off while its worker started
                return
            resolved = task.future.resolve(lane.worker.run(task))
            self._count("done" if resolved else None)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
            self._count("failed" if task.future.fail(error) else None)
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, lane: _Lane, task: Task, limit: float) -> None:
        where = "its worker process was killed" if self.separate else "its thread was abandoned, its result will be discarded"
        error = TaskTimeoutError(
            f"{task.name}: not done after {limit:g} s; {where}", hint="raise timeout_s, or do less in one task"
        )
        if task.future.fail(error):
            self._break_off(lane, task)

    def _break_off(self, lane: _Lane, task: Task) -> None:
        """End `task` if it still runs on `lane`: kill the process, or leave the thread behind and drive on with another."""
        with self._change:
            if lane.task is not task:
                return
            self._counts["broken_off"] += 1
            if lane.worker.break_off():
                return
            lane.task = lane.thread = None
            if not self.closed and (lane.pinned or self._queue):
                self._start(lane)

    def _close_lane(self, lane: _Lane, deadline: float) -> None:
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
            with self._change:
                self._counts[what] += 1

    # A task that submits to its own pool

    def _would_deadlock(self, task: Task) -> bool:
        """Whether waiting for `task` from the current thread could never end: it occupies the slot the task needs."""
        if self.separate or getattr(_here, "pool", None) is not self:
            return False
        if task.lane is not None:
            return bool(_here.lane.index == task.lane)
        free = self._idle + sum(lane.thread is None for lane in self._lanes)
        return bool(free <= len(self._queue))

    def _run_here(self, task: Task) -> None:
        if task.future.started(lambda: None):
            try:
                task.future.resolve(task.context.run(task.fn, *task.args, **task.kwargs))
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
                task.future.fail(error)

    # Sessions

    def _lease(self, key: str) -> _Lane:
        with self._change:
            lane, holders = self._keys.get(key, (None, 0))
            if lane is None:
                lane = min(self._lanes, key=lambda each: (each.sessions, each.task is not None, each.index))
                lane.sessions += 1
            self._keys[key] = (lane, holders + 1)
            return lane

    def _release(self, key: str) -> None:
        with self._change:
            lane, holders = self._keys.pop(key)
            if holders > 1:
                self._keys[key] = (lane, holders - 1)
            else:
                lane.sessions -= 1


class Session:
    """Calls that all run on one slot. The same key, open twice, is the same slot; other tasks may run between its calls.

    If the slot's worker dies, state is lost, so later calls raise WorkerDiedError instead of meeting an empty worker.
    """

    def __init__(self, pool: Pool, key: str) -> None:
        self.pool, self.key = pool, key
        self._lane: _Lane | None = None
        self._generation: int | None = None

    def __enter__(self) -> Self:
        self._lane = self.pool._lease(self.key)  # noqa: SLF001 - a session is the pool's own other half
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lane, self._generation = None, None
        self.pool._release(self.key)  # noqa: SLF001

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` on the session's slot and return its value."""
        return self.submit(fn, *args, **kwargs).result()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture:
        """Have `fn` called on the session's slot, after the session's earlier calls.

        Raises:
            PoolError: The session is not open.
        """
        lane = self._lane
        if lane is None:
            raise PoolError(f"session {self.key!r} is not open", hint="use it as `with pool.session(key) as s: s.call(…)`")
        return self.pool.run(Task(fn, args, kwargs, lane=lane.index, meets=self._meets))

    def _meets(self, generation: int) -> bool:
        """Note the worker that the first call meets; False if a later call would meet another."""
        if self._generation is None:
            self._generation = generation
        return self._generation == generation


def _make_ready(worker: Worker, task: Task) -> None:
    worker.ready()
    if task.meets is not None and not task.meets(worker.generation):
        raise WorkerDiedError(f"{task.name}: the worker of this session died, and its state with it", hint="open a new session")
