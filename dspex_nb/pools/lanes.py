"""The slots of a pool and what waits for them."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections import deque

from dspex_nb.pools.tasks import Lease, Task
from dspex_nb.pools.workers import Worker

here = threading.local()
"""Of a slot's thread: its `dispatch`, its `lane`, and whether its task is `ending`, so that the slot will be free at once."""


class Renewal:
    """Stands in a slot's own queue: here its worker is replaced."""


class Lane:
    """One slot: its worker, its own tasks, and the thread that drives it.

    Attributes:
        inbox: Where the thread, when it has nothing to do, is given the next act; None ends it.
        own: What only this slot can do: a session's tasks, the replacement of its worker.
        lease: The session that holds it.
        task: What it does now.
        idle: Whether it has nothing to do; its thread then waits at the inbox, or was not started yet.
        deadline: When its task is broken off, after `limit` seconds.
    """

    __slots__ = ("began_at", "deadline", "idle", "inbox", "index", "lease", "limit", "own", "served", "task", "thread", "worker")

    def __init__(self, index: int, worker: Worker) -> None:
        self.index, self.worker = index, worker
        self.inbox: queue.SimpleQueue[Task | Renewal | None] = queue.SimpleQueue()
        self.own: deque[Task | Renewal] = deque()
        self.lease: Lease | None = None
        self.task: Task | None = None
        self.thread: threading.Thread | None = None
        self.idle = True
        self.began_at, self.deadline, self.limit = 0.0, float("inf"), 0.0
        self.served = 0

    @property
    def free(self) -> bool:
        """Whether a task of the pool's queue can start on it at once."""
        return self.idle and self.lease is None


class WaitingTasks:
    """Tasks of no slot in particular: a higher priority first, else in the order of their coming. The pool's lock guards it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, task: Task) -> None:
        """Add a task."""
        heapq.heappush(self._heap, (-task.priority, next(self._numbers), task))

    def pop(self) -> Task | None:
        """Take the next task that was not cancelled while it waited."""
        while self._heap:
            task = heapq.heappop(self._heap)[2]
            if not task.future.done():
                return task
        return None

    def purge(self) -> None:
        """Drop what was cancelled."""
        self._heap = [entry for entry in self._heap if not entry[2].future.done()]
        heapq.heapify(self._heap)

    def clear(self) -> list[Task]:
        """Take all."""
        heap, self._heap = self._heap, []
        return [task for _, _, task in sorted(heap, key=lambda entry: entry[:2])]
