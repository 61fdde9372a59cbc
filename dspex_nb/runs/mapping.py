"""Many rows through one program: in order, a bounded number at once, stoppable within a second."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from dspex_nb.errors import Cancelled
from dspex_nb.events import Progress
from dspex_nb.pools import PoolFuture, crew
from dspex_nb.runs.scheduler import inline_steps, next_of
from dspex_nb.scopes import CancelToken, Scope

_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row's result: a prediction or an error, never both."""

    index: int
    prediction: Any = None
    error: Exception | None = None
    elapsed_s: float = 0.0


def map_rows(
    call: Callable[[dict[str, Any], Scope], Any],
    rows: Iterable[Mapping[str, Any]],
    *,
    n_jobs: int,
    scope: Scope,
    on_error: Literal["keep", "raise"] = "keep",
) -> list[RowResult]:
    """Run `call` on each row and return the results in the rows' order.

    Args:
        call: Takes a row and the scope it runs in; the scope's `cancel` also ends when another row fails under `"raise"`.
        rows: Dicts; an iterator is read only as far as rows are in flight.
        n_jobs: Rows in flight.
        scope: Whose events and cancellation these are; a `Progress` event is published after each row.
        on_error: `"keep"` puts a row's error in its result; `"raise"` stops the others and raises it.

    Raises:
        Cancelled: The scope was cancelled or ■ was pressed; sockets are closed, and nothing but what is named runs on.
    """
    state = _Map(call, rows, max(1, n_jobs), scope, on_error)
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
) -> Iterator[RowResult]:
    """Yield the results as rows end; arguments and errors are those of `map_rows`. A consumer that stops early stops the rows."""
    return _Map(call, rows, max(1, n_jobs), scope, on_error).run()


class _Map:
    """One map's state; used by one thread."""

    def __init__(
        self, call: Callable[..., Any], rows: Iterable[Mapping[str, Any]], n_jobs: int, scope: Scope, on_error: str
    ) -> None:
        self.call, self.rows, self.n_jobs, self.scope, self.on_error = call, enumerate(rows), n_jobs, scope, on_error
        self.total = len(rows) if isinstance(rows, Sequence) else 0
        self.token = CancelToken()  # its own: a failed row stops its fellows, not the user's other work
        self.inner = replace(scope, cancel=self.token)
        self.flying: dict[int, PoolFuture] = {}
        self.landed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.done = self.errors = 0

    def run(self) -> Iterator[RowResult]:
        forget = [self.scope.cancel.on_cancel(self.token.cancel), self.scope.cancel.on_cancel(lambda: self.landed.put(None))]
        try:
            while self._fill():
                yield self._land()
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
        """Start rows up to `n_jobs`; False when none is left."""
        while len(self.flying) < self.n_jobs:
            self.scope.cancel.check()
            index, row = next(self.rows, (None, None))
            if index is None or row is None:
                break
            future = crew.start(self._one, index, dict(row))
            self.flying[index] = future
            future.add_done_callback(partial(self._note, index))
        return bool(self.flying)

    def _note(self, index: int, _: Any) -> None:
        self.landed.put(index)

    def _one(self, index: int, row: dict[str, Any]) -> RowResult:
        self.token.check()
        started = time.perf_counter()
        error: Exception | None = None
        try:
            with inline_steps() if self.n_jobs > 1 else nullcontext():
                prediction = self.call(row, self.inner)
        except Cancelled:
            raise
        except Exception as raised:  # noqa: BLE001 - a row's error is its result
            prediction, error = None, raised
        return RowResult(index, prediction, error, time.perf_counter() - started)

    def _land(self) -> RowResult:
        index = next_of(self.landed)
        if index is None:
            self.scope.cancel.check()
        assert index is not None  # noqa: S101 - None is put by a cancellation only
        result: RowResult = self.flying.pop(index).result()
        self.done += 1
        self.errors += result.error is not None
        self.scope.publish(Progress(run_id=self.scope.run_id, done=self.done, total=self.total, errors=self.errors))
        if result.error is not None and self.on_error == "raise":
            raise result.error
        return result

    def _leave(self) -> int:
        """Stop what is in flight; returns how many rows did not stop in time and are left behind."""
        if not self.flying:
            return 0
        self.token.cancel()
        futures = list(self.flying.values())
        wait(futures, _GRACE_S)
        left = [future for future in futures if not future.done()]
        for future in left:
            future.cancel()  # its result, should it come, is discarded
        self.flying.clear()
        return len(left)

    def stopped(self) -> Cancelled:
        """Stop what is in flight and return the error that says so."""
        left = self._leave()
        of = f" of {self.total}" if self.total else ""
        told = f"; {left} could not be stopped and {'was' if left == 1 else 'were'} left behind" if left else ""
        return Cancelled(
            f"stopped after {self.done}{of} rows{told}", hint="answers already received are in the cache: run again to go on"
        )
