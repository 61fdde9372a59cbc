"""Threads on demand for calls that wait: each starts at once on an idle thread or a new one, so nested use never deadlocks."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import Any

from dspex_nb.pools.futures import PoolFuture
from dspex_nb.pools.tasks import Task

_IDLE_S = 30.0
_GRACE_S = 0.5


class Crew:
    """Named daemon threads, as many as calls run at the moment; one that was idle for 30 s ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._idle: deque[queue.SimpleQueue[Task]] = deque()
        self._made = 0

    def start(self, fn: Callable[..., Any], *args: Any) -> PoolFuture:
        """Begin `fn(*args)` now, with the caller's context variables; the future resolves once."""
        task = Task(fn, args)
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
            if inbox is None:
                inbox = queue.SimpleQueue()
                self._made += 1
                name = f"dspex-{self.name}-{self._made}"
                threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        inbox.put(task)
        return task.future

    def at_once(self, calls: Sequence[Callable[[], Any]], on_error: Callable[[], None] = lambda: None) -> list[Any]:
        """Make all calls at the same time, the first in this thread, and return their values in order.

        Raises:
            BaseException: The first error. Before it is raised, `on_error` is called to stop the others; one that has not
                stopped within half a second is left behind and its result discarded.
        """
        futures = [self.start(call) for call in calls[1:]]
        try:
            values = [call() for call in calls[:1]]
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((future for future in futures if future.done() and future.exception() is not None), None)
            return [*values, *(future.result() for future in ([failed] if failed else futures))]
        except BaseException:
            on_error()
            wait(futures, _GRACE_S)
            for future in futures:
                future.cancel()
            raise

    def _serve(self, inbox: queue.SimpleQueue[Task]) -> None:
        while True:
            try:
                task = inbox.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                continue  # taken from the idle ones this moment: its task is on the way
            _do(task)
            del task  # an idle thread must not keep a result alive
            with self._lock:
                self._idle.append(inbox)


def _do(task: Task) -> None:
    if not task.future.started(lambda: None) or isinstance(task.fn, str):
        return
    try:
        task.future.resolve(task.context.run(task.fn, *task.args, **task.kwargs))
    except BaseException as error:  # noqa: BLE001 - whatever a call raises is its result
        task.future.fail(error)


crew = Crew("crew")
"""The process's own crew: parallel steps, candidates of one call, rows of a map."""
