"""`dx.Pipeline` and its `Run` as users call them."""

import asyncio
import threading
import time

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb.errors import Cancelled, DataError, DSPexError, MissingInputError, PlanError, StepError
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": f" m{i} "} for i in range(4)]


def tidy(message: str) -> str:
    if not message.strip():
        raise ValueError("the message is empty")
    return message.strip()


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(lambda request: '{"desk": "tech"}')
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def pipe(lm):
    return dx.Pipeline("support", text=dx.native(tidy), a=dx.predict("text -> desk"), inputs={"message": str})


def test_a_call(pipe):
    done = pipe(message=" x ")
    assert done.to_dict() == {"desk": "tech"}
    assert done.fields["text"] == "x"
    assert done.usage.calls == 1
    assert pipe.required == ["message"]


def test_defaults_and_unknown_inputs(lm):
    pipe = dx.Pipeline("p", a=dx.native(lambda x, k: [x, k]), inputs={"x": str, "k": (int, 5)})
    assert pipe(x="v").a == ["v", 5]
    assert pipe(x="v", k=1).a == ["v", 1]
    with pytest.raises(MissingInputError, match="takes no input 'kk'"):
        pipe(x="v", kk=1)


def test_a_default_is_the_same_for_each_run_whatever_a_step_does_to_it(lm):
    def grow(xs: list[int]) -> int:
        xs.append(1)
        return len(xs)

    pipe = dx.Pipeline("p", a=dx.native(grow), inputs={"xs": (list[int], [0]), "n": (int, 1)})
    assert [pipe().a, pipe().a, pipe.run().result(5).a, *pipe.map([{"n": 1}, {"n": 2}])["a"]] == [2] * 5


def test_async_and_inside_a_loop(pipe):
    async def cell():
        one, two = await asyncio.gather(pipe.acall(message="a"), pipe.acall(message="b"))
        return one.desk, two.desk, pipe(message="c").desk, (await pipe.run(message="d")).desk

    assert asyncio.run(cell()) == ("tech",) * 4


