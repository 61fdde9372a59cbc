"""Steps in pools: tasks of their pool, for which no thread of the run waits, and which go on where they end."""

from __future__ import annotations

import os
import threading
import time
from contextvars import ContextVar

import pytest

from dspex_nb.ambient import Session, running
from dspex_nb.errors import Cancelled, PoolError, StepError, TaskTimeoutError
from dspex_nb.events import Bus, StepEnded, StepStarted
from dspex_nb.pipelines import read_cell
from dspex_nb.pools import Pools
from dspex_nb.routing import plan
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope

CHAIN = """
x: int
a = native(f, x=x, pool="side")
b = native(f, x=a, pool="side")
c = native(f, x=b, pool="side")
d = native(f, x=c, pool="side")
"""
whose: ContextVar[str] = ContextVar("whose", default="nobody")


@pytest.fixture
def pools():
    made = Pools()
    made.create("side", 1, "thread")
    made.create("apart", 1, "loky")
    yield made
    made.close()


def scope():
    return Scope("run", Bus(keep=1000))


def run(body, namespace, pools, within=None, **inputs):
    session = Session(pools=pools)
    spec = read_cell("p", body, namespace)
    return execute(spec, plan(spec, session), inputs, session=session, scope=within or scope())


def slow_plus(x):
    time.sleep(0.02)
    return x + 1


def test_a_chain_goes_on_in_the_pools_thread(pools):
    within, threads = scope(), {}
    within.bus.subscribe(lambda event: threads.setdefault(event.step, threading.current_thread().name), StepStarted, quick=True)
    assert run(CHAIN, {"f": slow_plus}, pools, within, x=0).outputs == {"d": 4}
    assert threads["a"] == threading.current_thread().name
    assert {threads[name] for name in "bcd"} == {"dspex-pool-side-0"}
    assert [(type(e).__name__, e.step) for e in within.bus.recent] == [
        (kind, name) for name in "abcd" for kind in ("StepStarted", "StepEnded")
    ]


def test_what_the_caller_has_set_follows(pools):
    def f(x):
        time.sleep(0.02)
        return [*x, (whose.get(), running.get()[1])]

    token = whose.set("mine")
    try:
        found = run(CHAIN, {"f": f}, pools, x=[]).outputs["d"]
    finally:
        whose.reset(token)
    assert found == [("mine", name) for name in "abcd"]


def test_threads_processes_and_the_callers_own_take_turns(pools):
    body = """
x: int
a = native(f, x=x, pool="side")
b = native(f, x=a, pool="apart")
c = native(f, x=b)
d = native(f, x=c, pool="apart")
e = native(g, x=c, y=d, pool="side")
"""
    done = run(body, {"f": lambda x: [*x, os.getpid()], "g": lambda x, y: (x, y)}, pools, x=[])
    inner, outer = done.outputs["e"]
    assert inner == outer[:3]
    here, there = os.getpid(), outer[1]
    assert there != here
    assert outer == [here, there, here, there]


def test_a_failure_in_the_middle_names_its_step_and_starts_nothing_more(pools):
    def f(x):
        time.sleep(0.01)
        if x == 2:
            raise ValueError("no luck")
        return x + 1

    within = scope()
    with pytest.raises(StepError, match=r"step 'c' \(cell line 4\): ValueError: no luck"):
        run(CHAIN.strip(), {"f": f}, pools, within, x=0)
    assert [(e.step, e.status) for e in within.bus.recent if isinstance(e, StepEnded)] == [
        ("a", "done"), ("b", "done"), ("c", "failed"),
    ]  # fmt: skip


def test_what_reads_a_skipped_step_is_skipped(pools):
    def f(x):
        time.sleep(0.01)
        if x == 1:
            raise ValueError("no luck")
        return x + 1

    done = run(CHAIN.replace('x=a, pool="side"', 'x=a, pool="side", on_error="skip"'), {"f": f}, pools, x=0)
    assert {name: result.status for name, result in done.step_results.items()} == {
        "a": "done", "b": "failed", "c": "skipped", "d": "skipped",
    }  # fmt: skip


def test_a_value_that_is_not_what_the_step_writes_is_its_error(pools):
    body = 'x: int\na = native(f, x=x, pool="side")\nb = native(f, "x -> one, two", x=a, pool="side")'
    with pytest.raises(StepError, match=r"step 'b' .*not the 2 fields"):
        run(body, {"f": slow_plus}, pools, x=0)


def test_no_such_pool_a_full_one_and_a_closed_one_are_the_steps_error(pools):
    body = 'x: int\na = native(f, x=x, pool="side")\nb = native(f, x=a, pool="other")'
    session = Session(pools=pools)
    pools.create("other", 1, "thread")
    spec = read_cell("p", body, {"f": slow_plus})
    fixed = plan(spec, session)
    pools.get("other").close()
    with pytest.raises(StepError, match=r"step 'b'.*is closed") as caught:
        execute(spec, fixed, {"x": 0}, session=session, scope=scope())
    assert isinstance(caught.value.cause, PoolError)

    release = threading.Event()
    full = pools.create("other", 1, "thread", queue_size=1)
    waiting = [full.submit(release.wait, 5) for _ in range(2)]
    with pytest.raises(StepError, match=r"step 'b'.*queue"):
        execute(spec, fixed, {"x": 0}, session=session, scope=scope())
    release.set()
    assert [future.result(5) for future in waiting] == [True, True]


