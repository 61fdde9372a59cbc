from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import signal
import threading
import time

import pytest

from dspex_nb.errors import Cancelled
from dspex_nb.events import Bus, Progress
from dspex_nb.predictions import Prediction
from dspex_nb.runs.mapping import _OnLoop, iter_rows, map_rows
from dspex_nb.scopes import Scope


def scope():
    return Scope("run", Bus(keep=1000))


def double(row, _):
    if row["x"] == 3:
        raise ValueError("three")
    return Prediction({"y": 2 * row["x"]})


def rows(count):
    return [{"x": number} for number in range(count)]


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_results_are_in_order_and_errors_are_kept_per_row(n_jobs):
    within = scope()
    results = map_rows(double, rows(8), n_jobs=n_jobs, scope=within)
    assert [result.index for result in results] == list(range(8))
    assert [result.prediction.y for result in results if result.error is None] == [0, 2, 4, 8, 10, 12, 14]
    assert results[3].prediction is None
    assert str(results[3].error) == "three"
    progress = [event for event in within.bus.recent if isinstance(event, Progress)]
    done = [event.done for event in progress]
    assert done == sorted(set(done))
    assert done[-1] == 8
    assert (progress[-1].total, progress[-1].errors) == (8, 1)


def test_raise_stops_the_others():
    started = []

    def call(row, inner):
        started.append(row["x"])
        if row["x"] == 3:
            raise ValueError("three")
        gone = threading.Event()
        inner.cancel.on_cancel(gone.set)
        gone.wait(0.02 if row["x"] < 3 else 5)
        return Prediction({})

    within = scope()
    start = time.monotonic()
    with pytest.raises(ValueError, match="three"):
        map_rows(call, rows(100), n_jobs=4, scope=within, on_error="raise")
    assert time.monotonic() - start < 1
    assert len(started) < 20
    assert not within.cancel.cancelled


def test_rows_in_flight_are_bounded_and_an_iterator_is_not_read_ahead():
    lock, now, most, taken = threading.Lock(), [0], [0], []

    def call(row, _):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        return Prediction({})

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield {"x": number}
            number += 1

    results = iter_rows(call, endless(), n_jobs=3, scope=scope())
    for _ in range(10):
        next(results)
    results.close()
    assert most[0] == 3
    assert len(taken) <= 13


def test_cancel_closes_what_the_rows_hold_and_names_what_is_left():
    release, closed = threading.Event(), []

    def call(row, inner):
        inner.cancel.on_cancel(lambda: closed.append(row["x"]))
        if row["x"] % 2:
            release.wait(5)  # cannot be stopped
        else:
            done = threading.Event()
            inner.cancel.on_cancel(done.set)
            done.wait(5)
            inner.cancel.check()
        return Prediction({})

    within = scope()
    threading.Timer(0.05, within.cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled, match="stopped after 0 of 50 rows; 2 could not be stopped"):
        map_rows(call, rows(50), n_jobs=4, scope=within)
    assert time.monotonic() - start < 1
    assert sorted(closed) == [0, 1, 2, 3]
    release.set()


@pytest.fixture
def kernel_interrupts():
    """A kernel's handler of ■; a library imported by an earlier test of the same worker may have put another in its place."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before or signal.default_int_handler)


@pytest.mark.timeout(30)
def test_an_interrupt_becomes_cancelled_within_a_second(kernel_interrupts):
    started = []

    def call(row, inner):
        started.append(row["x"])
        done = threading.Event()
        inner.cancel.on_cancel(done.set)
        done.wait(5)
        inner.cancel.check()

    within = scope()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        map_rows(call, rows(200), n_jobs=4, scope=within)
    assert time.monotonic() - start < 1
    assert within.cancel.cancelled
    count = len(started)
    time.sleep(0.05)
    assert len(started) == count


def test_rows_that_come_between_a_tasks_last_look_and_its_end_are_not_lost():
    landed = queue.SimpleQueue()

    async def call(row, _):
        if row["x"] == 0:  # runs before the task's end is noted, which is scheduled after it
            hands.loop.call_soon(hands._take, [(1, {"x": 1})])
        return Prediction({"y": row["x"]})

    hands = _OnLoop(call, 1, scope(), landed.put)
    hands.start([(0, {"x": 0})])
    done = [*landed.get(timeout=5)]
    while len(done) < 2:
        done += landed.get(timeout=5)
    assert [result.prediction.y for result in done] == [0, 1]


class TestOnTheLoop:
    def test_a_row_whose_own_work_was_cancelled_is_a_failed_row(self):
        async def call(row, _):
            if row["x"] == 2:
                raise asyncio.CancelledError
            return Prediction({"y": row["x"]})

        results = map_rows(double, rows(6), n_jobs=3, scope=scope(), acall=call)
        assert [result.index for result in results if result.error is not None] == [2]
        assert "was cancelled" in str(results[2].error)

    def test_an_exit_ends_the_map_and_not_the_loop(self):
        async def call(row, _):
            await asyncio.sleep(0)
            if row["x"] == 2:
                raise SystemExit(3)
            return Prediction({"y": row["x"]})

        async def quick(row, _):
            return Prediction({"y": row["x"]})

        with pytest.raises(SystemExit):
            map_rows(double, rows(6), n_jobs=3, scope=scope(), acall=call)
        assert [result.prediction.y for result in map_rows(double, rows(3), n_jobs=3, scope=scope(), acall=quick)] == [0, 1, 2]

    def test_rows_do_not_see_each_others_context_variables(self):
        number = contextvars.ContextVar("number")

        async def call(row, _):
            number.set(row["x"])
            await asyncio.sleep(0.005)
            return Prediction({"y": number.get()})

        results = map_rows(double, rows(6), n_jobs=3, scope=scope(), acall=call)
        assert [result.prediction.y for result in results] == [0, 1, 2, 3, 4, 5]
