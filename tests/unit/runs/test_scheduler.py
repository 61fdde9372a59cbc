from __future__ import annotations

import asyncio
import threading
import time

import pytest

import dspex_nb as dx
from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.errors import (
    Cancelled,
    LMAuthError,
    LMNotConfiguredError,
    MissingInputError,
    PipelineError,
    StepError,
    TaskTimeoutError,
)
from dspex_nb.events import Bus, StepEnded, StepStarted
from dspex_nb.pipelines import read_cell
from dspex_nb.pools import Pools
from dspex_nb.routing import plan
from dspex_nb.runs.mapping import map_rows
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope
from dspex_nb.testing.scripted import ScriptedLM


def scope():
    return Scope("run", Bus(keep=1000))


def run(body, namespace, session=None, within=None, **inputs):
    session = session or Session()
    spec = read_cell("p", body, namespace)
    return execute(spec, plan(spec, session), inputs, session=session, scope=within or scope())


def add(a, b=1):
    return a + b


def fail(a):
    raise ValueError("no luck")


def nap(a):
    time.sleep(0.1)
    return a


def test_a_chain_gives_its_last_fields_and_keeps_the_inner_ones():
    done = run("x: int\ny = native(add, a=x)\nz = native(add, a=y, b=10)", {"add": add}, x=1)
    assert done.outputs == {"z": 12}
    assert done.fields == {"x": 1, "y": 2, "z": 12}
    assert done.prediction("run").fields["y"] == 2
    assert [done.step_results[name].status for name in ("y", "z")] == ["done", "done"]
    assert set(done.timings) == {"y", "z"}


def test_a_signature_names_several_fields():
    for value in ({"c": 1, "d": 2}, (1, 2)):
        done = run('x: int\ns = native(f, "x -> c: int, d: int")', {"f": lambda x, value=value: value}, x=1)
        assert done.outputs == {"c": 1, "d": 2}
    with pytest.raises(StepError, match="returned no 'd'") as caught:
        run('x: int\ns = native(f, "x -> c: int, d: int")', {"f": lambda x: {"c": 1}}, x=1)
    assert isinstance(caught.value.cause, PipelineError)


def test_inputs_are_checked_before_anything_runs():
    with pytest.raises(MissingInputError, match="missing input 'text'") as caught:
        run("text: str\ny = native(add, a=text)", {"add": add}, txt="a")
    assert "did you mean 'txt'" in caught.value.hint
    with pytest.raises(MissingInputError, match="no input 'z'"):
        run("x: int\ny = native(add, a=x)", {"add": add}, x=1, z=2)
    with pytest.raises(LMNotConfiguredError):
        run('q: str\nf = native(fail, a=q)\na = predict("q -> answer")', {"fail": fail}, q="hi")


def test_a_default_list_is_fresh_in_each_run():
    spec = read_cell("p", "xs: list[int] = []\ny = native(grow, xs=xs)", {"grow": lambda xs: (xs.append(1), list(xs))[1]})
    fixed = plan(spec, Session())
    for _ in range(2):
        assert execute(spec, fixed, {}, session=Session(), scope=scope()).outputs == {"y": [1]}


def test_a_failure_names_step_line_cause_and_next_act():
    within = scope()
    with pytest.raises(StepError) as caught:
        run("x: int\n\ny = native(fail, a=x)", {"fail": fail}, within=within, x=1)
    error = caught.value
    assert (error.step, error.line) == ("y", 3)
    assert "'y' (cell line 3): ValueError: no luck" in error.message
    assert "raise ValueError" in error.message
    assert "on_error" in error.hint
    assert isinstance(error.cause, ValueError)
    assert [e.status for e in within.bus.recent if isinstance(e, StepEnded)] == ["failed"]


