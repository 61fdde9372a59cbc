from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time

import pytest

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, StepError
from dspex_nb.events import Bus, ItemYielded
from dspex_nb.passages import Passage
from dspex_nb.pipelines import read_cell
from dspex_nb.pools import Pools
from dspex_nb.pools.loop import loop_thread
from dspex_nb.retrieval import Retriever
from dspex_nb.routing import plan
from dspex_nb.runs.calling import is_async
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope
from dspex_nb.testing.scripted import ScriptedLM

user = contextvars.ContextVar("user", default="nobody")


def run(body, names, session=None, scope=None, apart=False, **inputs):
    session = session or Session()
    spec = read_cell("p", body, names)
    return execute(spec, plan(spec, session), inputs, session=session, scope=scope or Scope("run", Bus(keep=1000)), apart=apart)


async def later(x):
    await asyncio.sleep(0.1)
    return x + 1, threading.current_thread().name, user.get()


def test_kinds_are_told_apart():
    async def agen():
        yield 1

    class Called:
        async def __call__(self, x):
            return x

    assert all(map(is_async, (later, agen, functools.partial(later), Called())))
    assert not any(map(is_async, (len, lambda: 1, print, dict)))


def test_async_steps_overlap_on_one_loop():
    start = time.monotonic()
    done = run("x: int\na = native(f, x=x)\nb = native(f, x=x)\nc = native(f, x=x)", {"f": later}, x=1)
    assert time.monotonic() - start < 0.25
    loops = {value[1] for value in done.outputs.values()}
    assert loops == {"dspex-loop"}
    assert [value[0] for value in done.outputs.values()] == [2, 2, 2]


def test_over_an_async_function_overlaps_too():
    start = time.monotonic()
    done = run("xs: list[int]\na = native(f, x=xs, over=xs)", {"f": later}, xs=[1, 2, 3, 4])
    assert time.monotonic() - start < 0.35
    assert [value[0] for value in done.outputs["a"]] == [2, 3, 4, 5]


@pytest.mark.parametrize("apart", [False, True])
def test_context_variables_follow_into_tasks_threads_and_pools(apart):
    pools = Pools()
    pools.create("side", 1, "thread")
    token = user.set("me")
    try:
        body = "x: int\na = native(f, x=x)\nb = native(g, x=x)\nc = native(g, x=x, pool='side')\nd = native(gen, x=x)\ne = native(g, x=x, timeout_s=5)"

        def gen(x):
            yield user.get()

        done = run(body, {"f": later, "g": lambda x: user.get(), "gen": gen}, Session(pools=pools), apart=apart, x=1)
        assert (done.outputs["a"][2], done.outputs["b"], done.outputs["c"]) == ("me", "me", "me")
        assert (done.outputs["d"], done.outputs["e"]) == (["me"], "me")
    finally:
        user.reset(token)
        pools.close()


def test_works_with_a_loop_already_running_and_in_threads():
    async def main():
        return run("x: int\na = native(f, x=x)", {"f": later}, x=1).outputs["a"][0]

    assert asyncio.run(main()) == 2
    found = []
    thread = threading.Thread(target=lambda: found.append(run("x: int\na = native(f, x=x)", {"f": later}, x=2).outputs["a"][0]))
    thread.start()
    thread.join()
    assert found == [3]


def test_a_pipeline_called_in_an_async_step_does_not_wait_for_itself():
    async def outer(x):
        return run("x: int\na = native(f, x=x)", {"f": later}, x=x).outputs["a"][0]

    assert run("x: int\na = native(f, x=x)", {"f": outer}, x=1).outputs == {"a": 2}


