"""What every pool must do, as tests: subclass `PoolSuite` and give it a pool.

```python
class TestMyPool(PoolSuite):
    def make_pool(self, size, **options):
        return Pools().create("mine", size, "mine", **options)  # after register_backend("mine", MyWorker)
```
"""

# ruff: noqa: PLR2004 - the numbers are what the tests expect
from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from typing import Any

from dspex_nb.errors import (
    MemoryLimitError,
    PoolClosedError,
    PoolError,
    PoolFullError,
    SessionLostError,
    TaskTimeoutError,
    TransferError,
    WorkerDiedError,
)
from dspex_nb.events import Bus
from dspex_nb.pools import Pool
from dspex_nb.scopes import Scope

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


async def _soon(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


def _count(end: int, fail_at: int | None = None) -> Iterator[int]:
    for number in range(end):
        if number == fail_at:
            raise ValueError(f"no {number}")
        yield number


async def _count_soon(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


def _note_each(path: str) -> Iterator[int]:
    number = 0
    try:
        while True:
            with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
                file.write(".")
            yield number
            number += 1
    finally:
        with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
            file.write("closed")


def _append(path: str, text: str) -> str:
    with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
        file.write(text)
    return text


def _die_once(path: str) -> int:
    """Note the start; the first one dies."""
    _append(path, "s")
    if os.path.getsize(path) == 1:  # noqa: PTH202
        os.kill(os.getpid(), signal.SIGKILL)
    return os.path.getsize(path)  # noqa: PTH202


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hoard(count: int) -> int:
    data = [bytearray(10_000_000) for _ in range(count)]
    time.sleep(5)
    return len(data)


def _chat() -> None:
    sys.stdout.write("a line\n")
    warnings.warn("beware", stacklevel=1)
    logging.getLogger("task").error("bad news")


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


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
            results.close()
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

    # submit and map, asynchronously too

    def test_asynchronous_use(self) -> None:
        """Futures are awaited, a coroutine function is run, `amap` keeps order and gives results as they finish."""

        async def use(pool: Pool) -> tuple[int, int, list[int], list[int]]:
            ordered = [value async for value in pool.amap(_double, range(9))]
            unordered = [value async for value in pool.amap(_double, range(9), ordered=False)]
            return await pool.submit(_double, 4), await pool.acall(_soon, 1), ordered, sorted(unordered)

        with self.pool(2) as pool:
            expected = [2 * number for number in range(9)]
            assert asyncio.run(use(pool)) == (8, 2, expected, expected)

    def test_map_gives_results_as_they_finish(self) -> None:
        """What ends first comes first."""
        with self.pool(2) as pool:
            list(pool.map(_double, range(2)))
            waits = [0.5, 0.01, 0.01]
            results = pool.map(_sleep, waits, return_as="generator_unordered")
            assert list(results) == [0.01, 0.01, 0.5]
            assert pool.map(_double, [1, 2], return_as="list") == [2, 4]

    def test_an_awaited_task_that_is_cancelled_ends(self) -> None:
        """Cancelling the wait in an event loop cancels the task."""

        async def give_up(pool: Pool) -> float:
            start = time.monotonic()
            try:
                await asyncio.wait_for(pool.acall(time.sleep, 5), 0.1)
            except TimeoutError:
                return time.monotonic() - start
            return 99

        with self.pool(1) as pool:
            pool.call(_double, 1)
            assert asyncio.run(give_up(pool)) < 2
            start = time.monotonic()
            assert pool.call(_double, 2) == 4
            assert time.monotonic() - start < 2

    def test_a_higher_priority_goes_first(self) -> None:
        """Of waiting tasks the one with the highest priority starts first, equals in the order of their coming."""
        with self.pool(1) as pool, _folder() as folder:
            path = f"{folder}/order"
            pool.call(_double, 1)
            gate = pool.submit(time.sleep, 0.2)
            futures = [
                pool.options(priority=level).submit(_append, path, text)
                for level, text in ((0, "c"), (5, "a"), (0, "d"), (5, "b"))
            ]
            wait([gate, *futures], 30)
            assert _read(path) == "abcd"

    def test_a_full_queue_refuses(self) -> None:
        """One task more than the queue holds is refused by name; a cancelled one makes room."""
        with self.pool(1, queue_size=2) as pool:
            pool.call(_double, 1)
            running = pool.submit(time.sleep, 0.3)
            _wait_until(running.running)
            waiting = [pool.submit(_double, number) for number in range(2)]
            with _Raises(PoolFullError) as caught:
                pool.submit(_double, 9)
            assert "2 tasks wait" in caught.error.message
            waiting[0].cancel()
            assert pool.submit(_double, 5).result(30) == 10

    # Streams

    def test_a_stream_gives_its_items_in_order(self) -> None:
        """Of a generator and of an asynchronous one, to `for` and to `async for`; the future counts them."""

        async def read(pool: Pool) -> list[int]:
            return [item async for item in pool.stream(_count, 300)]

        with self.pool(1) as pool:
            stream = pool.stream(_count, 1000)
            assert list(stream) == list(range(1000))
            assert stream.future.result(5) == 1000
            assert list(pool.stream(_count_soon, 5)) == list(range(5))
            assert asyncio.run(read(pool)) == list(range(300))

    def test_a_streams_error_comes_after_its_items(self) -> None:
        """What was yielded before the error arrives before it."""
        with self.pool(1) as pool:
            found = []
            with _Raises(ValueError):
                for item in pool.stream(_count, 5, fail_at=3):
                    found.append(item)  # noqa: PERF402 - the error must not lose them
            assert found == [0, 1, 2]
            assert pool.call(_double, 1) == 2

    def test_a_stream_waits_for_its_reader_and_closes(self) -> None:
        """An endless generator is a bounded number of items ahead, and its `finally` runs when the reader leaves."""
        with self.pool(1) as pool, _folder() as folder:
            path = f"{folder}/items"
            with pool.stream(_note_each, path) as stream:
                assert [next(stream) for _ in range(3)] == [0, 1, 2]
                time.sleep(0.3)
                ahead = os.path.getsize(path)  # noqa: PTH202
                assert 3 <= ahead < 600
            _wait_until(lambda: _read(path).endswith("closed"))
            dropped = pool.stream(_note_each, path)
            next(dropped)
            del dropped
            assert pool.submit(_double, 1).result(20) == 2

    # Sessions

    def test_a_session_has_its_slot_for_itself(self) -> None:
        """No other task runs on it while it is open."""
        with self.pool(2) as pool, pool.session("mine") as session:
            mine = session.call(_where)
            places = {pool.call(_where) for _ in range(6)}
            assert mine not in places
            assert pool.stats().sessions == 1

    def test_a_session_that_finds_no_slot_fails_fast_or_waits(self) -> None:
        """With `wait_s=0` at once and by a typed error, else until one is free."""
        with self.pool(1) as pool:
            with pool.session("a") as first:
                first.call(_double, 1)
                with _Raises(PoolFullError) as caught, pool.session("b", wait_s=0):
                    pass
                assert "'a'" in caught.error.message
                timer = threading.Timer(0.2, first.close)
                timer.start()
                with pool.session("b", wait_s=20) as second:
                    assert second.call(_double, 2) == 4
            assert pool.call(_double, 3) == 6

    def test_a_quota_of_sessions(self) -> None:
        """No more sessions than the pool may have, so that slots are left for tasks."""
        with self.pool(2, sessions=1) as pool, pool.session("a"):
            with _Raises(PoolFullError), pool.session("b", wait_s=0):
                pass
            assert pool.call(_double, 1) == 2

    def test_a_session_outlives_its_block_by_its_time_to_live(self) -> None:
        """Within it the state is found again; after it a call is refused, and the slot is free."""
        with self.pool(1) as pool:
            with pool.session("a", ttl_s=30) as session:
                session.call(_remember, "ttl", 7)
            with pool.session("a", ttl_s=30) as session:
                assert session.call(_recall, "ttl") == 7
            late = pool.session("a", ttl_s=30).open()
            assert late._lease is not None  # noqa: SLF001
            late._lease.ttl_s = 0.1  # noqa: SLF001
            late.call(_double, 1)
            _wait_until(lambda: pool.stats().sessions == 0)
            with _Raises(SessionLostError):
                late.call(_double, 1)
            assert pool.call(_double, 2) == 4

    def test_an_initializer_builds_the_state(self) -> None:
        """It runs before the first call, in the worker."""
        with self.pool(1) as pool, pool.session("a", initializer=_remember, initargs=("built", 3)) as session:
            assert session.call(_recall, "built") == 3

    # What only workers in other processes can do

    def test_a_dead_worker_fails_its_own_task(self) -> None:
        """The task gets a typed error, others go on, the slot has a new worker."""
        with self.pool(2) as pool:
            if not pool.separate:
                return
            list(pool.map(_double, range(4)))
            other = pool.submit(time.sleep, 0.2)
            with _Raises(WorkerDiedError):
                pool.call(_die)
            assert other.result(30) is None
            assert pool.map(_double, range(6), return_as="list") == [0, 2, 4, 6, 8, 10]

    def test_only_an_idempotent_task_runs_again(self) -> None:
        """One that was declared so starts anew after its worker died, any other one fails."""
        with self.pool(1) as pool, _folder() as folder:
            if not pool.separate:
                return
            with _Raises(WorkerDiedError):
                pool.call(_die_once, f"{folder}/a")
            assert _read(f"{folder}/a") == "s"
            assert pool.options(idempotent=True).call(_die_once, f"{folder}/b") == 2
            assert pool.stats().retried == 1

    def test_a_lost_session_is_refused_or_built_anew(self) -> None:
        """Without an initializer its later calls raise SessionLostError, with one they find the state again."""
        with self.pool(1) as pool:
            if not pool.separate:
                return
            with pool.session("a") as session:
                session.call(_double, 1)
                with _Raises(WorkerDiedError):
                    session.call(_die)
                with _Raises(SessionLostError):
                    session.call(_double, 1)
            with pool.session("b", initializer=_remember, initargs=("again", 5)) as session:
                with _Raises(WorkerDiedError):
                    session.call(_die)
                assert session.call(_recall, "again") == 5

    def test_a_session_leaves_nothing_behind(self) -> None:
        """After it the slot has a new worker: the state reaches nobody else."""
        with self.pool(1) as pool:
            if not pool.separate:
                return
            with pool.session("a") as session:
                pid = session.call(os.getpid)
            assert pool.call(os.getpid) != pid

    def test_memory_over_the_limit(self) -> None:
        """The task fails with the figures, the next one finds a fresh worker."""
        with self.pool(1) as pool:
            if not pool.separate:
                return
        with self.pool(1, memory_bytes=200_000_000) as pool:
            with _Raises(MemoryLimitError) as caught:
                pool.call(_hoard, 40)
            assert "200 MB" in caught.error.message
            assert pool.call(_double, 1) == 2

    def test_what_cannot_cross_is_a_typed_error(self) -> None:
        """A call that cannot be sent, a result that cannot be sent back."""
        with self.pool(1) as pool:
            if not pool.separate:
                return
            with _Raises(TransferError):
                pool.submit(len, threading.Lock())
            with _Raises(TransferError):
                pool.call(threading.Lock)
            assert pool.call(_double, 1) == 2

    def test_a_worker_is_replaced_after_its_tasks(self) -> None:
        """`max_tasks` of them."""
        with self.pool(1) as pool:
            if not pool.separate:
                return
        with self.pool(1, max_tasks=2) as pool:
            pids = [pool.call(os.getpid) for _ in range(4)]
            assert pids[0] == pids[1]
            assert pids[1] != pids[2]
            assert pids[2] == pids[3]

    def test_what_workers_say_reaches_the_runs_log(self) -> None:
        """Prints, warnings and log records are events of the run, and lines of the pool's log."""
        bus = Bus()
        with self.pool(1) as pool:
            if not pool.separate:
                return
            pool.options(scope=Scope("run", bus, step="talk")).call(_chat)
            told = {(event.source, event.step) for event in bus.recent if event.run_id == "run"}  # type: ignore[attr-defined]
            assert told == {("print", "talk"), ("warning", "talk"), ("logging", "talk")}
            assert [line.text for line in pool.log if line.source == "print"] == ["a line"]


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        return file.read()