def test_on_error_skip_leaves_none_and_skips_what_needs_it():
    done = run(
        'x: int\ny = native(fail, a=x, on_error="skip")\nz = native(add, a=y)\nw = native(add, a=x)',
        {"fail": fail, "add": add},
        x=1,
    )
    assert done.outputs == {"z": None, "w": 2}
    assert {name: one.status for name, one in done.step_results.items()} == {"y": "failed", "z": "skipped", "w": "done"}
    assert "no luck" in done.step_results["y"].error
    assert "'y' gave none" in done.step_results["z"].error


def test_a_step_that_gives_none_is_not_a_skipped_one():
    done = run("x: int\ny = native(f, a=x)\nz = native(g, a=y)", {"f": lambda a: None, "g": lambda a: [a]}, x=1)
    assert done.outputs == {"z": [None]}


def test_a_fallback_stands_in():
    done = run("x: int\ny = native(fail, a=x, on_error=native(add, a=x))\nz = native(add, a=y)", {"fail": fail, "add": add}, x=1)
    assert done.outputs == {"z": 3}
    assert done.step_results["y"].status == "failed"
    assert done.step_results["y.on_error"].status == "done"


def test_when_skips():
    body = "x: int\ny = native(add, a=x, when=lambda x: x > 5)\nz = native(add, a=y)"
    within = scope()
    skipped = run(body, {"add": add}, within=within, x=1)
    assert skipped.outputs == {"z": None}
    assert skipped.step_results["y"].status == "skipped"
    assert [e.status for e in within.bus.recent] == ["skipped", "skipped"]
    assert run(body, {"add": add}, x=6).outputs == {"z": 8}


def test_a_field_that_did_not_hold_is_named():
    done = run("x: int\nlow = native(add, a=x)\ny = native(add, a=x, when=low)", {"add": lambda a: a}, x=0)
    assert done.step_results["y"].error == "when=low did not hold"


def test_a_condition_on_what_a_skipped_step_left_out():
    body = (
        "x: int\nlow = native(add, a=x, when=x < 5)\nmore = native(add, a=x, when=low > 3)\n"
        "other = native(add, a=x, b=100, when=low is None)\nlast = native(add, a=more)"
    )
    assert run(body, {"add": add}, x=4).outputs == {"other": None, "last": add(add(4))}
    done = run(body, {"add": add}, x=7)
    assert done.outputs == {"other": add(7, 100), "last": None}
    assert done.step_results["more"].error == "its when= needs low, but step 'low' gave none"


def test_a_condition_that_fails_is_a_failure_of_its_step():
    with pytest.raises(StepError, match="its when= failed: ZeroDivisionError") as caught:
        run("x: int\ny = native(add, a=x, when=1 / x > 0)", {"add": add}, x=0)
    assert caught.value.hint.startswith("mend the condition")
    done = run('x: int\ny = native(add, a=x, when=1 / x > 0, on_error="skip")', {"add": add}, x=0)
    assert done.outputs == {"y": None}
    assert "ZeroDivisionError" in done.step_results["y"].error


BRANCHES = "x: int\nlow = native(add, a=x, when=x < 5)\nhigh = native(add, a=x, b=100, when=x >= 5)\n"


@pytest.mark.parametrize(("x", "expected"), [(1, "2/-"), (7, "-/107")])
def test_branches_are_joined_by_a_step_whose_parameters_have_defaults(x, expected):
    def join(low="-", high="-"):
        return f"{low}/{high}"

    assert run(f"{BRANCHES}z = native(join)", {"add": add, "join": join}, x=x).outputs == {"z": expected}
    needs_one = f"{BRANCHES}z = native(lambda low, high=0: low)"
    assert run(needs_one, {"add": add}, x=x).outputs["z"] == (2 if x == 1 else None)


def test_an_optional_input_of_a_signature_takes_its_default_where_a_branch_was_skipped():
    class Sign(dx.Signature):
        low: int = dx.InputField()
        high: int = dx.InputField(default=-3)
        answer: str = dx.OutputField()

    lm = ScriptedLM(lambda request: "[[ ## answer ## ]]\nfine\n\n[[ ## completed ## ]]")
    session = Session(lm=lm, adapter="chat")
    assert run(f"{BRANCHES}z = predict(Sign)", {"add": add, "Sign": Sign}, session, x=1).outputs["answer"] == "fine"
    assert "[[ ## high ## ]]\n-3" in lm.requests[0].messages[-1]["content"]
    assert run(f"{BRANCHES}z = predict(Sign)", {"add": add, "Sign": Sign}, session, x=7).outputs["answer"] is None


