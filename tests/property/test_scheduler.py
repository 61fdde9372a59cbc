"""A run gives what a plain walk through the graph in data order gives, and starts each step at most once.

Inline, on threads and on processes; with steps that fail, are tried again, are switched off, wait, or are stopped from outside.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, StepError
from dspex_nb.events import Bus, StepEnded, StepStarted
from dspex_nb.pipelines import FieldRef, InputSpec, PipelineSpec, Predicate, Step
from dspex_nb.pipelines.records import Backoff
from dspex_nb.pools import Pools
from dspex_nb.routing import plan
from dspex_nb.runs.resuming import Kept
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope

KINDS = ["sync", "sync", "async", "generator", "thread"]


@st.composite
def graphs(draw, kinds=KINDS):
    """Steps s0…sn; each reads the input and some earlier steps, may fail (skipped over) or be switched off."""
    size = draw(st.integers(1, 9))
    reads = [draw(st.sets(st.integers(0, max(0, at - 1)), max_size=3)) if at else set() for at in range(size)]
    fates = [draw(st.sampled_from(["ok", "ok", "ok", "flaky", "fail", "fallback", "off"])) for _ in range(size)]
    order = draw(st.permutations(range(size)))
    return reads, fates, order, [draw(st.sampled_from(kinds)) for _ in range(size)]


def body_of(at, fate, kind, calls):
    def work(values):
        calls[at] += 1
        if fate in ("fail", "fallback") or (fate == "flaky" and calls[at] == 1):
            raise RuntimeError(at)
        return (at, tuple(sorted(values.items())))

    async def awaited(**values):
        await asyncio.sleep(0)
        return work(values)

    def yielded(**values):
        yield work(values)

    return {"async": awaited, "generator": yielded}.get(kind, lambda **values: work(values))


def build(graph, calls):
    reads, fates, order, kinds = graph

    def step(at):
        bindings = {"x": FieldRef("x", ""), **{f"s{one}": FieldRef(f"s{one}", f"s{one}") for one in sorted(reads[at])}}
        made = Step(
            f"s{at}", "function", callable=body_of(at, fates[at], kinds[at], calls), bindings=bindings, writes=(f"s{at}",),
            on_error="skip", retry=int(fates[at] == "flaky"), backoff=Backoff(0), pool="side" if kinds[at] == "thread" else None,
            when=Predicate(lambda: False) if fates[at] == "off" else None,
        )  # fmt: skip
        if fates[at] == "fallback":
            other = Step(f"s{at}.on_error", "function", callable=lambda: "other", writes=(f"s{at}",))
            made = replace(made, on_error=other)
        return made

    return PipelineSpec("p", (InputSpec("x"),), tuple(step(at) for at in order))


def expected(graph):
    reads, fates, _, kinds = graph
    values = {}
    for at in range(len(reads)):
        blocked = any(values[one] is None for one in reads[at])
        given_values = {"x": 7, **{f"s{one}": values[one] for one in reads[at]}}
        value = (at, tuple(sorted(given_values.items())))
        value = [value] if kinds[at] == "generator" else value
        value = "other" if fates[at] == "fallback" else value
        values[at] = None if blocked or fates[at] in ("off", "fail") else value
    return values


@pytest.fixture(scope="module")
def pools():
    pools = Pools()
    pools.create("side", 2, "thread")
    pools.create("apart", 2, "loky")
    yield pools
    pools.close()


def told_once(scope):
    """Every step that started ended once, after it started; nothing ended twice."""
    started = [event.step for event in scope.bus.recent if isinstance(event, StepStarted)]
    ended = [event.step for event in scope.bus.recent if isinstance(event, StepEnded)]
    assert len(set(started)) == len(started)
    assert len(set(ended)) == len(ended)
    assert set(started) <= set(ended)


@settings(max_examples=120, deadline=None)
@given(graph=st.one_of(graphs(), graphs(["thread", "thread", "thread", "sync"])), apart=st.booleans())
def test_same_as_a_plain_walk(pools, graph, apart):
    calls = Counter()
    spec, session, scope = build(graph, calls), Session(pools=pools), Scope("run", Bus(keep=1000))
    done = execute(spec, plan(spec, session), {"x": 7}, session=session, scope=scope, apart=apart)
    reads, fates, _, _ = graph
    values = expected(graph)
    assert {name: done.by_step[name][name] for name in done.by_step} == {f"s{at}": value for at, value in values.items()}
    ran = {at for at in values if not any(values[one] is None for one in reads[at]) and fates[at] != "off"}
    assert calls == {at: 1 + (fates[at] == "flaky") for at in ran}
    statuses = {at: done.step_results[f"s{at}"].status for at in values}
    failing = ("fail", "fallback")
    assert statuses == {at: "skipped" if at not in ran else "failed" if fates[at] in failing else "done" for at in values}
    told_once(scope)


def _in_process(**values):
    return sum(value if isinstance(value, int) else 1 for value in values.values()) + 1


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_processes_give_what_a_plain_walk_gives(pools, data):
    size = data.draw(st.integers(1, 6))
    reads = [data.draw(st.sets(st.integers(0, max(0, at - 1)), max_size=2)) if at else set() for at in range(size)]
    steps = tuple(
        Step(
            f"s{at}", "function", callable=_in_process, writes=(f"s{at}",),
            pool=data.draw(st.sampled_from(["apart", "apart", "apart", "side", None])),
            bindings={"x": FieldRef("x", ""), **{f"s{one}": FieldRef(f"s{one}", f"s{one}") for one in reads[at]}},
        )
        for at in data.draw(st.permutations(range(size)))
    )  # fmt: skip
    spec, session = PipelineSpec("p", (InputSpec("x"),), steps), Session(pools=pools)
    done = execute(spec, plan(spec, session), {"x": 3}, session=session, scope=Scope("run", Bus(keep=100)))
    values: dict[int, int] = {}
    for at in range(size):
        values[at] = _in_process(x=3, **{f"s{one}": values[one] for one in reads[at]})
    assert {name: done.by_step[name][name] for name in done.by_step} == {f"s{at}": value for at, value in values.items()}


@settings(max_examples=60, deadline=None)
@given(
    graph=st.one_of(graphs(), graphs(["thread", "thread", "thread", "sync"])),
    apart=st.booleans(),
    stop_at=st.integers(0, 8),
)
def test_a_stop_loses_and_doubles_nothing(pools, graph, apart, stop_at):
    """Stopped in the middle, a run ends as cancelled (or was done already); each step has run at most once and said so once."""
    calls = Counter()
    spec, session, scope = build(graph, calls), Session(pools=pools), Scope("run", Bus(keep=1000))
    stopper = spec.steps[stop_at % len(spec.steps)]

    def stopping(**values):
        scope.cancel.cancel()
        return 1

    spec = replace(spec, steps=tuple(replace(one, callable=stopping, pool=None) if one is stopper else one for one in spec.steps))
    at = int(stopper.name[1:])
    try:
        done = execute(spec, plan(spec, session), {"x": 7}, session=session, scope=scope, apart=apart)
    except Cancelled:
        done = None
    # A time for what was left behind to do what it must not do.
    time.sleep(0.001)
    assert all(count <= 2 for count in calls.values())
    assert all(calls[one] <= 1 + (graph[1][one] == "flaky") for one in calls)
    assert at not in calls
    told_once(scope)
    if done is not None:
        assert set(done.by_step) == {step.name for step in spec.steps}


@settings(max_examples=40, deadline=None)
@given(graph=graphs(["sync", "sync", "async", "thread"]), apart=st.booleans(), data=st.data())
def test_a_failed_run_resumed_runs_no_finished_step_again(pools, tmp_path_factory, graph, apart, data):
    reads, _, order, kinds = graph
    graph = (reads, ["ok"] * len(reads), order, kinds)
    broken = data.draw(st.integers(0, len(reads) - 1))
    calls: Counter[int] = Counter()
    spec, session = build(graph, calls), Session(pools=pools)
    kept = tmp_path_factory.mktemp("kept") / "run"
    healthy = spec
    failing = replace(
        spec,
        steps=tuple(
            replace(one, callable=body_of(broken, "fail", kinds[broken], Counter()), on_error="stop")
            if one.name == f"s{broken}" else one
            for one in spec.steps
        ),
    )  # fmt: skip
    with pytest.raises(StepError):
        execute(
            failing,
            plan(failing, session),
            {"x": 7},
            session=session,
            scope=Scope("run", Bus(keep=0)),
            apart=apart,
            kept=Kept(kept),
        )
    assert all(count == 1 for count in calls.values())
    looked = Kept(kept)
    looked.start(healthy)
    finished = {step.name for step in healthy.steps if looked.load(step) is not None}
    done = execute(
        healthy, plan(healthy, session), {"x": 7}, session=session, scope=Scope("run", Bus(keep=0)), apart=apart, kept=Kept(kept)
    )
    assert {name: done.by_step[name][name] for name in done.by_step} == {f"s{at}": value for at, value in expected(graph).items()}
    assert set(calls) == set(range(len(reads)))
    # A step that was in flight beside the one that failed was stopped, and may have been at its very end: it runs again.
    assert all(count == 1 or f"s{at}" not in finished for at, count in calls.items())
    assert all(count <= 2 for count in calls.values())


def test_many_runs_at_once_share_a_plan(pools):
    """A plan belongs to no run: rows of a map run it from many threads at the same time."""
    calls: Counter[int] = Counter()
    graph = ([set(), {0}, {0}, {1, 2}], ["ok"] * 4, [3, 1, 0, 2], ["sync", "async", "thread", "sync"])
    session, results = Session(pools=pools), {}
    spec = build(graph, calls)
    fixed = plan(spec, session)

    def row(number):
        time.sleep(random.random() / 100)
        done = execute(spec, fixed, {"x": number}, session=session, scope=Scope(f"run{number}", Bus(keep=0)))
        results[number] = done.outputs["s3"][1]

    threads = [threading.Thread(target=row, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: dict(value)["x"] for number, value in results.items()} == {number: number for number in range(12)}
