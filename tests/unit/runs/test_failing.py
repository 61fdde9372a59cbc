"""Errors of steps: stop, skip, retry with backoff, fallback; and what an error says."""

from __future__ import annotations

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


def test_an_error_in_a_list_says_at_which_element():
    with pytest.raises(
        StepError, match=r"ZeroDivisionError.*; at element 2 of over=xs; the last of 2 attempts; it was given x=list of 3"
    ) as caught:
        run("xs: list[int]\ny = native(f, x=xs, over=xs, retry=1, backoff=0)", {"f": lambda x: 1 // x}, xs=[1, 2, 0])
    assert caught.value.message.count("at element") == 1


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


def test_a_backoff_is_exported(fresh):
    import dspex_nb as dx

    pipe = dx.Pipeline("p", y=dx.native(len, obj=dx.field("x"), retry=2, backoff={"wait_s": "2s", "jitter": 0}))
    assert pipe.spec["y"].backoff == Backoff(wait_s=2, jitter=0)
    assert "'wait_s': 2.0" in pipe.to_python()