def test_a_failed_step_that_was_tried_again_says_so_and_is_not_told_to_try_again():
    with pytest.raises(StepError, match=r"no luck.*the last of 3 attempts") as caught:
        run("x: int\ny = native(fail, a=x, retry=2, backoff=0.001)", {"fail": fail}, x=1)
    assert "retry=" not in caught.value.hint
    with pytest.raises(StepError) as caught:
        run("x: int\ny = native(fail, a=x)", {"fail": fail}, x=1)
    assert "retry=1" in caught.value.hint


def test_over_maps_a_list_field():
    done = run("xs: list[int]\ny = native(add, a=xs, b=10, over=xs)", {"add": add}, xs=[1, 2, 3])
    assert done.outputs == {"y": [11, 12, 13]}
    assert run("xs: list[int]\ny = native(add, a=xs, over=xs)", {"add": add}, xs=[]).outputs == {"y": []}
    with pytest.raises(StepError, match="over=xs: expected a list, found str"):
        run("x: int\nxs = native(text, x=x)\ny = native(add, a=xs, over=xs)", {"add": add, "text": lambda x: "abc"}, x=1)


def test_retry_tries_again_and_counts():
    calls = []

    def flaky(a):
        calls.append(a)
        if len(calls) < 3:
            raise OSError("not yet")
        return a

    done = run("x: int\ny = native(flaky, a=x, retry=2)", {"flaky": flaky}, x=1)
    assert done.outputs == {"y": 1}
    assert done.step_results["y"].attempts == 3
    calls.clear()
    with pytest.raises(StepError, match="not yet"):
        run("x: int\ny = native(flaky, a=x, retry=1)", {"flaky": flaky}, x=1)
    assert len(calls) == 2


def test_a_time_limit_leaves_the_thread_behind():
    start = time.monotonic()
    with pytest.raises(StepError, match=r"not done after 0\.05 s") as caught:
        run("x: int\ny = native(nap, a=x, timeout_s=0.05)", {"nap": lambda a: time.sleep(0.5)}, x=1)
    assert isinstance(caught.value.cause, TaskTimeoutError)
    assert time.monotonic() - start < 0.3
    assert run("x: int\ny = native(add, a=x, timeout_s=5)", {"add": add}, x=1).outputs == {"y": 2}


def test_parallel_runs_at_once_and_gives_a_dict():
    start = time.monotonic()
    done = run("x: int\nboth = parallel(one=native(nap, a=x), two=native(nap, a=x))", {"nap": nap}, x=1)
    assert done.outputs == {"both": {"one": 1, "two": 1}}
    assert time.monotonic() - start < 0.19
    assert done.step_results["both.one"].status == "done"


def test_a_failing_child_fails_its_parent_unless_told_otherwise():
    names = {"fail": fail, "add": add}
    with pytest.raises(StepError, match=r"'both\.one'"):
        run("x: int\nboth = parallel(one=native(fail, a=x), two=native(add, a=x))", names, x=1)
    done = run('x: int\nboth = parallel(one=native(fail, a=x, on_error="skip"), two=native(add, a=x))', names, x=1)
    assert done.outputs == {"both": {"one": None, "two": 2}}


def test_a_pipeline_is_a_step_and_nesting_never_deadlocks():
    inner = read_cell("inner", "a: int\nb = native(nap, a=a)\nc = native(add, a=b)", {"nap": nap, "add": add})
    middle = read_cell("middle", "a: int\np = inner(a=a)", {"inner": inner})
    within = scope()
    children = ", ".join(f"s{i}=middle(a=x)" for i in range(12))
    done = run(f"x: int\nall = parallel({children})", {"middle": middle}, within=within, x=1)
    assert len(done.outputs["all"]) == 12
    assert done.step_results["all.s3/p/b"].status == "done"
    assert "all.s3/p/b" in {event.step for event in within.bus.recent}


