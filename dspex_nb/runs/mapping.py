"""Many rows through one program: in order, a bounded number at once, stoppable within a second."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from dspex_nb.errors import Cancelled
from dspex_nb.events import Progress
from dspex_nb.pools import PoolFuture, crew
from dspex_nb.pools.loop import loop_thread
from dspex_nb.runs.driving import next_of
from dspex_nb.runs.scheduler import inline_steps
from dspex_nb.scopes import CancelToken, Scope

_GRACE_S = 0.5
_TELL_S = 0.05
_GROUP_S = 0.005  # results leave the loop together, so that its thread is not stopped at each


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row's result: a prediction or an error, never both."""

    index: int
    prediction: Any = None
    error: Exception | None = None
    elapsed_s: float = 0.0


_Land = Callable[[Sequence["RowResult | BaseException"]], None]


def map_rows(
    call: Callable[[dict[str, Any], Scope], Any],
    rows: Iterable[Mapping[str, Any]],
    *,
    n_jobs: int,
    scope: Scope,
    on_error: Literal["keep", "raise"] = "keep",
    acall: Callable[[dict[str, Any], Scope], Any] | None = None,
    total: int = 0,
) -> list[RowResult]:
    """Run `call` on each row and return the results in the rows' order.

    Args:
        call: Takes a row and the scope it runs in; the scope's `cancel` also ends when another row fails under `"raise"`.
        rows: Dicts; an iterator is read only as far as rows are in flight, with `acall` as far again.
        n_jobs: Rows in flight.
        scope: Whose events and cancellation these are; a `Progress` event is published up to 20 times a second.
        on_error: `"keep"` puts a row's error in its result; `"raise"` stops the others and raises it.
        acall: The async twin of `call`; where it is given and rows run side by side, they do so on one event loop.
        total: How many rows there are, where `rows` cannot tell.

    Raises:
        Cancelled: The scope was cancelled or ■ was pressed; sockets are closed, and nothing but what is named runs on.
    """
    state = _Map(call, acall, rows, max(1, n_jobs), scope, on_error, total)
    results: list[RowResult] = []
    try:
        for result in state.run():
            results.append(result)  # noqa: PERF402 - an interrupt between two results must keep the first
    except KeyboardInterrupt:  # pressed between two results; `run` sees those within
        scope.cancel.cancel()
        raise state.stopped() from None
    return sorted(results, key=lambda result: result.index)


def iter_rows(
    call: Callable[[dict[str, Any], Scope], Any],
    rows: Iterable[Mapping[str, Any]],
    *,
    n_jobs: int,
    scope: Scope,
    on_error: Literal["keep", "raise"] = "keep",
    acall: Callable[[dict[str, Any], Scope], Any] | None = None,
    total: int = 0,
    window: int = 0,
) -> Iterator[RowResult]:
    """Yield the results as rows end; arguments and errors are those of `map_rows`. A consumer that stops early stops the rows.

    With `window`, no row starts that is so far ahead of the first that has not ended: who puts them in order need not hold more.
    """
    return _Map(call, acall, rows, max(1, n_jobs), scope, on_error, total, window).run()


class _Map:
    """One map's state; used by one thread, whose hands do the rows."""

    def __init__(
        self,
        call: Callable[..., Any],
        acall: Callable[..., Any] | None,
        rows: Iterable[Mapping[str, Any]],
        n_jobs: int,
        scope: Scope,
        on_error: str,
        total: int,
        window: int = 0,
    ) -> None:
        self.rows, self.scope, self.on_error = enumerate(rows), scope, on_error
        self.window, self.given, self.first, self.ahead = window, 0, 0, set[int]()
        self.total = total or (len(rows) if isinstance(rows, Sequence) else 0)
        self.token = CancelToken()  # its own: a failed row stops its fellows, not the user's other work
        self.landed: queue.SimpleQueue[Sequence[RowResult | BaseException]] = queue.SimpleQueue()
        inner = replace(scope, cancel=self.token)
        self.hands: _OnLoop | _InThreads = (
            _OnLoop(acall, n_jobs, inner, self.landed.put)
            if acall is not None and n_jobs > 1
            else _InThreads(call, n_jobs, inner, self.landed.put)
        )
        self.flying = self.done = self.errors = 0
        self.told = 0.0

    def run(self) -> Iterator[RowResult]:
        forget = [self.scope.cancel.on_cancel(self.token.cancel), self.scope.cancel.on_cancel(lambda: self.landed.put(()))]
        try:
            while self._fill():
                yield from self._land()
        except KeyboardInterrupt:
            self.scope.cancel.cancel()
            raise self.stopped() from None
        except Cancelled:
            raise self.stopped() from None
        finally:
            for each in forget:
                each()
            self._leave()

    def _fill(self) -> bool:
        """Give rows to the hands, as many as they hold; False when none is left."""
        wanted = self.hands.holds - self.flying
        if self.window:
            wanted = min(wanted, self.first + self.window - self.given)
        given: list[tuple[int, dict[str, Any]]] = []
        for index, row in itertools.islice(self.rows, wanted) if wanted > 0 else ():
            self.scope.cancel.check()
            given.append((index, dict(row)))
        self.given += len(given)
        self.flying += len(given)
        if given:
            self.hands.start(given)
        return self.flying > 0

    def _land(self) -> Iterator[RowResult]:
        results = next_of(self.landed)
        self.scope.cancel.check()
        for result in results:
            if isinstance(result, BaseException):
                raise result
            self.flying -= 1
            self.done += 1
            self._note_end(result.index)
            self.errors += result.error is not None
            self._tell()
            if result.error is not None and self.on_error == "raise":
                raise result.error
            yield result

    def _note_end(self, index: int) -> None:
        if self.window:
            self.ahead.add(index)
            while self.first in self.ahead:
                self.ahead.remove(self.first)
                self.first += 1

    def _tell(self) -> None:
        """Publish the progress, at most twenty times a second and at the end: nobody sees more."""
        now = time.monotonic()
        if now - self.told >= _TELL_S or not self.flying:
            self.told = now
            self.scope.publish(Progress(run_id=self.scope.run_id, done=self.done, total=self.total, errors=self.errors))

    def _leave(self) -> int:
        """Stop what is in flight; returns how many rows did not stop in time and are left behind."""
        if not self.flying:
            return 0
        self.token.cancel()
        self.flying = 0
        return self.hands.leave()

    def stopped(self) -> Cancelled:
        """Stop what is in flight and return the error that says so."""
        left = self._leave()
        of = f" of {self.total}" if self.total else ""
        told = f"; {left} could not be stopped and {'was' if left == 1 else 'were'} left behind" if left else ""
        return Cancelled(
            f"stopped after {self.done}{of} rows{told}", hint="answers already received are in the cache: run again to go on"
        )


