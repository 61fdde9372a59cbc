"""`dx.evaluate` stopped, killed, timed out and gone on with; each row's trace."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dspy
import numpy as np
import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb.errors import Cancelled, DataError, DSPexError, LMServerError, MetricError
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": f"message {i}", "desk": "tech" if i % 2 else "billing"} for i in range(8)]
JSON = '{"desk": "billing"}'


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(lambda request: JSON)
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def predict(lm):
    return dx.Predict("message -> desk: Literal['billing', 'tech']")


class TestTrace:
    def test_a_predictors_prompt_and_answer_are_those_that_were_sent(self, predict, lm):
        evaluation = dx.evaluate(predict, ROWS, "exact_match:desk")
        trace = evaluation.trace(3)
        (call,) = trace.calls
        assert list(call.messages) == [dict(m) for m in predict.messages(message="message 3")]
        assert call.answers == (JSON,)
        assert (call.model, call.cached, bool(call.key), call.error) == ("scripted/test", None, True, "")
        assert call.prompt_tokens > 0
        assert "message 3" in repr(trace)
        assert JSON in repr(trace)
        again = dx.evaluate(predict, ROWS, "exact_match:desk").trace(3)
        assert (again.calls[0].cached, again.calls[0].messages) == ("memory", call.messages)

    def test_an_answer_that_could_not_be_read_is_there(self, predict, lm):
        lm._wire._answer = lambda request: "no JSON" if "message 3" in request.messages[-1]["content"] else JSON
        trace = dx.evaluate(predict, ROWS, "exact_match:desk").trace(3)
        assert trace.calls[0].answers == ("no JSON",)
        assert "read" in repr(trace)
        assert "nothing" in repr(trace)
        assert trace.example.error

    def test_a_call_that_failed(self, predict, lm):
        lm._wire._answer = lambda request: (
            LMServerError("broken", hint="wait") if "message 3" in request.messages[-1]["content"] else JSON
        )
        (call,) = dx.evaluate(predict, ROWS, "exact_match:desk").trace(3).calls
        assert call.answers == ()
        assert "broken" in call.error

    def test_steps_of_a_pipeline_and_predictors_of_a_module(self, lm):
        pipe = dx.Pipeline("p", a=dx.predict("message -> mood"), b=dx.predict("mood -> desk"))
        lm._wire._answer = lambda request: '{"mood": "calm", "desk": "billing"}'
        assert [call.step for call in dx.evaluate(pipe, ROWS[:2], "exact_match:desk").trace(1).calls] == ["a", "b"]

        class Two(dspy.Module):
            def __init__(self):
                super().__init__()
                self.mood, self.desk = dspy.Predict("message -> mood"), dspy.Predict("mood -> desk")

            def forward(self, message):
                return self.desk(mood=self.mood(message=message).mood)

        calls = dx.evaluate(Two(), ROWS[:2], "exact_match:desk").trace(0).calls
        assert ["message 0" in call.messages[-1]["content"] for call in calls] == [True, False]

    def test_a_judges_calls_are_named_as_such(self, predict, lm):
        lm._wire._answer = lambda request: '{"desk": "billing", "reasoning": "r", "recall": 1.0, "precision": 1.0}'
        calls = dx.evaluate(predict, ROWS[:2], "semantic_f1:desk").trace(1).calls
        assert [call.step for call in calls] == ["", "metric semantic_f1:desk"]

    def test_a_function_says_why_there_are_none(self, predict):
        evaluation = dx.evaluate(lambda message: {"desk": predict(message=message).desk}, ROWS[:2], "exact_match:desk")
        assert evaluation.trace(0).calls == ()
        assert "run of its own" in repr(evaluation.trace(0))
        with pytest.raises(DataError, match="was not scored"):
            evaluation.trace(99)


class TestTimeLimit:
    def test_a_slow_row_is_given_up_and_the_others_are_not(self, fresh):
        asked = threading.Event()

        def program(message):
            if message == "message 3":
                asked.wait(20)
            return {"desk": "billing"}

        try:
            evaluation = dx.evaluate(program, ROWS, "exact_match:desk", timeout_s=0.2, n_jobs=2)
        finally:
            asked.set()
        assert evaluation.frame["error"].notna().tolist() == [i == 3 for i in range(8)]
        assert "not done after 0.2 s" in evaluation.frame["error"][3]
        assert 0.2 <= evaluation.frame["latency_s"][3] < 5

    def test_the_models_socket_is_closed(self, fresh, model_server):
        ended = threading.Event()

        def answer(body):
            if "message 3" in body["messages"][-1]["content"]:
                ended.wait(20)
            return "[[ ## desk ## ]]\nbilling\n\n[[ ## completed ## ]]"

        server = model_server(answer)
        dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="k", num_retries=0))
        try:
            evaluation = dx.evaluate(dx.Predict("message -> desk"), ROWS, "exact_match:desk", timeout_s="2s")
        finally:
            ended.set()
        assert evaluation.frame["error"].notna().tolist() == [i == 3 for i in range(8)]
        (call,) = evaluation.trace(3).calls
        assert call.error.startswith("Cancelled")
        assert "message 3" in call.messages[-1]["content"]

    def test_a_metric_that_hangs(self, fresh):
        ended = threading.Event()

        def slow(example, prediction):
            return ended.wait(20) if example.message == "message 3" else 1

        try:
            evaluation = dx.evaluate(lambda message: {"desk": "x"}, ROWS, slow, timeout_s=0.2)
        finally:
            ended.set()
        assert "the metric was not done" in evaluation.frame["error"][3]

    @pytest.mark.parametrize("limit", [0, -1, "soon", True])
    def test_what_is_no_time(self, predict, limit):
        with pytest.raises(DSPexError, match="timeout_s"):
            dx.evaluate(predict, ROWS, timeout_s=limit)


@pytest.fixture
def stopped(predict, lm):
    """An evaluation that was stopped after some rows; gives its id and how many requests it sent."""
    real = lm._wire._answer

    def stop(request):
        if "message 4" in request.messages[-1]["content"]:
            scopes[0].cancel.cancel()
        return real(request)

    scopes = []
    original = dx.api.evaluation_jobs.Scope
    lm._wire._answer = stop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dspex_nb.api.evaluation_jobs.Scope", lambda *args: scopes.append(original(*args)) or scopes[0])
        with pytest.raises(Cancelled) as raised:
            dx.evaluate(predict, ROWS, "exact_match:desk", n_jobs=1, name="triage")
    lm._wire._answer = real
    return raised.value, scopes[0].run_id


class TestGoingOn:
    def test_stopping_keeps_rows_and_says_where(self, stopped, predict, lm):
        error, run_id = stopped
        kept = dx.load_evaluation(run_id)
        rows = len(kept.frame)
        assert rows in (4, 5)  # the row under way may end within the half second that it has
        assert f"{rows} of 8 rows are scored and kept" in error.message
        assert run_id in error.hint
        assert (kept.status, kept.left) == ("cancelled", 8 - rows)
        assert "stopped early" in kept.info().note
        sent = len(lm.requests)
        done = kept.resume(predict)
        assert (done.status, done.left, done.id) == ("done", 0, run_id)
        assert len(lm.requests) - sent == 3  # the answer under way was in the cache
        assert list(done.frame["message"]) == [row["message"] for row in ROWS]
        assert done.score == 0.5
        assert done.trace(0).calls[0].answers == (JSON,)
        assert dx.load_evaluation().status == "done"

    def test_the_same_call_goes_on(self, stopped, predict):
        again = dx.evaluate(predict, ROWS, "exact_match:desk", name="triage", resume=True)
        assert again.id == stopped[1]
        fresh_one = dx.evaluate(predict, ROWS, "exact_match:desk", name="triage", resume=True)
        assert fresh_one.id != stopped[1]  # that one is done now

    def test_what_would_not_mix_is_refused(self, stopped, predict, lm):
        _, run_id = stopped
        with pytest.raises(DSPexError, match="was by exact_match:desk, not by f1"):
            dx.evaluate(predict, ROWS, "f1", name="triage", resume=run_id)
        with pytest.raises(DataError, match="data is not that of"):
            dx.evaluate(predict, ROWS[:5], "exact_match:desk", name="triage", resume=run_id)
        with pytest.raises(DSPexError, match="program, a metric or the model is not what"):
            dx.evaluate(dx.Predict("message -> desk"), ROWS, "exact_match:desk", name="triage", resume=run_id)
        with pytest.raises(DSPexError, match="no evaluation 'abcdef123456'"):
            dx.evaluate(predict, ROWS, "exact_match:desk", resume="abcdef123456")
        with pytest.raises(DSPexError, match="no program 'triage' is defined here"):
            dx.load_evaluation(run_id).resume()
        with pytest.raises(DSPexError, match="did you mean 'timeout_s'"):
            dx.load_evaluation(run_id).resume(predict, timout_s=3)
        assert dx.evaluate(predict, ROWS[:5], "exact_match:desk", name="triage", resume=True).id != run_id
        for wrong in ("../../etc", "nothing", ""):
            if wrong:
                with pytest.raises(DSPexError, match="is kept"):
                    dx.load_evaluation(wrong)

    def test_failed_rows_are_run_again(self, predict, lm):
        lm._wire._answer = lambda request: "no" if "message 3" in request.messages[-1]["content"] else JSON
        first = dx.evaluate(predict, ROWS, "exact_match:desk")
        assert first.info().errors == 1
        dx.session().cache.clear()
        lm._wire._answer = lambda request: JSON
        sent = len(lm.requests)
        assert first.resume().info().errors == 0
        assert len(lm.requests) == sent + 1

    def test_a_metric_that_is_a_function(self, predict, lm):
        def own(example, prediction, trace=None):
            return example.desk == prediction.desk

        first = dx.evaluate(predict, ROWS, own)
        loaded = dx.load_evaluation(first.id)
        assert loaded.score == first.score == 0.5
        with pytest.raises(MetricError, match="function of another kernel"):
            loaded.resume(predict)
        assert loaded.resume(predict, metrics=own).score == 0.5

    def test_values_that_a_file_does_not_give_back_must_be_given_again(self, fresh):
        rows = [{"pair": (1, 2), "total": 3}]
        evaluation = dx.evaluate(lambda pair: {"total": sum(pair)}, rows, "exact_match:total")
        with pytest.raises(DataError, match="does not give back"):
            dx.load_evaluation(evaluation.id).resume(lambda pair: {"total": sum(pair)})

    @pytest.mark.parametrize("made", [lambda value: np.full((64, 64, 3), value, np.uint8), lambda value: bytes([value]) * 12288])
    def test_rows_that_hold_arrays_or_files_are_kept(self, fresh, made):
        def bright(picture):
            return {"answer": "yes" if bytes(picture)[0] > 100 else "no"}

        rows = [{"picture": made(value), "answer": "yes"} for value in (200, 3)]
        for data in (rows, pd.DataFrame(rows)):
            evaluation = dx.evaluate(bright, data, "exact_match:answer")
            assert "not kept" not in evaluation.info().note
            loaded = dx.load_evaluation(evaluation.id)
            assert (loaded.score, [row["answer"] for row in loaded.frame.to_dict("records")]) == (0.5, ["yes", "no"])
            assert (fresh / "evaluations" / evaluation.id / "data.jsonl").stat().st_size < 1000
            with pytest.raises(DataError, match="does not give back"):
                loaded.resume(bright)
            with pytest.raises(DataError, match="is not that of evaluation"):
                loaded.resume(bright, [{**row, "picture": made(7)} for row in rows])
            assert loaded.resume(bright, rows).score == 0.5

    def test_a_set_score_after_loading(self, predict):
        first = dx.evaluate(predict, ROWS, "macro_f1:desk")
        loaded = dx.load_evaluation(first.id)
        assert (loaded.interval, loaded.info().labels) == (first.interval, first.info().labels)

    def test_a_disk_that_refuses_ends_nothing(self, predict, fresh):
        (fresh / "evaluations").parent.mkdir(parents=True, exist_ok=True)
        (fresh / "evaluations").write_text("a file in the folder's place")
        evaluation = dx.evaluate(predict, ROWS, "exact_match:desk")
        assert evaluation.score == 0.5
        assert "not kept on disk" in evaluation.info().note


CHILD = """
import sys, dspex_nb as dx
dx.configure(lm=dx.LM("openai/stub", api_base=sys.argv[1], api_key="k", num_retries=0), cache=False)
rows = [{"message": f"message {i}", "desk": "billing"} for i in range(40)]
dx.evaluate(dx.Predict("message -> desk"), rows, "exact_match:desk", n_jobs=2, name="killed")
"""


def test_a_killed_kernels_rows_are_not_run_again(fresh, model_server):
    asked = []

    def answer(body):
        asked.append(body["messages"][-1]["content"])
        time.sleep(0.02)
        return "[[ ## desk ## ]]\nbilling\n\n[[ ## completed ## ]]"

    server = model_server(answer)
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url], env={**os.environ, "DSPEX_HOME": str(fresh)})
    try:
        rows = lambda: list(Path(fresh).glob("evaluations/*/rows.jsonl"))  # noqa: E731
        end = time.monotonic() + 60
        while time.monotonic() < end and not (rows() and rows()[0].read_bytes().count(b'{"row"') >= 6):
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = len(asked)
    time.sleep(0.1)
    asked_by_child, done = set(asked), rows()[0].read_bytes().count(b'{"row"')
    assert 6 <= done < 40
    asked.clear()
    dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="k", num_retries=0), cache=False)
    kept = dx.load_evaluation()
    assert (kept.status, kept.name) == ("interrupted", "killed")
    assert len(kept.card.rows) == done
    whole = kept.resume(dx.Predict("message -> desk"))
    assert whole.score == 1.0
    assert len(whole.card.rows) == 40
    repeated = [one for one in asked if one in asked_by_child]
    assert len(repeated) <= 2  # only those in flight at the kill
    assert before - done <= 2


def test_a_line_that_a_kill_cut_off(predict, lm, fresh):
    first = dx.evaluate(predict, ROWS, "exact_match:desk")
    path = fresh / "evaluations" / first.id / "rows.jsonl"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) - 20])
    loaded = dx.load_evaluation(first.id)
    assert len(loaded.card.rows) == 7
    assert loaded.resume(predict).score == 0.5
    assert len(dx.load_evaluation(first.id).card.rows) == 8
    assert (path.stat().st_mode & 0o077, path.parent.stat().st_mode & 0o077) == (0, 0)
    assert path.read_text().count('"role": "system"') == 1  # what prompts share is written once


def test_a_dspy_metric_with_a_judge_inside_asks_the_sessions_model(predict, lm):
    judge = dspy.Predict("said, expected -> fine: bool")
    lm._wire._answer = lambda request: '{"desk": "billing", "fine": true}'

    def metric(example, pred, trace=None):
        return judge(said=pred.desk, expected=example.desk).fine

    evaluation = dx.evaluate(predict, ROWS, metric)
    assert evaluation.score == 1.0
    assert [call.step for call in evaluation.trace(0).calls] == ["", "metric metric"]


def test_inside_a_running_loop(predict):
    import asyncio

    async def cell():
        await asyncio.sleep(0)
        return dx.evaluate(predict, ROWS, "exact_match:desk").score

    assert asyncio.run(cell()) == 0.5