def test_an_error_inside_names_the_cell_it_comes_from():
    inner = read_cell("inner", "a: int\nb = native(fail, a=a)", {"fail": fail})
    with pytest.raises(StepError, match=r"step 'p/b' \(cell line 2 of 'inner'\): ValueError"):
        run("x: int\n\n\np = inner(a=x)", {"inner": inner}, x=1)


def test_functions_run_in_named_pools():
    pools = Pools()
    pools.create("side", 1, "thread")
    pools.create("apart", 1, "loky")
    session = Session(pools=pools)
    try:
        done = run(
            'x: int\nt = native(where, a=x, pool="side")\nd = native(pid, a=x, pool="apart")',
            {"where": lambda a: threading.current_thread().name, "pid": lambda a: __import__("os").getpid()},
            session=session,
            x=1,
        )
        assert "side" in done.outputs["t"]
        assert done.outputs["d"] != __import__("os").getpid()
    finally:
        pools.close()


def test_async_functions_are_awaited_inside_a_running_loop():
    async def later(a):
        await asyncio.sleep(0)
        return a + 1

    async def main():
        return run("x: int\ny = native(later, a=x)", {"later": later}, x=1)

    assert asyncio.run(main()).outputs == {"y": 2}


def test_events_tell_each_step_once_in_order():
    within = scope()
    run("x: int\ny = native(add, a=x)\nz = native(add, a=y)", {"add": add}, within=within, x=1)
    assert [(type(e), e.step) for e in within.bus.recent] == [
        (StepStarted, "y"), (StepEnded, "y"), (StepStarted, "z"), (StepEnded, "z"),
    ]  # fmt: skip
    assert within.bus.recent[0].engine == "python"
    assert "Python function" in within.bus.recent[0].reason


def test_interrupt_becomes_cancelled_and_stops_the_scope():
    def interrupted(a):
        raise KeyboardInterrupt

    within = scope()
    with pytest.raises(Cancelled, match="stopped after 1 of 3 steps"):
        run(
            "x: int\ny = native(add, a=x)\nz = native(interrupted, a=y)\nw = native(add, a=z)",
            {"add": add, "interrupted": interrupted},
            within=within,
            x=1,
        )
    assert within.cancel.cancelled
    assert within.bus.recent[-1].status == "cancelled"


def test_cancel_from_another_thread_leaves_a_stuck_one_behind_and_says_so():
    release = threading.Event()
    within = scope()
    timer = threading.Timer(0.05, within.cancel.cancel)
    timer.start()
    start = time.monotonic()
    with pytest.raises(Cancelled, match=r"left behind.*stuck"):
        run(
            "x: int\nstuck = parallel(one=native(hang, a=x), two=native(hang, a=x))\nother = parallel(a=native(add, a=x), b=native(add, a=x))",
            {"hang": lambda a: release.wait(5), "add": add},
            within=within,
            x=1,
        )
    assert time.monotonic() - start < 1
    release.set()


def test_a_background_run_can_be_stopped_in_a_function_that_hangs():
    release = threading.Event()
    within = scope()
    spec = read_cell("p", "x: int\ny = native(hang, a=x)", {"hang": lambda a: release.wait(5)})
    threading.Timer(0.05, within.cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled, match=r"left behind.*y"):
        execute(spec, plan(spec, Session()), {"x": 1}, session=Session(), scope=within, apart=True)
    assert time.monotonic() - start < 1
    release.set()


def test_a_failure_stops_its_neighbours_but_not_the_scope():
    within = scope()
    release = threading.Event()
    with pytest.raises(StepError):
        run(
            "x: int\nslow = parallel(a=native(hang, a=x), b=native(hang, a=x))\nbad = native(fail, a=x)",
            {"hang": lambda a: release.wait(5), "fail": fail},
            within=within,
            x=1,
        )
    assert not within.cancel.cancelled
    assert [e.status for e in within.bus.recent if isinstance(e, StepEnded) and e.step == "slow"] == ["cancelled"]
    release.set()