class _InThreads:
    """Does each row in a thread of its own."""

    def __init__(self, call: Callable[..., Any], n_jobs: int, scope: Scope, land: _Land) -> None:
        self.call, self.holds, self.scope, self.land = call, n_jobs, scope, land
        self.flying: set[PoolFuture] = set()

    def start(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        for index, row in rows:
            future = crew.start(self._one, index, row)
            self.flying.add(future)
            future.add_done_callback(self._note)

    def _note(self, future: Any) -> None:
        self.flying.discard(future)
        if not future.cancelled():
            self.land([future.exception() or future.result()])

    def _one(self, index: int, row: dict[str, Any]) -> RowResult:
        self.scope.cancel.check()
        started = time.perf_counter()
        try:
            with inline_steps() if self.holds > 1 else nullcontext():
                return RowResult(index, self.call(row, self.scope), None, time.perf_counter() - started)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - a row's error is its result
            return RowResult(index, None, error, time.perf_counter() - started)

    def leave(self) -> int:
        futures = list(self.flying)
        wait(futures, _GRACE_S)
        left = [future for future in futures if not future.done()]
        for future in left:
            future.cancel()  # its result, should it come, is discarded
        return len(left)


class _OnLoop:
    """Does the rows as tasks of the process's own loop: no thread a row, and no switch of threads a row either.

    Rows come in groups and results leave in groups. As many rows again as run wait on the loop's side, so that it has work
    while a group is on its way.
    """

    def __init__(self, acall: Callable[..., Any], n_jobs: int, scope: Scope, land: _Land) -> None:
        self.acall, self.n_jobs, self.scope, self.land = acall, n_jobs, scope, land
        self.holds = 2 * n_jobs
        self.loop = loop_thread.get()
        self.context = contextvars.copy_context()
        self.waiting: deque[tuple[int, dict[str, Any]]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.ready: list[RowResult | BaseException] = []
        self.flushing = False
        self.idle = threading.Event()

    def start(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        self.idle.clear()
        self.loop.call_soon_threadsafe(self._take, rows)

    def _take(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        self.waiting.extend(rows)
        self._start_more()

    def _start_more(self) -> None:
        while self.waiting and len(self.tasks) < self.n_jobs and not self.scope.cancel.cancelled:
            # A copy each: tasks that share a context see each other's variables.
            task = self.loop.create_task(self._row_after_row(), context=self.context.copy())
            self.tasks.add(task)
            task.add_done_callback(self._ended)

    async def _row_after_row(self) -> None:
        while self.waiting and not self.scope.cancel.cancelled:
            index, row = self.waiting.popleft()
            started = time.perf_counter()
            try:
                result: RowResult | BaseException = RowResult(
                    index, await self.acall(row, self.scope), None, time.perf_counter() - started
                )
            except asyncio.CancelledError as error:
                if self.scope.cancel.cancelled:  # by `_drop`
                    raise
                found = CancelledError("the row's own work was cancelled, by itself or by what it called")
                found.__cause__ = error
                result = RowResult(index, None, found, time.perf_counter() - started)
            except Exception as error:  # noqa: BLE001 - a row's error is its result
                stop = isinstance(error, Cancelled)
                result = error if stop else RowResult(index, None, error, time.perf_counter() - started)
            self.ready.append(result)
            if not self.flushing:
                self.flushing = True
                self.loop.call_later(_GROUP_S, self._flush)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ready.append(error)
        self._start_more()  # rows may have come between its last look and its end
        if not self.tasks:
            self._flush()
            self.idle.set()

    def _flush(self) -> None:
        self.flushing = False
        if self.ready:
            self.land(self.ready)
            self.ready = []

    def leave(self) -> int:
        self.idle.wait(_GRACE_S)
        left = len(self.tasks)
        self.loop.call_soon_threadsafe(self._drop)
        return left

    def _drop(self) -> None:
        self.waiting.clear()
        for task in self.tasks:
            task.cancel()
