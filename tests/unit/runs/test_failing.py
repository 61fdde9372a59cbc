"""Errors of steps: stop, skip, retry with backoff, fallback; and what an error says."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, DSPexError, LMRateLimitError, StepError
from dspex_nb.events import Bus, StepEnded
from dspex_nb.pipelines import read_cell
from dspex_nb.pipelines.records import Backoff
from dspex_nb.routing import plan
from dspex_nb.runs import performing
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.wording import explain, secrets_in
from dspex_nb.scopes import Scope
from dspex_nb.testing.scripted import ScriptedLM


def run(body, names, session=None, scope=None, **inputs):
    session = session or Session()
    spec = read_cell("p", body, names)
    return execute(spec, plan(spec, session), inputs, session=session, scope=scope or Scope("run", Bus(keep=1000)))


def fail(**values):
    raise ValueError("no luck")


def test_an_error_names_line_step_inputs_cause_and_next_act():
    scope = Scope("run", Bus(keep=10))
    with pytest.raises(StepError) as caught:
        run("x: int\ntext: str\n\ny = native(f, x=x, text=text)", {"f": fail}, scope=scope, x=1, text="a" * 500)
    message = caught.value.message
    assert "step 'y' (cell line 4): ValueError: no luck" in message
    assert "it was given x=1, text='aaa" in message
    assert len(message) < 400
    assert "on_error" in caught.value.hint
    assert isinstance(caught.value.cause, ValueError)


def test_secrets_are_in_no_error_and_no_event():
    secret = "sk-abcdefgh12345678"
    scope = Scope("run", Bus(keep=10))

    def leak(**values):
        raise ValueError(f"refused: api_key={secret}, Bearer {secret}")

    with pytest.raises(StepError) as caught:
        run(
            "url: str\npassword: str\nconfig: dict\ny = native(f, url=url, password=password, config=config)", {"f": leak},
            scope=scope, url=f"https://x?api_key={secret}", password="hunter2", config={"token": "tok-1", "keys": [secret]},
        )  # fmt: skip
    said = str(caught.value) + "".join(map(repr, scope.bus.recent))
    assert "***" in caught.value.message
    for hidden in (secret, "hunter2", "tok-1"):
        assert hidden not in said


def test_secrets_in_the_failing_line_and_in_addresses_are_in_no_error(tmp_path):
    written = tmp_path / "mine.py"
    written.write_text('def connect(x):\n    raise OSError("down"); key = "sk-abcdefgh12345678"\n')
    names: dict = {}
    exec(compile(written.read_text(), str(written), "exec"), names)  # noqa: S102 - our own line

    def unreachable(**values):
        raise OSError("no answer of postgresql://me:hunter2@db:5432/mine, {'password': 'tok-1'}")

    for body, inputs in [
        ("x: str\ny = native(f, x=x)", {"f": names["connect"], "x": "https://me:hunter2@host/?access_token=tok-1&q=2"}),
        ("x: str\ny = native(f, x=x)", {"f": unreachable, "x": ""}),
    ]:
        with pytest.raises(StepError) as caught:
            run(body, {"f": inputs["f"]}, x=inputs["x"])
        assert "***" in caught.value.message
        for hidden in ("sk-abcdefgh", "hunter2", "tok-1"):
            assert hidden not in caught.value.message


def test_an_error_points_at_no_line_of_ours():
    with pytest.raises(StepError, match="the list is empty") as caught:
        run("xs: list[int]\ny = reduce(f, over=xs)", {"f": lambda so_far, x: so_far + x}, xs=[])
    assert "initial=0" in caught.value.hint
    with pytest.raises(StepError, match="reduce goes through a list, found int"):
        run("xs: Any\ny = reduce(f, over=xs)", {"f": lambda so_far, x: so_far + x}, xs=3)
    with pytest.raises(StepError) as caught:  # raised deep inside our own code
        run("xs: Any\ny = rerank(xs, query='q')", {}, xs=3)
    assert "(in " not in caught.value.message


def test_an_error_of_a_worker_process_names_the_line_there_and_no_traceback():
    from dspex_nb.errors import DataError
    from dspex_nb.pools import Pools

    def deep(n):
        raise ValueError(f"no {n}") if n else DataError("nothing", hint="give more")

    pools = Pools()
    pools.create("apart", 1, "loky")
    body = 'n: int\ny = native(f, n=n, pool="apart")'
    try:
        with pytest.raises(
            StepError, match=r"ValueError: no 1 \(in deep, line \d+.*, in a worker process\); it was given"
        ) as caught:
            run(body, {"f": lambda n: deep(n)}, session=Session(pools=pools), n=1)
        with pytest.raises(StepError, match=r": nothing; it was given n=0") as planned:
            run(body, {"f": lambda n: deep(n)}, session=Session(pools=pools), n=0)
    finally:
        pools.close()
    assert "Traceback" not in caught.value.message + planned.value.message
    assert planned.value.hint == "give more"


def test_an_error_in_a_list_says_at_which_element():
    with pytest.raises(
        StepError, match=r"ZeroDivisionError.*; at element 2 of over=xs; the last of 2 attempts; it was given x=list of 3"
    ) as caught:
        run("xs: list[int]\ny = native(f, x=xs, over=xs, retry=1, backoff=0)", {"f": lambda x: 1 // x}, xs=[1, 2, 0])
    assert caught.value.message.count("at element") == 1


def invert(n):
    return 1 // n


def test_an_item_that_fails_is_none_and_its_error_is_kept():
    scope = Scope("run", Bus(keep=10))
    body = 'ns: list[int]\ny = native(f, n=ns, over=ns, on_error="skip")\nz = native(g, n=y, over=y)\nall = len(y)'
    done = run(body, {"f": invert, "g": lambda n: str(n)}, scope=scope, ns=[1, 0, 1])
    assert done.fields | {"ns": 0} == {"ns": 0, "y": [1, None, 1], "z": ["1", None, "1"], "all": 3}
    fate = done.step_results["y"]
    assert (fate.status, fate.error) == ("done", None)
    assert fate.note.startswith("1 of 3 items failed and is None: element 1: ZeroDivisionError")
    assert next(event.note for event in scope.bus.recent if isinstance(event, StepEnded) and event.step == "y") == fate.note
    assert "1 of 3 items left out" in done.step_results["z"].note


def test_a_step_fails_if_all_items_do():
    done = run('ns: list[int]\ny = native(f, n=ns, over=ns, on_error="skip")\nz = len(y)', {"f": invert}, ns=[0, 0])
    assert done.fields["y"] is None
    assert [fate.status for fate in done.step_results.values()] == ["failed", "skipped"]
    assert "at element 0 of over=ns, and every other failed too" in done.step_results["y"].error
    assert run('ns: list[int]\ny = native(f, n=ns, over=ns, on_error="skip")', {"f": invert}, ns=[]).outputs == {"y": []}


def test_each_item_is_tried_again_for_itself():
    asked: list[int] = []

    def moody(n):
        asked.append(n)
        return 1 // (n or asked.count(n) - 1)

    done = run("ns: list[int]\ny = native(f, n=ns, over=ns, retry=1, backoff=0)", {"f": moody}, ns=[1, 0, 2])
    assert done.outputs == {"y": [1, 1, 0]}
    assert asked == [1, 0, 0, 2]
    assert done.step_results["y"].attempts == 2


def test_a_model_is_not_asked_again_for_the_items_it_answered():
    def answer(request):
        asked.append("bad" if "bad" in request.messages[-1]["content"] else "good")
        return '{"size": 1}' if asked[-1] == "good" or asked.count("bad") > 1 else '{"size": "none"}'

    asked: list[str] = []
    session = Session(lm=ScriptedLM(answer), adapter="json")
    body = 'texts: list[str]\na = predict("text -> size: int", text=texts, over=texts, retry=2)'
    assert run(body, {}, session=session, texts=["good", "bad", "fine"]).outputs == {"size": [1, 1, 1]}
    assert sorted(asked) == ["bad", "bad", "good", "good"]


def test_a_time_limit_is_that_of_an_item():
    body = 'ns: list[float]\ny = native(f, secs=ns, over=ns, timeout_s=0.2, on_error="skip")'
    done = run(body, {"f": lambda secs: time.sleep(secs)}, ns=[0.0, 5.0, 0.0])
    assert "element 1: not done after 0.2 s" in done.step_results["y"].note


@pytest.mark.parametrize(
    ("fallback", "given"), [("lambda n: n - 1", [1, -1, -1]), ("lambda: 7", [1, 7, 7]), ("lambda other: other", [1, 5, 5])]
)
def test_a_fallback_gives_only_the_items_that_failed(fallback, given):
    body = f"ns: list[int]\nother: int = 5\ny = native(f, n=ns, over=ns, on_error=native({fallback}))"
    done = run(body, {"f": invert}, ns=[1, 0, 0])
    assert done.outputs == {"y": given}
    assert done.step_results["y"].note.startswith("2 of 3 items failed and come from the fallback: element 1: Zero")


def test_a_fallback_that_fails_for_an_item_runs_once():
    asked: list[int] = []

    def worse(n):
        asked.append(n)
        raise ValueError("worse")

    with pytest.raises(StepError, match=r"'y.on_error'.*worse"):
        run("ns: list[int]\ny = native(f, n=ns, over=ns, on_error=native(g))", {"f": invert, "g": worse}, ns=[1, 0])
    assert asked == [0]
    body = 'on_error("skip")\nns: list[int]\ny = native(f, n=ns, over=ns, on_error=native(g))'
    assert run(body, {"f": invert, "g": worse}, ns=[1, 0]).outputs == {"y": [1, None]}


def test_items_that_failed_are_not_taken_from_the_step_cache(tmp_path):
    from dspex_nb.cache import Cache
    from dspex_nb.runs.step_cache import StepCache

    asked: list[int] = []
    names = {"f": lambda n: asked.append(n) or 1 // n}
    session = Session(cache=Cache(directory=tmp_path / "lm"), steps=StepCache(tmp_path / "steps"))
    for _ in range(2):
        run('ns: list[int]\ny = native(f, n=ns, over=ns, on_error="skip", cache=True)', names, session=session, ns=[1, 0])
    assert session.steps.hits == 0


def test_a_prompt_shows_a_list_with_what_an_item_that_failed_left():
    def answer(request):  # by what is asked: the items may be asked in any order
        said = request.messages[-1]["content"]
        return '{"all": "fine"}' if "«" in said else "no" if "]]\ny" in said else '{"size": "a"}'

    session = Session(lm=ScriptedLM(answer), adapter="json")
    body = 'ds: list[str]\na = predict("d -> size", d=ds, over=ds, on_error="skip")\nb = predict("size -> all")'
    assert run(body, {}, session=session, ds=["x", "y"]).outputs == {"all": "fine"}
    assert "[1] «a»\n[2] «None»" in session.lm.requests[-1].messages[-1]["content"]


def test_an_error_on_a_thread_points_at_no_line_of_python_s_own():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="invalid") as caught:
        threads.submit(int, "x").result()
    assert "in test_an_error_on_a_thread" in explain(caught.value)[0]


def test_strange_inputs_never_break_the_message():
    import pandas as pd

    class Nasty:
        def __repr__(self):
            raise RuntimeError

        def __len__(self):
            raise RuntimeError

    looped: list = []
    looped.append(looped)
    with pytest.raises(StepError, match=r"a=Nasty, b=DataFrame of shape \(1000, 1\)"):
        run(
            "a: Nasty\nb: Nasty\ny = native(f, a=a, b=b)",
            {"f": fail, "Nasty": Nasty},
            a=Nasty(),
            b=pd.DataFrame({"x": range(1000)}),
        )
    with pytest.raises(StepError, match="a=list of 1"):
        run("a: list\ny = native(f, a=a)", {"f": fail}, a=looped)


def test_waits_grow_and_are_left_to_chance_within_bounds():
    plain = Backoff(wait_s=1, factor=2, max_s=5, jitter=0)
    assert [plain.longest_s(retry) for retry in range(4)] == [1, 2, 4, 5]
    assert plain.longest_s(5000) == 5
    spec = read_cell("p", "x: int\ny = native(f, x=x, retry=3, backoff=2)", {"f": fail})
    waits = [performing.wait_s(spec["y"], 1, ValueError()) for _ in range(200)]
    assert 2 <= min(waits) < 2.5
    assert 3.5 < max(waits) <= 4
    assert performing.wait_s(spec["y"], 0, LMRateLimitError("slow down", retry_after_s=60)) == 60


def test_a_retry_waits_and_a_stop_ends_the_wait():
    at = []

    def flaky(x):
        at.append(time.monotonic())
        if len(at) < 3:
            raise OSError("not yet")
        return x

    done = run('x: int\ny = native(f, x=x, retry=2, backoff={"wait_s": 0.05, "factor": 2, "jitter": 0})', {"f": flaky}, x=1)
    assert done.step_results["y"].attempts == 3
    assert 0.05 <= at[1] - at[0] < 0.5
    assert 0.1 <= at[2] - at[1] < 0.6
    scope = Scope("run", Bus(keep=10))
    threading.Timer(0.1, scope.cancel.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run("x: int\ny = native(f, x=x, retry=5, backoff=30)", {"f": fail}, scope=scope, x=1)
    assert time.monotonic() - start < 1


def test_an_answer_that_cannot_be_read_is_asked_for_again_at_once():
    session = Session(lm=ScriptedLM(["nonsense", '{"desk": "tech"}']), adapter="json")
    start = time.monotonic()
    assert run('m: str\na = predict("m -> desk", retry=1, backoff=30)', {}, session, m="hi").outputs == {"desk": "tech"}
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("backoff=-1", "expected a duration"),
        ('backoff={"wait": 1}', "no option 'wait'"),
        ('backoff={"jitter": 2}', "jitter from 0 to 1"),
    ],
)
def test_a_bad_backoff_is_refused_with_its_line(option, said):
    with pytest.raises(DSPexError, match=said):
        read_cell("p", f"x: int\ny = native(f, x=x, retry=1, {option})", {"f": fail})


def test_skip_retry_and_fallback_together():
    scope = Scope("run", Bus(keep=100))
    done = run(
        'x: int\na = native(f, x=x, retry=1, backoff=0, on_error="skip")\nb = native(f, x=x, on_error=native(g, x=x))\nc = native(g, x=b)',
        {"f": fail, "g": lambda x: x + 1}, scope=scope, x=1,
    )  # fmt: skip
    assert done.fields == {"x": 1, "a": None, "b": 2, "c": 3}
    ended = [(event.step, event.status) for event in scope.bus.recent if isinstance(event, StepEnded)]
    assert ended == [("a", "failed"), ("b", "failed"), ("b.on_error", "done"), ("c", "done")]


@pytest.mark.parametrize(("kind", "told"), [("async", "it was stopped"), ("plain", "its thread was abandoned")])
def test_a_time_limit_says_what_became_of_the_step(kind, told):
    ended = threading.Event()

    async def waits(x):
        await asyncio.sleep(30)

    with pytest.raises(StepError, match=told):
        run("x: int\ny = native(f, timeout_s=0.05)", {"f": waits if kind == "async" else lambda x: ended.wait(30)}, x=1)
    ended.set()


def test_a_function_inside_parallel_has_a_fallback():
    done = run(
        "x: int\ny = parallel(native(f, on_error=native(g)), spare=native(f, on_error=g))", {"f": fail, "g": lambda x: -x}, x=3
    )
    assert done.fields["y"] == {"fail": -3, "spare": -3}


def test_a_backoff_is_exported(fresh):
    import dspex_nb as dx

    pipe = dx.Pipeline("p", y=dx.native(len, obj=dx.field("x"), retry=2, backoff={"wait_s": "2s", "jitter": 0}))
    assert pipe.spec["y"].backoff == Backoff(wait_s=2, jitter=0)
    assert "'wait_s': 2.0" in pipe.to_python()


def test_secrets_are_found_by_their_names_also_in_a_dict_that_holds_itself():
    inner = {"api_key": "k-123", "shown": "x", 3: "y", "password": ""}
    inner["again"] = inner
    assert secrets_in({"settings": inner, "token": "tok-1", "tokens_used": "7"}) == ["tok-1", "k-123"]
