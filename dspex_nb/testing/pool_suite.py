"""What every pool must do, as tests: subclass `PoolSuite` and give it a pool.

```python
class TestMyPool(PoolSuite):
    backend = "mine"

    def make_pool(self, size, **options):
        return Pools().create("suite", size, "mine", **options)  # after register_backend("mine", MyWorker)
```
"""

# ruff: noqa: PLR2004 - the numbers are what the tests expect
from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait

from dspex_nb.errors import PoolClosedError, PoolError, PoolFullError, SessionLostError, TaskTimeoutError
from dspex_nb.pools import Pool
from dspex_nb.testing import pool_acts as acts
from dspex_nb.testing import pool_promises as p
from dspex_nb.testing.pool_promises import promise
from dspex_nb.testing.pool_worker_suite import WorkerSuite


class PoolSuite(WorkerSuite):
    """One test a promise of the pool port; those of `WorkerSuite` are about processes."""

    @promise(p.SUBMIT)
    def test_a_result_comes_back(self) -> None:
        """The value of the call, also of a function made on the spot."""
        offset = 3
        with self.pool() as pool:
            assert pool.submit(acts.double, 21).result(30) == 42
            assert pool.submit(lambda x, *, y: x + y + offset, 1, y=2).result(30) == 6

    @promise(p.SUBMIT)
    def test_an_error_comes_back_with_its_type(self) -> None:
        """The task's own error is raised, and the slot serves on."""
        with self.pool(1) as pool:
            with acts.Raises(ValueError) as caught:
                pool.submit(acts.fail, "no luck").result(30)
            assert "no luck" in str(caught.error)
            assert pool.submit(acts.double, 1).result(30) == 2
            assert pool.stats().failed == 1

    @promise(p.MAP)
    def test_map_keeps_order(self) -> None:
        """Results come in the order of the inputs, whatever ends first."""
        with self.pool(2) as pool:
            assert list(pool.map(acts.double, range(20))) == [2 * number for number in range(20)]

    @promise(p.MAP)
    def test_map_is_bounded(self) -> None:
        """An endless input is read only a little ahead."""
        taken: list[int] = []

        def numbers() -> Iterator[int]:
            for number in range(10_000):
                taken.append(number)
                yield number

        with self.pool(2) as pool:
            results = pool.map(acts.double, numbers())
            assert [next(results) for _ in range(3)] == [0, 2, 4]
            results.close()
        assert len(taken) < 20

    @promise(p.SUBMIT)
    def test_tasks_run_at_once(self) -> None:
        """Two slots work at the same time."""
        with self.pool(2) as pool:
            list(pool.map(acts.double, range(2)))  # workers are up
            start = time.monotonic()
            wait([pool.submit(time.sleep, 0.2) for _ in range(2)], 30)
            assert time.monotonic() - start < 0.38

    @promise(p.SESSION)
    def test_a_session_stays_on_its_slot(self) -> None:
        """State left in the worker is there for the session's next call."""
        with self.pool(2) as pool, pool.session("a") as first, pool.session("b") as second:
            first.call(acts.remember, "k", 1)
            second.call(acts.remember, "k", 2)
            assert [first.call(acts.recall, "k"), second.call(acts.recall, "k")] == [1, 2]
            with pool.session("a") as again:
                assert again.call(acts.where) == first.call(acts.where)
            assert first.call(acts.where) != second.call(acts.where)

    @promise(p.SESSION)
    def test_a_closed_session_refuses(self) -> None:
        """A session works inside its `with` block only."""
        with self.pool(1) as pool, acts.Raises(PoolError):
            pool.session("a").call(acts.double, 1)

    @promise(p.TIME)
    def test_a_timeout_ends_the_task_and_frees_the_slot(self) -> None:
        """A task over its time raises TaskTimeoutError; the slot takes the next one."""
        with self.pool(1, timeout_s=5) as pool:
            pool.submit(acts.double, 1).result(30)
            pool.timeout_s = 0.1
            with acts.Raises(TaskTimeoutError) as caught:
                pool.submit(time.sleep, 20).result(30)
            assert "0.1 s" in caught.error.message
            pool.timeout_s = 10
            start = time.monotonic()
            assert pool.submit(acts.double, 4).result(30) == 8
            assert time.monotonic() - start < 10

    @promise(p.CANCEL)
    def test_cancel_works_on_a_running_task(self) -> None:
        """Cancel returns at once, the future is cancelled, the slot takes the next task."""
        with self.pool(1) as pool:
            pool.submit(acts.double, 1).result(30)
            future = pool.submit(time.sleep, 20)
            while not future.running():
                time.sleep(0.005)
            start = time.monotonic()
            assert future.cancel()
            with acts.Raises(CancelledError):
                future.result(30)
            assert pool.submit(acts.double, 4).result(30) == 8
            assert time.monotonic() - start < 10
            assert not future.resolve("late")

    @promise(p.CANCEL)
    def test_a_waiting_task_can_be_cancelled_and_never_starts(self) -> None:
        """What was cancelled in the queue is not run."""
        with self.pool(1) as pool:
            first = pool.submit(time.sleep, 0.1)
            second = pool.submit(acts.remember, "never", 1)
            assert second.cancel()
            first.result(30)
            assert pool.submit(acts.recall, "never").result(30) is None

    @promise(p.RESOLVES)
    def test_close_resolves_every_future(self) -> None:
        """Closing breaks off what runs and what waits; nothing is left pending."""
        with self.pool(1) as pool:
            pool.submit(acts.double, 1).result(30)
            futures = [pool.submit(time.sleep, 20) for _ in range(3)]
            start = time.monotonic()
            pool.close()
            assert time.monotonic() - start < 10
            for future in futures:
                with acts.Raises(PoolClosedError):
                    future.result(1)
            with acts.Raises(PoolClosedError):
                pool.submit(acts.double, 1)

    @promise(p.RESOLVES)
    def test_close_can_wait_for_what_runs(self) -> None:
        """With `wait_s`, running tasks end well."""
        with self.pool(1) as pool:
            pool.submit(acts.double, 1).result(30)
            future = pool.submit(time.sleep, 0.05)
            while not future.running():
                time.sleep(0.002)
            pool.close(wait_s=5)
            assert future.result(0) is None

    @promise(p.STATS)
    def test_stats_count(self) -> None:
        """Statistics tell what was done."""
        with self.pool(2) as pool:
            list(pool.map(acts.double, range(5)))
            stats = pool.stats()
            assert (stats.size, stats.queued, stats.sessions, stats.failed) == (2, 0, 0, 0)
            assert stats.done >= 4  # the last one may be counted a moment after its result

    # submit and map, asynchronously too

    @promise(p.ASYNC)
    def test_asynchronous_use(self) -> None:
        """Futures are awaited, a coroutine function is run, `amap` keeps order and gives results as they finish."""

        async def use(pool: Pool) -> tuple[int, int, list[int], list[int]]:
            ordered = [value async for value in pool.amap(acts.double, range(9))]
            unordered = [value async for value in pool.amap(acts.double, range(9), ordered=False)]
            return await pool.submit(acts.double, 4), await pool.acall(acts.soon, 1), ordered, sorted(unordered)

        with self.pool(2) as pool:
            expected = [2 * number for number in range(9)]
            assert asyncio.run(use(pool)) == (8, 2, expected, expected)

    @promise(p.MAP)
    def test_map_gives_results_as_they_finish(self) -> None:
        """What ends first comes first."""
        with self.pool(2) as pool:
            list(pool.map(acts.double, range(2)))
            waits = [0.5, 0.01, 0.01]
            results = pool.map(acts.sleep, waits, return_as="generator_unordered")
            assert list(results) == [0.01, 0.01, 0.5]
            assert pool.map(acts.double, [1, 2], return_as="list") == [2, 4]

    @promise(p.CANCEL)
    def test_an_awaited_task_that_is_cancelled_ends(self) -> None:
        """Cancelling the wait in an event loop cancels the task."""

        async def give_up(pool: Pool) -> float:
            start = time.monotonic()
            try:
                await asyncio.wait_for(pool.acall(time.sleep, 20), 0.1)
            except TimeoutError:
                return time.monotonic() - start
            return 99

        with self.pool(1) as pool:
            pool.call(acts.double, 1)
            assert asyncio.run(give_up(pool)) < 10
            start = time.monotonic()
            assert pool.call(acts.double, 2) == 4
            assert time.monotonic() - start < 10

    @promise(p.PRIORITY)
    def test_a_higher_priority_goes_first(self) -> None:
        """Of waiting tasks the one with the highest priority starts first, equals in the order of their coming."""
        with self.pool(1) as pool, acts.temporary_folder() as folder:
            path = f"{folder}/order"
            pool.call(acts.double, 1)
            gate = pool.submit(time.sleep, 0.2)
            futures = [
                pool.options(priority=level).submit(acts.append, path, text)
                for level, text in ((0, "c"), (5, "a"), (0, "d"), (5, "b"))
            ]
            wait([gate, *futures], 30)
            assert acts.text_of(path) == "abcd"

    @promise(p.QUEUE)
    def test_a_full_queue_refuses(self) -> None:
        """One task more than the queue holds is refused by name; a cancelled one makes room."""
        with self.pool(1, queue_size=2) as pool:
            pool.call(acts.double, 1)
            running = pool.submit(time.sleep, 0.3)
            acts.wait_until(running.running)
            waiting = [pool.submit(acts.double, number) for number in range(2)]
            with acts.Raises(PoolFullError) as caught:
                pool.submit(acts.double, 9)
            assert "2 tasks wait" in caught.error.message
            waiting[0].cancel()
            assert pool.submit(acts.double, 5).result(30) == 10

    # Streams

    @promise(p.STREAM)
    def test_a_stream_gives_its_items_in_order(self) -> None:
        """Of a generator and of an asynchronous one, to `for` and to `async for`; the future counts them."""

        async def all_of(pool: Pool) -> list[int]:
            return [item async for item in pool.stream(acts.count, 300)]

        with self.pool(1) as pool:
            stream = pool.stream(acts.count, 1000)
            assert list(stream) == list(range(1000))
            assert stream.future.result(5) == 1000
            assert list(pool.stream(acts.count_soon, 5)) == list(range(5))
            assert asyncio.run(all_of(pool)) == list(range(300))

    @promise(p.STREAM)
    def test_a_streams_error_comes_after_its_items(self) -> None:
        """What was yielded before the error arrives before it."""
        with self.pool(1) as pool:
            found = []
            with acts.Raises(ValueError):
                for item in pool.stream(acts.count, 5, fail_at=3):
                    found.append(item)  # noqa: PERF402 - the error must not lose them
            assert found == [0, 1, 2]
            assert pool.call(acts.double, 1) == 2

    @promise(p.BACKPRESSURE)
    def test_a_stream_waits_for_its_reader_and_closes(self) -> None:
        """An endless generator is a bounded number of items ahead, and its `finally` runs when the reader leaves."""
        with self.pool(1) as pool, acts.temporary_folder() as folder:
            path = f"{folder}/items"
            with pool.stream(acts.note_each, path) as stream:
                assert [next(stream) for _ in range(3)] == [0, 1, 2]
                time.sleep(0.3)
                ahead = os.path.getsize(path)  # noqa: PTH202
                assert 3 <= ahead < 600
            acts.wait_until(lambda: acts.text_of(path).endswith("closed"))
            dropped = pool.stream(acts.note_each, path)
            next(dropped)
            del dropped
            assert pool.submit(acts.double, 1).result(20) == 2

    @promise(p.SETTINGS)
    def test_the_lm_in_force_travels(self) -> None:
        """Of the `with` block in which a task is submitted."""
        import dspex_nb as dx

        lm = dx.LM("openai/suite", api_base="http://127.0.0.1:9/v1", api_key="sk-suite")
        with self.pool(1) as pool, dx.context(lm=lm):
            assert pool.call(acts.lm_in_force) == ("openai/suite", {"api_key": "sk-suite"})

    # Sessions

    @promise(p.SESSION)
    def test_a_session_has_its_slot_for_itself(self) -> None:
        """No other task runs on it while it is open."""
        with self.pool(2) as pool, pool.session("mine") as session:
            mine = session.call(acts.where)
            places = {pool.call(acts.where) for _ in range(6)}
            assert mine not in places
            assert pool.stats().sessions == 1

    @promise(p.AFFINITY)
    def test_a_session_that_finds_no_slot_fails_fast_or_waits(self) -> None:
        """With `wait_s=0` at once and by a typed error, else until one is free."""
        with self.pool(1) as pool:
            with pool.session("a") as first:
                first.call(acts.double, 1)
                with acts.Raises(PoolFullError) as caught, pool.session("b", wait_s=0):
                    pass
                assert "'a'" in caught.error.message
                timer = threading.Timer(0.2, first.close)
                timer.start()
                with pool.session("b", wait_s=20) as second:
                    assert second.call(acts.double, 2) == 4
            assert pool.call(acts.double, 3) == 6

    @promise(p.QUOTA)
    def test_a_quota_of_sessions(self) -> None:
        """No more sessions than the pool may have, so that slots are left for tasks."""
        with self.pool(2, sessions=1) as pool, pool.session("a"):
            with acts.Raises(PoolFullError), pool.session("b", wait_s=0):
                pass
            assert pool.call(acts.double, 1) == 2

    @promise(p.TTL)
    def test_a_session_outlives_its_block_by_its_time_to_live(self) -> None:
        """Within it the state is found again; after it a call is refused, and the slot is free."""
        with self.pool(1) as pool:
            with pool.session("a", ttl_s=30) as session:
                session.call(acts.remember, "ttl", 7)
            with pool.session("a", ttl_s=30) as session:
                assert session.call(acts.recall, "ttl") == 7
            late = pool.session("a", ttl_s=30).open()
            assert late._lease is not None  # noqa: SLF001
            late._lease.ttl_s = 0.1  # noqa: SLF001
            late.call(acts.double, 1)
            acts.wait_until(lambda: pool.stats().sessions == 0)
            with acts.Raises(SessionLostError):
                late.call(acts.double, 1)
            assert pool.call(acts.double, 2) == 4

    @promise(p.SESSION)
    def test_an_initializer_builds_the_state(self) -> None:
        """It runs before the first call, in the worker."""
        with self.pool(1) as pool, pool.session("a", initializer=acts.remember, initargs=("built", 3)) as session:
            assert session.call(acts.recall, "built") == 3