def test_a_run(pipe):
    seen = []
    run = pipe.run(message="x", on_progress=seen.append)
    assert run.result(5).desk == "tech"
    assert run.status == "done"
    assert run.outputs == {"desk": "tech"}
    assert set(run.timings) == {"text", "a"}
    assert run.usage.calls == 1
    assert run.cost == 0
    kinds = [event.kind for event in run.events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert kinds.count("step_ended") == 2
    assert seen == run.events


def test_events_by_async_for(pipe):
    async def watch():
        return [event.kind async for event in pipe.run(message="x")]

    kinds = asyncio.run(watch())
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert "lm_called" in kinds


def test_events_by_for(pipe):
    run = pipe.run(message="x")
    assert [event.kind for event in run] == [event.kind for event in run.events]
    assert run.status == "done"


def test_a_broken_on_progress_is_told_and_takes_nothing_with_it(pipe):
    def broken(event):
        raise ZeroDivisionError("of the user's")

    with pytest.warns(RuntimeWarning, match="on_progress= raised ZeroDivisionError: of the user's; it is not called again"):
        (run := pipe.run(message="x", on_progress=broken)).result(5)
    assert [run.events[0].kind, run.events[-1].kind] == ["run_started", "run_ended"]
    assert list(run.metrics["status"]) == ["done", "done"]
    with pytest.warns(RuntimeWarning, match="on_progress= raised"):
        assert pipe(message="x", on_progress=broken).desk == "tech"


@pytest.mark.parametrize("option", [{"retry": 1}, {"on_error": dx.native(lambda x: {"y": x}, "x -> y")}, {"on_error": "skip"}])
def test_a_run_counts_what_failed_attempts_took(fresh, option):
    said = iter(["no JSON", '{"y": "some"}'])
    lm = ScriptedLM(lambda request: next(said))
    pipe = dx.Pipeline("p", a=dx.predict("x -> y", **option))
    with dx.context(lm=lm, adapter="json", cache=None):
        run = pipe.run(x="x")
        found = run.result(5)
        asked = len(lm.requests)
        assert run.usage.calls == found.usage.calls == asked
        assert found.usage.total_tokens > 0
        assert run.metrics.tokens.sum() == run.usage.total_tokens
        said = iter(["no JSON", '{"y": "some"}'])
        called = pipe(x="x")
        assert called.usage == found.usage
        said = iter(["no JSON", '{"y": "some"}'])
        assert dx.evaluate(pipe, [{"x": "x", "y": "some"}], "exact_match:y", n_jobs=1).card.rows[0].usage == found.usage


def test_a_failed_run(pipe):
    run = pipe.run(message=" ")
    with pytest.raises(StepError) as raised:
        run.result(5)
    assert run.status == "failed"
    assert raised.value.step == "text"
    assert "the message is empty" in str(raised.value)
    assert isinstance(raised.value.cause, ValueError)
    assert run.events[-1].status == "failed"
    with pytest.raises(StepError):
        asyncio.run(run._wait())


def test_cancel(fresh):
    held = threading.Event()
    run = dx.Pipeline("p", a=dx.native(lambda x: held.wait(5)), b=dx.native(lambda a: a)).run(x=1)
    with pytest.raises(DSPexError, match=r"not done after 0.05 s"):
        run.result(0.05)
    started = time.perf_counter()
    run.cancel()
    with pytest.raises(Cancelled):
        run.result(3)
    assert time.perf_counter() - started < 1
    assert run.status == "cancelled"
    held.set()


def test_cancelling_the_task_cancels_the_run(fresh):
    held = threading.Event()
    pipe = dx.Pipeline("p", a=dx.native(lambda x: held.wait(5)))

    async def cell():
        task = asyncio.ensure_future(pipe.acall(x=1))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cell())
    held.set()
    deadline = time.monotonic() + 3
    while not (ended := [event for event in dx.session().bus.recent if event.kind == "run_ended"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ended[0].status == "cancelled"


def test_map_keeps_rows_errors_and_the_index(pipe):
    frame = pd.DataFrame([*ROWS, {"message": "  "}], index=list("abcde"))
    done = pipe.map(frame, n_jobs=2)
    assert list(done.index) == list("abcde")
    assert list(done.columns) == ["message", "desk", "error"]
    assert done["desk"].tolist()[:4] == ["tech"] * 4
    assert pd.isna(done["desk"]["e"])
    assert "the message is empty" in done["error"]["e"]
    assert done["error"][:4].isna().all()
    with pytest.raises(StepError):
        pipe.map(frame, on_error="raise")
    with pytest.raises(DataError):
        pipe.map(pd.DataFrame({"text": ["x"]}))
    with pytest.raises(DSPexError, match="did you mean 'keep'"):
        pipe.map(frame, on_error="kepe")


def test_map_ends_in_the_store(pipe):
    seen = []
    pipe.map(ROWS, on_progress=seen.append)
    dx.session().store.flush()
    (run,) = dx.session().store.runs()
    assert (run.of, run.name, run.status) == ("map", "support", "done")
    assert {event.run_id for event in seen} == {run.run_id}


def test_map_over_nothing(pipe):
    assert len(pipe.map([])) == 0


def test_the_plan(pipe, lm):
    plan = pipe.plan()
    assert [(route.step, route.engine) for route in plan.routes] == [("text", "python"), ("a", "native")]
    assert all(len(route.reason.split()) > 3 for route in plan.routes)
    assert lm.requests == []
    forced = dx.Pipeline("p", a=dx.predict("text -> desk", engine="dspy")).plan()
    assert forced.routes[0].engine == "dspy"


def test_plain_python_gives_the_same(pipe, tmp_path):
    path = pipe.save(tmp_path / "support.py")
    assert path.read_text() == pipe.to_python()
    again = dx.load(path, trust=True)
    assert again(message=" x ").to_dict() == pipe(message=" x ").to_dict()


def test_loading_needs_trust(pipe, tmp_path):
    path = tmp_path / "evil.py"
    path.write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="trust=True"):
        dx.load(path)
    with pytest.raises(DataError, match="no file"):
        dx.load(tmp_path / "nowhere.py")
    path.write_text("x = 1")
    with pytest.raises(DataError, match="holds no pipeline"):
        dx.load(path, trust=True)


def test_graphs_that_cannot_run():
    with pytest.raises(PlanError, match="'desk'"):
        dx.Pipeline("p", a=dx.predict("x -> desk"), b=dx.predict("x -> desk"))
    with pytest.raises(PlanError, match="no step"):
        dx.Pipeline("p")
    with pytest.raises(PlanError, match="'a' is a int"):
        dx.Pipeline("p", a=3)


def test_shown_as_text(pipe, shell):
    shell.user_ns["pipe"] = pipe
    shell.run("pipe")
    assert "support" in shell.displayed[0]["text/plain"]
    assert "<" in shell.displayed[0]["text/html"]
    assert repr(pipe) == "Pipeline('support', 2 steps)"


def test_a_column_named_like_an_answer_never_passes_for_one(fresh):
    dx.configure(lm=ScriptedLM(lambda request: "[[ ## topic ## ]]\nfood\n\n[[ ## completed ## ]]"))
    pipe = dx.Pipeline(
        "support",
        inputs={"text": str},
        sorting=dx.predict("text -> topic"),
        loud=dx.native(lambda topic: topic.upper()),
    )
    frame = pipe.map([{"text": "good soup", "topic": "BANANA"}], live=False)
    assert list(frame.columns) == ["text", "expected_topic", "topic", "loud", "error"]
    assert frame.iloc[0].to_dict() == {
        "text": "good soup", "expected_topic": "BANANA", "topic": "food", "loud": "FOOD", "error": None,
    }  # fmt: skip


def test_a_field_that_a_later_step_reads_can_be_scored(fresh):
    dx.configure(lm=ScriptedLM(lambda request: "[[ ## topic ## ]]\nfood\n\n[[ ## completed ## ]]"))
    pipe = dx.Pipeline(
        "support",
        inputs={"text": str},
        sorting=dx.predict("text -> topic"),
        loud=dx.native(lambda topic: topic.upper()),
    )
    found = dx.evaluate(pipe, [{"text": "a", "topic": "food"}, {"text": "b", "topic": "price"}], "exact_match:topic")
    assert found.score == 0.5
    assert list(found.frame["topic"]) == ["food", "food"]


def test_a_pipeline_without_an_lm_step_is_not_tuned(fresh):
    pipe = dx.Pipeline("support", inputs={"text": str}, loud=dx.native(lambda text: text.upper()))
    dx.configure(lm=ScriptedLM())
    with pytest.raises(dx.DSPexError, match="'support' has no step to tune"):
        dx.optimize(pipe, "LabeledFewShot", trainset=[{"text": "a", "loud": "b"}])
