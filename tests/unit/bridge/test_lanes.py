"""DSPy's loop over examples on lanes: what comes of it is what DSPy's own gives."""

from __future__ import annotations

import contextvars
import threading

import dspy
import pytest
from dspy.utils.parallelizer import ParallelExecutor

from dspex_nb.bridge import lanes
from dspex_nb.bridge.lanes import on_lanes

HERE = contextvars.ContextVar("here", default="nowhere")


@pytest.fixture(autouse=True)
def ahead():
    with on_lanes() as ahead:
        yield ahead


def executor(num_threads=4, **options):
    return ParallelExecutor(num_threads=num_threads, **{"max_errors": 100, **options})


def test_values_come_in_the_order_of_the_data():
    assert executor().execute(lambda item: item * 2, list(range(50))) == [item * 2 for item in range(50)]
    assert executor().execute(lambda item: item, []) == []


def test_an_example_that_fails_gives_none_and_is_kept_with_its_error():
    def half(item):
        if item % 2:
            raise ValueError(item)
        return item

    one = executor()
    assert one.execute(half, [0, 1, 2, 3]) == [0, None, 2, None]
    assert one.failed_indices == [1, 3]
    assert [str(one.exceptions_map[index]) for index in (1, 3)] == ["1", "3"]


def test_too_many_errors_end_the_pass():
    begun = []

    def fail(item):
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(Exception, match="cancelled due to errors"):
        executor(num_threads=2, max_errors=3).execute(fail, list(range(100)))
    assert len(begun) < 10


def test_what_is_no_exception_ends_the_pass_at_once():
    class Stop(BaseException):
        pass

    begun = []

    def stop(item):
        begun.append(item)
        raise Stop

    with pytest.raises(Stop):
        executor(num_threads=2).execute(stop, list(range(100)))
    assert len(begun) <= 2


def test_no_more_run_at_once_than_it_says():
    lock, running, most = threading.Lock(), [0], [0]
    three = threading.Barrier(3, timeout=20)

    def count(item):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        three.wait()
        with lock:
            running[0] -= 1

    executor(num_threads=3).execute(count, list(range(30)))
    assert most[0] == 3


def test_each_example_sees_the_callers_context_and_keeps_its_own():
    HERE.set("the caller")

    def look(item):
        found = HERE.get(), dspy.settings.num_threads
        HERE.set(item)
        return found

    with dspy.context(num_threads=77):
        assert set(executor().execute(look, list(range(20)))) == {("the caller", 77)}
    assert HERE.get() == "the caller"


def test_each_example_counts_its_usage_for_itself():
    def add(item):
        dspy.settings.usage_tracker.append(item)
        return list(dspy.settings.usage_tracker)

    with dspy.context(usage_tracker=["before"]):
        assert executor().execute(add, [1, 2, 3]) == [["before", 1], ["before", 2], ["before", 3]]
        assert dspy.settings.usage_tracker == ["before"]


def test_a_pass_inside_a_pass_finds_lanes():
    def inner(item):
        return sum(executor(num_threads=2).execute(lambda one: one, [item, item]))

    assert executor(num_threads=2).execute(inner, [1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]


def test_an_example_that_takes_too_long_is_begun_once_more(monkeypatch):
    monkeypatch.setattr(lanes, "_LOOK_S", 0.01)
    calls, over = [], threading.Event()

    def hang_first(item):
        calls.append(item)
        if item == 1 and calls.count(1) == 1:
            over.wait(20)
        return len(calls)

    found = executor(num_threads=2, timeout=0.02).execute(hang_first, [0, 1])
    over.set()
    assert None not in found
    assert calls.count(1) == 2


def test_what_runs_ahead_gives_its_results_in_order_and_raises_in_its_turn(ahead):
    def fail():
        raise ValueError("second")

    with ahead.begun([lambda: "first", fail, lambda: "third"], lanes=2) as results:
        assert next(results) == "first"
        with pytest.raises(ValueError, match="second"):
            next(results)


def test_what_has_not_begun_at_the_end_never_does(ahead):
    begun, going_on = [], threading.Event()

    def wait(name):
        begun.append(name)
        going_on.wait(20)

    with ahead.begun([lambda: wait("first"), lambda: wait("second")], lanes=1):
        while not begun:
            pass
    going_on.set()
    while ahead.running:
        pass
    assert begun == ["first"]


def test_a_pass_does_without_the_lanes_that_run_ahead(ahead):
    going_on, running, most = threading.Event(), [], []

    def count(item):
        running.append(item)
        most.append(len(running))
        two.wait()
        running.remove(item)

    two = threading.Barrier(2, timeout=20)
    with ahead.begun([lambda: going_on.wait(20)] * 2, lanes=2):
        executor(num_threads=4).execute(count, list(range(10)))
        going_on.set()
    assert max(most) == 2