def test_no_callback_stays_on_a_scope_that_lives_on():
    within = scope()
    for _ in range(3):
        run(
            "x: int\nfirst = parallel(a=native(add, a=x), b=native(add, a=x))\nsecond = parallel(a=native(add, a=x), b=native(add, a=x, timeout_s=5))",
            {"add": add},
            within=within,
            x=1,
        )
    assert not within.cancel._callbacks


# Steps that call a model


def answering(*answers, **options):
    return Session(
        lm=ScriptedLM(list(answers) if len(answers) != 1 or not callable(answers[0]) else answers[0], **options), adapter="json"
    )


def test_model_steps_give_fields_and_their_cost_is_summed():
    session = answering('{"desk": "tech"}', '{"reasoning": "so", "reply": "hello"}')
    within = scope()
    done = run(
        'message: str\na = predict("message -> desk")\nb = chain_of_thought("desk -> reply")',
        {},
        session=session,
        within=within,
        message="hi",
    )
    assert done.outputs == {"reply": "hello"}
    assert done.by_step["b"] == {"reply": "hello", "reasoning": "so"}
    assert "reasoning" not in done.fields
    assert done.usage.calls == 2
    assert done.step_results["a"].usage.calls == 1
    assert [event.step for event in within.bus.recent if event.kind == "lm_called"] == ["a", "b"]
    assert done.prediction("run").usage.calls == 2


def test_a_second_run_is_served_from_the_cache():
    session = Session(lm=ScriptedLM(['{"desk": "tech"}']), adapter="json", cache=Cache(directory=None))
    body = 'message: str\na = predict("message -> desk")'
    assert run(body, {}, session=session, message="hi").cached is None
    again = run(body, {}, session=session, message="hi")
    assert (again.cached, again.usage.calls, again.usage.cache_hits, again.outputs) == ("memory", 0, 1, {"desk": "tech"})


def test_a_retry_asks_a_new_question():
    session = Session(lm=ScriptedLM(["nonsense", '{"desk": "tech"}']), adapter="json", cache=Cache(directory=None))
    done = run('message: str\na = predict("message -> desk", retry=1)', {}, session=session, message="hi")
    assert done.outputs == {"desk": "tech"}
    assert [request.rollout for request in session.lm.requests] == [None, 1]


def test_an_error_that_will_not_pass_is_not_tried_again():
    session = answering(LMAuthError("bad key"), '{"desk": "tech"}')
    with pytest.raises(StepError, match="bad key"):
        run('message: str\na = predict("message -> desk", retry=3)', {}, session=session, message="hi")
    assert len(session.lm.requests) == 1


def test_independent_model_steps_run_at_once_but_not_in_rows_of_a_map():
    session = answering(lambda request: '{"a": "1", "b": "2"}', delay_s=0.1)
    body = 'm: str\nx = predict("m -> a")\ny = predict("m -> b")'
    start = time.monotonic()
    run(body, {}, session=session, m="hi")
    assert time.monotonic() - start < 0.19
    spec = read_cell("p", body, {})
    fixed = plan(spec, session)
    before = threading.active_count()
    most = []

    def call(row, inner):
        result = execute(spec, fixed, row, session=session, scope=inner).prediction()
        most.append(threading.active_count())
        return result

    results = map_rows(call, [{"m": str(n)} for n in range(4)], n_jobs=2, scope=scope())
    assert [dict(result.prediction) for result in results] == [{"a": "1", "b": "2"}] * 4
    assert max(most) <= before + 2


