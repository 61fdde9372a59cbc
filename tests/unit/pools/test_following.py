"""What follows a task, submitted where it ends, goes to its slot, which is free at once."""

from __future__ import annotations

import threading
import time

import pytest

from dspex_nb.pools import Pools, Task


@pytest.fixture
def pools():
    made = Pools()
    yield made
    made.close()


def after(pool, fn, *args):
    """Submit what nobody here waits for."""
    return pool.run(Task(fn, args, follows=True))


def name(wait_s=0.02):
    time.sleep(wait_s)
    return threading.current_thread().name


def test_the_slot_goes_on_and_others_take_the_rest(pools):
    pool = pools.create("two", 2, "thread").warm()
    found, over = [], threading.Event()

    def go_on(_):
        found.append(threading.current_thread().name)
        found.extend(after(pool, name, 0.2) for _ in range(3))
        over.set()

    pool.submit(name).add_done_callback(go_on)
    assert over.wait(5)
    ended_on, first, *others = found
    assert first.result(5) == ended_on
    assert others[0].result(5) != ended_on  # at once, on the slot that had nothing to do
    others[1].result(5)
    assert pool.stats().done == 4


def test_a_task_that_submits_from_its_end_never_runs_inside_another(pools):
    pool = pools.create("one", 1, "thread")
    inside, most, left, over = [0], [0], [50], threading.Event()

    def work():
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1

    def go_on(_):
        left[0] -= 1
        if left[0]:
            inside[0] += 1  # a task that ran now would run inside this one's end
            after(pool, work).add_done_callback(go_on)
            inside[0] -= 1
        else:
            over.set()

    pool.submit(work).add_done_callback(go_on)
    assert over.wait(5)
    assert most == [1]


def test_those_who_wait_come_first(pools):
    pool = pools.create("one", 1, "thread")
    order, hold, over = [], threading.Event(), threading.Event()

    def go_on(_):
        after(pool, order.append, "later").add_done_callback(lambda _: over.set())

    first = pool.submit(hold.wait, 5)
    first.add_done_callback(go_on)
    pool.submit(order.append, "waited")
    hold.set()
    assert over.wait(5)
    assert order == ["waited", "later"]


def test_closing_fails_what_follows(pools):
    pool = pools.create("one", 1, "thread")
    found, over = [], threading.Event()

    def go_on(_):
        pool._slots.closed = True  # as by another thread between the two
        try:
            after(pool, name)
        except Exception as error:
            found.append(str(error))
        over.set()

    pool.submit(name).add_done_callback(go_on)
    assert over.wait(5)
    assert "is closed" in found[0]


@pytest.mark.parametrize("size", [1, 2])
def test_a_callback_that_waits_for_its_own_pool_gets_its_answer(pools, size):
    pool = pools.create("own", size, "thread")
    found, over = [], threading.Event()

    def ask(_):
        found.append(pool.call(len, "abc"))
        over.set()

    pool.submit(name).add_done_callback(ask)
    assert over.wait(5)
    assert found == [3]
