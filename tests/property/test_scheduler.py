"""A run gives what a plain walk through the graph in data order gives, and starts each step at most once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_nb.ambient import Session
from dspex_nb.events import Bus
from dspex_nb.pipelines import FieldRef, InputSpec, PipelineSpec, Predicate, Step
from dspex_nb.routing import plan
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope


@st.composite
def graphs(draw):
    """Steps s0…sn; each reads the input and some earlier steps, may fail (skipped over) or be switched off."""
    size = draw(st.integers(1, 9))
    reads = [draw(st.sets(st.integers(0, max(0, at - 1)), max_size=3)) if at else set() for at in range(size)]
    fates = [draw(st.sampled_from(["ok", "ok", "ok", "fail", "off"])) for _ in range(size)]
    order = draw(st.permutations(range(size)))
    return reads, fates, order


def build(reads, fates, order, calls):
    def function(at):
        def body(**values):
            calls[at] += 1
            if fates[at] == "fail":
                raise RuntimeError(at)
            return (at, tuple(sorted(values.items())))

        return body

    def step(at):
        bindings = {"x": FieldRef("x", ""), **{f"s{one}": FieldRef(f"s{one}", f"s{one}") for one in sorted(reads[at])}}
        when = Predicate(lambda: False) if fates[at] == "off" else None
        return Step(
            f"s{at}", "function", callable=function(at), bindings=bindings, writes=(f"s{at}",), on_error="skip", when=when
        )

    return PipelineSpec("p", (InputSpec("x"),), tuple(step(at) for at in order))


def expected(reads, fates):
    values = {}
    for at in range(len(reads)):
        blocked = any(values[one] is None for one in reads[at])
        given_values = {"x": 7, **{f"s{one}": values[one] for one in reads[at]}}
        values[at] = None if blocked or fates[at] != "ok" else (at, tuple(sorted(given_values.items())))
    return values


@settings(max_examples=80, deadline=None)
@given(graphs(), st.booleans())
def test_same_as_a_plain_walk(graph, apart):
    reads, fates, order = graph
    calls = Counter()
    spec = build(reads, fates, order, calls)
    scope = Scope("run", Bus(keep=100))
    done = execute(spec, plan(spec, Session()), {"x": 7}, session=Session(), scope=scope, apart=apart)
    values = expected(reads, fates)
    assert {name: done.by_step[name][name] for name in done.by_step} == {f"s{at}": value for at, value in values.items()}
    assert all(count == 1 for count in calls.values())
    ran = {at for at in values if not any(values[one] is None for one in reads[at]) and fates[at] != "off"}
    assert set(calls) == ran
    statuses = {at: done.step_results[f"s{at}"].status for at in values}
    assert statuses == {at: "skipped" if at not in ran else "failed" if fates[at] == "fail" else "done" for at in values}
