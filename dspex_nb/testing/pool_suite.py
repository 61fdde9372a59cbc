"""What every pool must do, as tests: subclass `PoolSuite` and give it a pool.

```python
class TestMyPool(PoolSuite):
    def make_pool(self, size, **options):
        return Pool("mine", size, "mine", MyWorker, **options)
```
"""

# ruff: noqa: PLR2004 - the numbers are what the tests expect
from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from typing import Any

from dspex_nb.errors import PoolClosedError, PoolError, TaskTimeoutError
from dspex_nb.pools import Pool

_state: dict[tuple[str, int], Any] = {}


def _double(number: int) -> int:
    return 2 * number


def _fail(text: str) -> None:
    raise ValueError(text)


def _where() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def _remember(key: str, value: Any) -> None:
    _state[key, threading.get_ident()] = value


def _recall(key: str) -> Any:
    return _state.get((key, threading.get_ident()))


class _Raises:
    """Catches the error a block must raise (pytest is not a dependency of this package)."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.error: Any = None

    def __enter__(self) -> _Raises:  # noqa: PYI034
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert kind is not None, f"expected {self.kind.__name__}, nothing was raised"
        self.error = error
        return issubclass(kind, self.kind)


class PoolSuite:
    """One test a promise of the pool port."""

    def make_pool(self, size: int, **options: Any) -> Pool:
        """Return a fresh pool."""
        raise NotImplementedError

    @contextmanager
    def pool(self, size: int = 2, **options: Any) -> Iterator[Pool]:
        """Lend a pool for one test."""
        pool = self.make_pool(size, **options)
        try:
            yield pool
        finally:
            pool.close()

    def test_a_result_comes_back(self) -> None:
        """The value of the call, also of a function made on the spot."""
        offset = 3
        with self.pool() as pool:
            assert pool.submit(_double, 21).result(30) == 42
            assert pool.submit(lambda x, *, y: x + y + offset, 1, y=2).result(30) == 6

    def test_an_error_comes_back_with_its_type(self) -> None:
        """The task's own error is raised, and the slot serves on."""
        with self.pool(1) as pool:
            with _Raises(ValueError) as caught:
                pool.submit(_fail, "no luck").result(30)
            assert "no luck" in str(caught.error)
            assert pool.submit(_double, 1).result(30) == 2
            assert pool.stats().failed == 1

    def test_map_keeps_order(self) -> None:
        """Results come in the order of the inputs, whatever ends first."""
        with self.pool(2) as pool:
            assert list(pool.map(_double, range(20))) == [2 * number for number in range(20)]

    def test_map_is_bounded(self) -> None:
        """An endless input is read only a little ahead."""
        taken: list[int] = []

        def numbers() -> Iterator[int]:
            for number in range(10_000):
                taken.append(number)
                yield number

        with self.pool(2) as pool:
            results = pool.map(_double, numbers())
            assert [next(results) for _ in range(3)] == [0, 2, 4]
            results.close()  # type: ignore[attr-defined]
        assert len(taken) < 20

    def test_tasks_run_at_once(self) -> None:
        """Two slots work at the same time."""
        with self.pool(2) as pool:
            list(pool.map(_double, range(2)))  # workers are up
            start = time.monotonic()
            wait([pool.submit(time.sleep, 0.2) for _ in range(2)], 30)
            assert time.monotonic() - start < 0.38

    def test_a_session_stays_on_its_slot(self) -> None:
        """State left in the worker is there for the session's next call."""
        with self.pool(2) as pool, pool.session("a") as first, pool.session("b") as second:
            first.call(_remember, "k", 1)
            second.call(_remember, "k", 2)
            assert [first.call(_recall, "k"), second.call(_recall, "k")] == [1, 2]
            with pool.session("a") as again:
                assert again.call(_where) == first.call(_where)
            assert first.call(_where) != second.call(_where)

    def test_a_closed_session_refuses(self) -> None:
        """A session works inside its `with` block only."""
        with self.pool(1) as pool, _Raises(PoolError):
            pool.session("a").call(_double, 1)

    def test_a_timeout_ends_the_task_and_frees_the_slot(self) -> None:
        """A task over its time raises TaskTimeoutError; the slot takes the next one."""
        with self.pool(1, timeout_s=5) as pool:
            pool.submit(_double, 1).result(30)
            pool.timeout_s = 0.1
            with _Raises(TaskTimeoutError) as caught:
                pool.submit(time.sleep, 3).result(30)
            assert "0.1 s" in caught.error.message
            pool.timeout_s = 10
            start = time.monotonic()
            assert pool.submit(_double, 4).result(30) == 8
            assert time.monotonic() - start < 2

    def test_cancel_works_on_a_running_task(self) -> None:
        """Cancel returns at once, the future is cancelled, the slot takes the next task."""
        with self.pool(1) as pool:
            pool.submit(_double, 1).result(30)
            future = pool.submit(time.sleep, 3)
            while not future.running():
                time.sleep(0.005)
            start = time.monotonic()
            assert future.cancel()
            with _Raises(CancelledError):
                future.result(30)
            assert pool.submit(_double, 4).result(30) == 8
            assert time.monotonic() - start < 2
            assert not future.resolve("late")

    def test_a_waiting_task_can_be_cancelled_and_never_starts(self) -> None:
        """What was cancelled in the queue is not run."""
        with self.pool(1) as pool:
            first = pool.submit(time.sleep, 0.1)
            second = pool.submit(_remember, "never", 1)
            assert second.cancel()
            first.result(30)
            assert pool.submit(_recall, "never").result(30) is None

    def test_close_resolves_every_future(self) -> None:
        """Closing breaks off what runs and what waits; nothing is left pending."""
        with self.pool(1) as pool:
            pool.submit(_double, 1).result(30)
            futures = [pool.submit(time.sleep, 3) for _ in range(3)]
            start = time.monotonic()
            pool.close()
            assert time.monotonic() - start < 2
            for future in futures:
                with _Raises(PoolClosedError):
                    future.result(1)
            with _Raises(PoolClosedError):
                pool.submit(_double, 1)

    def test_close_can_wait_for_what_runs(self) -> None:
        """With `wait_s`, running tasks end well."""
        with self.pool(1) as pool:
            pool.submit(_double, 1).result(30)
            future = pool.submit(time.sleep, 0.05)
            while not future.running():
                time.sleep(0.002)
            pool.close(wait_s=5)
            assert future.result(0) is None

    def test_stats_count(self) -> None:
        """Statistics tell what was done."""
        with self.pool(2) as pool:
            list(pool.map(_double, range(5)))
            stats = pool.stats()
            assert (stats.size, stats.queued, stats.sessions, stats.failed) == (2, 0, 0, 0)
            assert stats.done >= 4  # the last one may be counted a moment after its result