def test_parallel_goes_over_a_list():
    names = {"upper": lambda text: text.upper(), "size": lambda text: len(text), "double": lambda n: 2 * n}
    body = "texts: list[str]\nn: int\nviews = parallel(big=upper, size=size, twice=double, over=texts)"
    done = run(body, names, texts=["a", "bc"], n=4)
    assert done.outputs == {"views": [{"big": "A", "size": 1, "twice": 8}, {"big": "BC", "size": 2, "twice": 8}]}
    assert run(body, names, texts=[], n=4).outputs == {"views": []}
    within = "texts: list[str]\nviews = parallel(big=upper, more=parallel(size=size, big=upper), over=texts)"
    assert run(within, names, texts=["a"]).outputs == {"views": [{"big": "A", "more": {"size": 1, "big": "A"}}]}
    merged = 'texts: list[str]\nviews = parallel(upper, size=size, merge=lambda found: str(found["size"]), over=texts)'
    assert run(merged, names, texts=["a", "bc"]).outputs == {"views": ["1", "2"]}


def test_a_child_that_fails_leaves_nothing_in_what_parallel_gives_for_each_element():
    def broken(text):
        raise ValueError(text)

    names = {"upper": lambda text: text.upper(), "broken": broken}
    body = 'texts: list[str]\nviews = parallel(big=upper, none=native(broken, on_error="skip"), over=texts)'
    assert run(body, names, texts=["a", "b"]).outputs == {"views": [{"big": "A", "none": None}, {"big": "B", "none": None}]}


def test_parallel_gives_a_value_for_each_element_where_its_steps_fail():
    names = {"size": len, "invert": lambda text: 1 // len(text)}
    body = 'texts: list[str]\nviews = parallel(size=size, share=invert, obj=texts, text=texts, over=texts, on_error="skip")'
    assert run(body, names, texts=["a", ""]).outputs == {"views": [{"size": 1, "share": 1}, {"size": 0, "share": None}]}
    alone = 'texts: list[str]\nviews = parallel(share=native(invert, on_error="skip"), over=texts)'
    assert run(alone, names, texts=["", ""]).outputs == {"views": [{"share": None}, {"share": None}]}


def test_over_calls_the_model_for_a_few_elements_at_once():
    session = answering(lambda request: '{"short": "s"}', delay_s=0.05)
    start = time.monotonic()
    done = run('texts: list[str]\na = predict("text -> short", over=texts)', {}, session=session, texts=list("abcdef"))
    assert done.outputs == {"short": ["s"] * 6}
    assert done.usage.calls == 6
    assert time.monotonic() - start < 0.25


def test_cancel_closes_a_model_call():
    session = answering(lambda request: "{}", delay_s=5)
    within = scope()
    threading.Timer(0.05, within.cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled, match=r"stopped after 0 of 2 steps\n") as caught:
        run('m: str\nx = predict("m -> a")\ny = predict("m -> b")', {}, session=session, within=within, m="hi")
    assert time.monotonic() - start < 1
    assert "cache" in caught.value.hint


def test_a_failure_beside_a_model_call_closes_it():
    session = answering(lambda request: "{}", delay_s=5)
    start = time.monotonic()
    with pytest.raises(StepError, match="no luck"):
        run('m: str\nx = predict("m -> a")\ny = native(fail, a=m)', {"fail": fail}, session=session, m="hi")
    assert time.monotonic() - start < 1


def test_a_dspy_module_is_a_step():
    import dspy

    class Shout(dspy.Module):
        def __init__(self):
            super().__init__()
            self.say = dspy.Predict("message -> word")

        def forward(self, message):
            return dspy.Prediction(loud=self.say(message=message).word.upper())

    session = answering('{"word": "hi"}')
    done = run("message: str\ns = module(shout)", {"shout": Shout()}, session=session, message="m")
    assert done.outputs == {"s": "HI"}
    assert done.usage.calls == 1
    assert done.step_results["s"].route.engine == "dspy"
    session = answering('{"desk": "tech"}')
    assert run('message: str\na = predict("message -> desk", engine="dspy")', {}, session=session, message="m").outputs == {
        "desk": "tech"
    }


def test_a_template_is_filled():
    assert run('name: str\nt = template("Dear {{ name }}")', {}, name="Ada").outputs == {"t": "Dear Ada"}