def test_a_stop_leaves_a_hanging_thread_behind_and_says_so(pools):
    release = threading.Event()
    within = scope()
    threading.Timer(0.1, within.cancel.cancel).start()
    with pytest.raises(Cancelled, match=r"stopped after 1 of 4 steps.*left behind.*: b"):
        run(CHAIN, {"f": lambda x: x + 1 if x == 0 else release.wait(5)}, pools, within, x=0)
    assert pools.get("side").call(slow_plus, 1) == 2  # its slot has a new thread
    release.set()


def test_a_stop_ends_a_task_elsewhere_while_a_function_holds_the_caller(pools):
    body = 'x: int\nfar = native(sleep, x=x, pool="apart")\nnear = native(hold, x=x)'
    within = scope()
    apart = pools.get("apart").warm()
    ended = []

    def hold(x):
        within.cancel.cancel()
        until = time.monotonic() + 5
        while apart.stats().running and time.monotonic() < until:
            time.sleep(0.005)
        ended.append(apart.stats().running)
        return x

    with pytest.raises(Cancelled):
        run(body, {"sleep": lambda x: time.sleep(60), "hold": hold}, pools, within, x=0)
    assert ended == [0]
    assert {e.step: e.status for e in within.bus.recent if isinstance(e, StepEnded)} == {"far": "cancelled", "near": "done"}


def test_a_time_limit_of_a_later_step_holds(pools):
    body = 'x: int\na = native(f, x=x, pool="side")\nb = native(hang, x=a, pool="side", timeout_s=0.1)'
    release = threading.Event()
    with pytest.raises(StepError, match="step 'b'") as caught:
        run(body, {"f": slow_plus, "hang": lambda x: release.wait(5)}, pools, x=0)
    assert isinstance(caught.value.cause, TaskTimeoutError)
    release.set()


def test_a_pipeline_inside_a_task_may_use_the_same_slot(pools):
    def inner(x):
        return run(CHAIN, {"f": slow_plus}, pools, x=x).outputs["d"]

    assert run(CHAIN, {"f": inner}, pools, x=0).outputs == {"d": 16}


def test_a_pipeline_inside_a_task_may_come_back_to_its_slot_from_another_pool(pools):
    pools.create("other", 1, "thread")
    body = """
x: int
a = native(f, x=x, pool="other")
b = native(f, x=a, pool="side")
c = native(f, x=b, pool="other")
"""

    def inner(x):
        return run(body, {"f": slow_plus}, pools, x=x).outputs["c"]

    done = threading.Event()
    found = []

    def outer():
        found.append(run('x: int\ny = native(inner, x=x, pool="side")', {"inner": inner}, pools, x=0).outputs)
        done.set()

    threading.Thread(target=outer, daemon=True).start()
    assert done.wait(10), "the inner step waits for the slot that waits for it"
    assert found == [{"y": 3}]


def test_many_steps_at_once_take_no_threads_of_their_own(pools):
    release = threading.Event()
    body = "\n".join(["x: int", *(f's{at} = native(f, x=x, pool="side")' for at in range(60))])
    before = threading.active_count()
    found = []

    def f(x):
        found.append(threading.active_count())
        return x

    assert len(run(body, {"f": f}, pools, x=1).outputs) == 60
    assert max(found) <= before + 2  # the slot's, and the pool's watch
    release.set()


def test_events_of_a_run_hear_nothing_after_its_end(pools):
    within = scope()
    release = threading.Event()

    def bad(x):
        time.sleep(0.05)
        raise ValueError("no luck")

    body = 'x: int\na = native(hang, x=x, pool="side")\nb = native(f, x=a, pool="side")\nc = native(bad, x=x)'
    with pytest.raises(StepError, match="step 'c'"):
        run(body, {"hang": lambda x: release.wait(5), "f": slow_plus, "bad": bad}, pools, within, x=0)
    told = len(within.bus.recent)
    release.set()
    time.sleep(0.1)
    assert len(within.bus.recent) == told
    assert [e.step for e in within.bus.recent if isinstance(e, StepStarted)] == ["a", "c"]


@pytest.mark.parametrize("pool", ["side", "apart"])
def test_a_listener_may_wait_for_the_same_pool_and_stop_the_run(pools, pool):
    within, found = scope(), []

    def listen(event):
        found.append((event.step, pools.get(pool).call(len, "abc"), threading.current_thread() is threading.main_thread()))
        if event.step == "b":
            within.cancel.cancel()

    within.bus.subscribe(listen, StepEnded)
    with pytest.raises(Cancelled, match="stopped after 2 of 4 steps"):
        run(CHAIN.replace('"side"', f'"{pool}"'), {"f": slow_plus}, pools, within, x=0)
    assert found == [("a", 3, True), ("b", 3, True)]
    assert [e.step for e in within.bus.recent if isinstance(e, StepStarted)] == ["a", "b"]


def test_what_a_step_sets_here_holds_for_the_steps_after_it(pools):
    body = 'x: int\na = native(f, x=x, pool="side")\nb = native(setting, x=a)\nc = native(seen, x=b, pool="side")'

    def setting(x):
        whose.set("step b")
        return x

    assert run(body, {"f": slow_plus, "setting": setting, "seen": lambda x: whose.get()}, pools, x=0).outputs == {"c": "step b"}
    whose.set("nobody")


def test_a_steps_time_is_its_own_while_the_caller_is_busy(pools):
    body = 'x: int\na = native(f, x=x, pool="side")\nb = native(hold, x=x)\nc = parallel(p=native(f, x=x), q=native(f, x=x))'
    done = run(body, {"f": slow_plus, "hold": lambda x: time.sleep(0.5)}, pools, x=0)
    times = {name: result.elapsed_s for name, result in done.step_results.items()}
    assert times["a"] < times["b"]
    assert times["c"] < times["b"]  # it ran on a thread meanwhile
