"""DSPy's loop over examples, on threads that stay: it makes new ones for each evaluation, and looks at all examples at each."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from dspy.dsp.utils.settings import thread_local_overrides
from dspy.utils.parallelizer import ParallelExecutor

from dspex_nb.pools import crew

_LOOK_S = 1.0
_NOTHING = object()


@contextlib.contextmanager
def on_lanes() -> Iterator[Ahead]:
    """Run what DSPy runs in parallel on lanes, and all of it without progress bars: nobody sees them here.

    Yields:
        Where to begin what is wanted later.
    """
    ahead = Ahead()
    plain = {name: getattr(ParallelExecutor, name) for name in ("_execute_parallel", "_report_progress")}
    ParallelExecutor._execute_parallel = lambda executor, function, data: Lanes(executor, function, data, ahead).results()  # noqa: SLF001
    ParallelExecutor._report_progress = lambda *_: None  # noqa: SLF001 - it adds up all scores so far at each example
    try:
        yield ahead
    finally:
        for name, method in plain.items():
            setattr(ParallelExecutor, name, method)


class Ahead:
    """Calls begun before their results are wanted, on lanes that the passes then do without.

    Attributes:
        running: Lanes in use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0

    @contextlib.contextmanager
    def begun(self, calls: Sequence[Callable[[], Any]], lanes: int) -> Iterator[Iterator[Any]]:
        """Make the calls in their order, so many at once; what has not begun at the end of the context never does.

        Yields:
            The results in order, each as soon as it is there; an error is raised in its turn.
        """
        futures: list[Future[Any]] = [Future() for _ in calls]
        waiting = iter(zip(calls, futures, strict=True))
        for _ in range(min(lanes, len(calls))):
            with self._lock:
                self.running += 1
            crew.start(self._run, waiting)
        try:
            yield (future.result() for future in futures)
        finally:
            for future in futures:
                future.cancel()

    def _run(self, waiting: Iterator[tuple[Callable[[], Any], Future[Any]]]) -> None:
        try:
            while (one := self._next(waiting)) is not None:
                call, future = one
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    future.set_result(contextvars.copy_context().run(call))
                except BaseException as failure:  # noqa: BLE001 - whatever it is, it is raised where the result is wanted
                    future.set_exception(failure)
        finally:
            with self._lock:
                self.running -= 1

    def _next(self, waiting: Iterator[Any]) -> Any:
        with self._lock:
            return next(waiting, None)


class Lanes:
    """One pass over some examples: as many lanes as DSPy's executor says, each taking the next example when it is free.

    The executor's own rules hold: what an example raises is kept by it, too many errors end the pass, and where a few examples
    take too long each is begun once more and what comes first counts.

    Args:
        executor: DSPy's `ParallelExecutor`.
        function: What it made of the function: returns an `Exception` instead of raising it.
        data: The examples.
        ahead: What runs beside it, and has some of its lanes.
    """

    def __init__(self, executor: Any, function: Callable[[Any], Any], data: Sequence[Any], ahead: Ahead) -> None:
        self._executor, self._function, self._data, self._ahead = executor, function, data, ahead
        self._outcomes: list[Any] = [_NOTHING] * len(data)
        self._began: dict[int, float] = {}
        self._next = itertools.count()
        self._lock = threading.Lock()
        self._left = len(data)
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def results(self) -> list[Any]:
        """Return what the function gave for each example, None where it failed.

        Raises:
            Exception: There were too many errors.
            BaseException: What is no `Exception` ends the pass at once.
        """
        executor = self._executor
        for _ in range(min(max(executor.num_threads - self._ahead.running, 1), len(self._data))):
            crew.start(self._run)
        try:
            if self._left:
                self._wait()
        except BaseException:
            executor.cancel_jobs.set()
            raise
        if self._failure is not None:
            executor.cancel_jobs.set()
            raise self._failure
        if executor.cancel_jobs.is_set():
            raise Exception("Execution cancelled due to errors or interruption.")  # noqa: TRY002 - in DSPy's words
        for index, outcome in enumerate(self._outcomes):
            if isinstance(outcome, Exception):
                executor.failed_indices.append(index)
                executor.exceptions_map[index] = outcome
        return [None if isinstance(outcome, Exception) else outcome for outcome in self._outcomes]

    def _wait(self) -> None:
        again: set[int] = set()
        while not self._over.wait(_LOOK_S):
            limit_s = self._executor.timeout
            if limit_s <= 0 or self._left > self._executor.straggler_limit:
                continue
            late = time.monotonic() - limit_s
            for index, began in list(self._began.items()):
                if began <= late and index not in again and self._outcomes[index] is _NOTHING:
                    again.add(index)
                    crew.start(self._one, index)

    def _run(self) -> None:
        for index in self._next:
            if index >= len(self._data) or self._over.is_set():
                return
            self._began[index] = time.monotonic()
            self._one(index)

    def _one(self, index: int) -> None:
        try:
            outcome = contextvars.copy_context().run(self._called, self._data[index])
        except BaseException as failure:  # noqa: BLE001 - the user's stop, or a study given up
            self._failure = failure
            self._over.set()
            return
        with self._lock:
            if self._outcomes[index] is _NOTHING:
                self._outcomes[index] = outcome
                self._left -= 1
        if not self._left or self._executor.cancel_jobs.is_set():
            self._over.set()

    def _called(self, example: Any) -> Any:
        overrides = thread_local_overrides.get()
        if overrides.get("usage_tracker"):  # each example counts for itself
            own = overrides.copy()
            own["usage_tracker"] = copy.deepcopy(overrides["usage_tracker"])
            thread_local_overrides.set(own)
        return self._function(example)