def test_cancelling_cancels_the_task():
    told = threading.Event()

    async def long(x):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            told.set()
            raise

    scope = Scope("run", Bus(keep=100))
    threading.Timer(0.1, scope.cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run("x: int\na = native(f, x=x)", {"f": long}, scope=scope, x=1)
    assert time.monotonic() - start < 1
    assert told.wait(1)


def test_a_time_limit_cancels_the_task_and_a_failure_its_neighbours():
    told = []

    async def long(x):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            told.append(x)
            raise

    async def bad(x):
        await asyncio.sleep(0.05)
        raise ValueError("no luck")

    with pytest.raises(StepError, match="not done after"):
        run("x: int\na = native(f, x=x, timeout_s=0.1)", {"f": long}, x=1)
    with pytest.raises(StepError, match="no luck"):
        run("x: int\na = native(f, x=x)\nb = native(g, x=x)", {"f": long, "g": bad}, x=2)
    time.sleep(0.1)
    assert told == [1, 2]
    assert not [task for task in asyncio.all_tasks(loop_thread.get()) if not task.done()]


def test_generators_become_lists_and_each_item_an_event():
    def numbers(n):
        for at in range(n):
            yield at * at

    async def slowly(n):
        for at in range(n):
            await asyncio.sleep(0)
            yield -at

    scope = Scope("run", Bus(keep=100))
    done = run("n: int\na = native(f, n=n)\nb = native(g, n=n)", {"f": numbers, "g": slowly}, scope=scope, n=4)
    assert done.outputs == {"a": [0, 1, 4, 9], "b": [0, -1, -2, -3]}
    items = [(event.step, event.index, event.item) for event in scope.bus.recent if isinstance(event, ItemYielded)]
    assert sorted(items) == sorted([("a", at, at * at) for at in range(4)] + [("b", at, -at) for at in range(4)])
    kinds = [event.kind for event in scope.bus.recent if getattr(event, "step", "") == "a"]
    assert kinds == ["step_started", "item", "item", "item", "item", "step_ended"]


def test_a_stopped_generator_is_closed():
    closed = threading.Event()

    def endless(x):
        try:
            while True:
                time.sleep(0.01)
                yield x
        finally:
            closed.set()

    scope = Scope("run", Bus(keep=10))
    threading.Timer(0.1, scope.cancel.cancel).start()
    with pytest.raises(Cancelled):
        run("x: int\na = native(f, x=x)", {"f": endless}, scope=scope, x=1)
    assert closed.is_set()


def test_generators_and_async_functions_in_pools_of_threads_and_processes():
    pools = Pools()
    pools.create("side", 1, "thread")
    pools.create("apart", 1, "loky")

    def numbers(n):
        yield from range(n)

    async def plus(n):
        await asyncio.sleep(0)
        return n + 1

    async def slowly(n):
        for at in range(n):
            yield at

    try:
        for pool in ("side", "apart"):
            body = (
                f"n: int\na = native(f, n=n, pool='{pool}')\nb = native(g, n=n, pool='{pool}')\nc = native(h, n=n, pool='{pool}')"
            )
            done = run(body, {"f": numbers, "g": plus, "h": slowly}, Session(pools=pools), n=3)
            assert done.outputs == {"a": [0, 1, 2], "b": 4, "c": [0, 1, 2]}
    finally:
        pools.close()


def test_what_a_worker_says_and_asks_is_told_in_the_run_and_its_own_runs_are_not(fresh):
    import dspex_nb as dx

    def talk(n):
        import dspex_nb
        from dspex_nb.events import LMCalled, RunEnded, RunStarted

        bus = dspex_nb.session().bus
        bus.publish(RunStarted(run_id="its own", name="inner", of="map"))
        bus.publish(LMCalled(run_id="its own", model="m", prompt_tokens=n, step="inner"))
        bus.publish(RunEnded(run_id="its own", status="failed"))
        print("hello")
        return n

    dx.pool("apart", 1, "loky")
    scope = Scope("run", Bus(keep=1000))
    done = run("n: int\na = native(f, n=n, pool='apart')", {"f": talk}, dx.session(), scope, n=3)
    assert done.outputs == {"a": 3}
    said = [event for event in scope.bus.recent if event.kind in {"log", "lm_called", "run_started", "run_ended"}]
    assert {(event.kind, event.run_id, event.step) for event in said} == {("lm_called", "run", "a"), ("log", "run", "a")}
    assert [event.text for event in said if event.kind == "log"] == ["hello"]


def test_items_are_never_stored(tmp_path):
    from dspex_nb.store import Store

    store = Store(tmp_path / "runs.sqlite")
    bus = Bus(keep=10)
    store.attach(bus)

    def numbers(n):
        yield from range(n)

    run("n: int\na = native(f, n=n)", {"f": numbers}, scope=Scope("run", bus), n=3)
    store.flush()
    assert [event.kind for _, event in store.events("run")] == ["step_started", "step_ended"]
    store.close()


def test_async_cells_scripts_and_threads(fresh):
    import dspex_nb as dx

    async def plus(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    def items(x: int):
        yield from range(x)

    pipe = dx.Pipeline("p", a=plus, b=items)

    async def main():
        first = await pipe.acall(x=2)
        run_ = pipe.run(x=2)
        events = [event async for event in run_]
        return first, events, await run_

    first, events, again = asyncio.run(main())
    assert first.a == again.a == 3
    assert first.b == again.b == [0, 1]
    assert [event.index for event in events if event.kind == "item"] == [0, 1]
    told = []
    assert pipe(x=2, on_progress=told.append).a == 3
    assert [event.kind for event in told].count("item") == 2
    assert len({event.run_id for event in told}) == 1


@pytest.mark.parametrize("kind", ["thread", "loky"])
def test_items_of_a_generator_in_a_pool_come_as_they_are_yielded(kind, tmp_path):
    go = tmp_path / "go"

    def numbers(n, go):
        import time

        yield 0
        while not go.exists():  # the first item is told before the second is made
            time.sleep(0.01)
        yield from range(1, n)

    async def slowly(n, go):
        for at in range(n):
            yield -at

    pools = Pools()
    pools.create("side", 1, kind)
    scope = Scope("run", Bus(keep=1000))
    scope.bus.subscribe(lambda event: go.touch() if event.kind == "item" else None)
    try:
        body = "n: int\ngo: Any\na = native(f, n=n, go=go, pool='side')\nb = native(g, n=n, go=go, pool='side')"
        done = run(body, {"f": numbers, "g": slowly}, Session(pools=pools), scope, n=600, go=go)
        assert done.outputs == {"a": list(range(600)), "b": [-at for at in range(600)]}
        items = [event for event in scope.bus.recent if event.kind == "item" and event.step == "a"]
        assert [event.index for event in items][-3:] == [597, 598, 599]
    finally:
        pools.close()


def test_steps_of_every_kind_run_in_the_pool_they_name():
    at_once, most, lock = 0, 0, threading.Lock()

    def answer(_):
        nonlocal at_once, most
        with lock:
            at_once, most = at_once + 1, max(most, at_once + 1)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return '{"z": "here"}'

    class Here(Retriever):
        name = "here"

        def search(self, query, k=5, **_):
            return [Passage(threading.current_thread().name, id="1")]

    pools = Pools()
    side = pools.create("side", 1, "thread")
    session = Session(lm=ScriptedLM(answer), adapter="json", pools=pools)
    body = """
q: list[str]
a = predict("text -> z", text=q, over=q, pool="side")
b = template("{{ q[0] }}", pool="side")
c = here(query=b, pool="side")
d = predict("b -> y", pool="side", timeout_s=0.001, on_error="skip")
"""
    try:
        done = run(body, {"here": Here()}, session, q=list("abcd"))
        assert len(done.fields["z"]) == 4
        assert most == 1  # the pool has one thread
        assert done.fields["c"][0].text.startswith("dspex-pool-side")
        assert done.fields["y"] is None
        side.close(wait_s=5.0)  # a task is counted when its slot goes on, a moment after its result is there
        assert side.stats().done == 6
    finally:
        pools.close()


def test_a_stopped_generator_in_a_process_ends_with_it():
    def endless(x):
        import time

        while True:
            time.sleep(0.01)
            yield x

    pools = Pools()
    pool = pools.create("apart", 1, "loky")
    pool.warm()
    scope = Scope("run", Bus(keep=10))
    scope.bus.subscribe(lambda event: scope.cancel.cancel() if event.kind == "item" and event.index == 3 else None)
    try:
        with pytest.raises(Cancelled):
            run("x: int\na = native(f, x=x, pool='apart')", {"f": endless}, Session(pools=pools), scope, x=1)
        assert pool.stats().broken_off == 1
    finally:
        pools.close()


def test_a_generator_that_fails_in_a_process_fails_its_step():
    def bad(x):
        yield x
        raise ValueError("no luck")

    pools = Pools()
    pools.create("apart", 1, "loky")
    scope = Scope("run", Bus(keep=100))
    try:
        with pytest.raises(StepError, match="no luck"):
            run("x: int\na = native(f, x=x, pool='apart')", {"f": bad}, Session(pools=pools), scope, x=7)
        assert [event.item for event in scope.bus.recent if event.kind == "item"] == [7]
    finally:
        pools.close()


# What a function step asks of a model


def asks(question):
    import dspex_nb as dx

    return dx.Predict("question -> answer", adapter="chat")(question=question).answer


ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


@pytest.mark.parametrize("options", [{}, {"pool": "side"}, {"pool": "modules"}, {"timeout_s": 30}], ids=str)
def test_what_a_function_asks_lands_in_its_run_and_follows_the_context(fresh, model_server, options):
    """`modules` is a pool of processes made at first use: nobody called `dx.pool` for it."""
    import dspex_nb as dx

    server, other = model_server(lambda body: "wrong"), model_server(lambda body: ANSWER)
    dx.configure(lm=dx.LM("openai/m", api_base=server.url, api_key="sk-x"))
    if options.get("pool") == "side":
        dx.pool("side", 1, "thread")
    pipe = dx.Pipeline("p", a=dx.native(asks, **options))
    told = []
    with dx.context(lm=dx.LM("openai/m", api_base=other.url, api_key="sk-y")):
        assert pipe(question="Capital of France?", on_progress=told.append).a == "Paris"
    called = [event for event in told if event.kind == "lm_called"]
    assert [(event.step, event.run_id) for event in called] == [("a", told[0].run_id)]
    assert not server.bodies
    assert dx.session().ledger.calls == 1


def test_a_stop_reaches_what_a_function_in_a_thread_asks(fresh, model_server):
    import dspex_nb as dx

    began, left = threading.Event(), []
    server = model_server(lambda body: began.set() or time.sleep(5) or ANSWER)
    dx.configure(lm=dx.LM("openai/m", api_base=server.url, api_key="sk-x", num_retries=0))

    def asking(question):
        try:
            return asks(question)
        except BaseException as error:
            left.append(type(error))
            raise

    dx.pool("side", 1, "thread")
    pipe = dx.Pipeline("p", a=dx.native(asking, pool="side"))
    started = pipe.run(question="Capital of France?")
    assert began.wait(20)
    started.cancel()
    with pytest.raises(Cancelled):
        started.result()
    deadline = time.monotonic() + 3
    while not left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == [Cancelled]


def test_a_pipeline_called_in_a_step_has_a_run_of_its_own_and_the_same_stop(fresh):
    import dspex_nb as dx

    inner = dx.Pipeline("inner", a=lambda x: x + 1)
    told = []
    outer = dx.Pipeline("outer", a=lambda x: inner(x=x).a)
    assert outer(x=1, on_progress=told.append).a == 2
    assert len([event for event in told if event.kind == "step_started" and event.run_id == told[0].run_id]) == 1


def test_a_time_limit_in_a_pool_names_the_function_and_ends_its_coroutine():
    ended = threading.Event()

    async def long(x):
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    pools = Pools()
    pools.create("side", 1, "thread")
    try:
        with pytest.raises(StepError, match=r"long: not done after 0\.05 s"):
            run("x: int\na = native(f, x=x, pool='side', timeout_s=0.05)", {"f": long}, Session(pools=pools), x=1)
        assert ended.wait(5)
    finally:
        pools.close()
