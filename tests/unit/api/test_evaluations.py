"""`dx.evaluate`: scores, intervals, the frame, comparison, files and figures."""

import json
import warnings

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb.errors import DataError, LMServerError, MissingDependencyError, StepError
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": f"message {i}", "desk": "tech" if i % 2 else "billing"} for i in range(10)]


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(lambda request: '{"desk": "billing"}')
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def predict(lm):
    return dx.Predict("message -> desk: Literal['billing', 'tech']")


def test_score_interval_and_frame(predict):
    evaluation = dx.evaluate(predict, ROWS, ["exact_match:desk", "f1"])
    assert evaluation.score == evaluation.scores["f1"] == 0.5
    assert evaluation.metric == "exact_match:desk"
    low, high = evaluation.interval.low, evaluation.interval.high
    assert 0.2 < low < 0.5 < high < 0.8
    frame = evaluation.frame
    assert list(frame.columns) == [
        "message", "expected_desk", "desk", "exact_match:desk", "f1", "latency_s", "cost", "cached", "error",
    ]  # fmt: skip
    assert list(frame["message"]) == [row["message"] for row in ROWS]
    assert list(frame["expected_desk"]) == [row["desk"] for row in ROWS]
    assert frame["desk"].eq("billing").all()
    assert frame["error"].isna().all()
    assert len(evaluation.failures()) == 5
    assert "0.500" in repr(evaluation)


def test_a_second_evaluation_is_served_from_the_cache(predict, lm):
    dx.evaluate(predict, ROWS)
    again = dx.evaluate(predict, ROWS)
    assert len(lm.requests) == 10
    assert again.frame["cached"].eq("memory").all()
    assert again.info().cache_hits == 10


def test_programs_of_every_kind(predict):
    import dspy

    class Own(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("message -> desk")

        def forward(self, message):
            return self.ask(message=message)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for program in (
            predict,
            dx.Pipeline("p", a=dx.predict("message -> desk")),
            lambda message: {"desk": "billing"},
            lambda **row: dx.Prediction({"desk": "billing"}),
            dspy.Predict("message -> desk"),
            Own(),
        ):
            data = [dx.Example(row).with_inputs("message") for row in ROWS]
            assert dx.evaluate(program, data, "exact_match:desk").score == 0.5


def test_functions_and_modules_say_what_they_take(predict):
    import dspy

    for program in (lambda message: {"desk": "billing"}, dspy.Predict("message -> desk")):
        assert dx.evaluate(program, ROWS).score == 0.5  # the label is no input
        with pytest.raises(DataError, match="no column 'message'"):
            dx.evaluate(program, [{"text": "x", "desk": "tech"}])


def test_compare(predict, lm):
    before = dx.evaluate(predict, ROWS)
    dx.session().cache.clear()
    lm._wire._answer = lambda request: (
        '{"desk": "tech"}' if any(f" {n}" in request.messages[-1]["content"] for n in (1, 3, 5, 2)) else '{"desk": "billing"}'
    )
    after = dx.evaluate(predict, ROWS)
    change = after.compare(before)
    assert change.difference.mean == pytest.approx(0.2)
    assert change.difference.low < 0.2 < change.difference.high
    assert list(change.frame["change"]) == [-1, 1, 1, 1]
    assert (change.info().fixed, change.info().broken) == (3, 1)
    assert "0.5" in repr(change)
    with pytest.raises(DataError, match="no example in common"):
        after.compare(dx.evaluate(predict, [{"message": "another", "desk": "tech"}]))
    assert after.compare(after).info().interval is None


def test_metrics_of_which_less_is_better(fresh):
    rows = [{"text": text, "said": "abcd"} for text in ("abcd", "abce", "abef", "boom")]

    def echo(text):
        if text == "boom":
            raise ValueError("boom")
        return {"said": text}

    before = dx.evaluate(echo, rows, "edit_distance:said")
    assert list(before.failures()["text"]) == ["abce", "abef", "boom"]
    assert [example.correct for example in before.info().examples] == [None] * 4
    change = dx.evaluate(lambda text: {"said": "abcd"}, rows, "edit_distance:said").compare(before)
    assert change.difference.n == 3
    assert change.difference.mean < 0
    assert change.info().fixed is None
    worse = before.compare(dx.evaluate(lambda text: {"said": "abcd"}, rows, "edit_distance:said"))
    assert worse.info().lower_is_better
    assert worse.info().verdict in ("worse", "unclear")
    assert list(worse.frame["text"]) == ["abef", "abce"]


def test_two_values_of_whole_sets_are_compared_as_such(fresh):
    rows = [{"text": str(at), "label": "ab"[at % 4 == 0]} for at in range(40)]
    before = dx.evaluate(lambda text: {"label": "a"}, rows, "macro_f1:label")
    after = dx.evaluate(lambda text: {"label": "ab"[int(text) % 4 == 0]}, rows, "macro_f1:label")
    change = after.compare(before)
    assert change.difference.mean == pytest.approx(after.score - before.score)
    assert change.info().verdict == "better"


def test_files(predict, tmp_path):
    evaluation = dx.evaluate(predict, ROWS)
    assert list(pd.read_csv(evaluation.save(tmp_path / "e.csv"))["message"]) == [row["message"] for row in ROWS]
    lines = evaluation.save(tmp_path / "e.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["expected_desk"] == "tech"
    assert len(lines) == 10
    with pytest.raises(DataError, match=r"\.csv, \.jsonl, \.parquet or \.html"):
        evaluation.save(tmp_path / "e.xlsx")


def test_parquet_of_values_of_every_kind(fresh, tmp_path):
    pytest.importorskip("pyarrow")
    answers = [{"a": [1, "x"], "b": ["p", "q"], "c": {"k": 1}, "d": 1.5}, {"a": None, "b": [], "c": (1, 2), "d": 2.0}]
    evaluation = dx.evaluate(lambda at: answers[at], [{"at": 0, "d": 1.5}, {"at": 1, "d": 1.5}], "exact_match:d")
    frame = pd.read_parquet(evaluation.save(tmp_path / "e.parquet"))
    assert (frame["a"][0], frame["a"].isna().tolist()) == ('[1, "x"]', [False, True])
    assert list(frame["b"][0]) == ["p", "q"]
    assert list(frame["c"]) == ['{"k": 1}', "[1, 2]"]
    assert list(frame["d"]) == [1.5, 2.0]


def test_parquet_without_its_package(predict, tmp_path, monkeypatch):
    found = __import__("importlib").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "pyarrow" else found(name, *rest))
    with pytest.raises(MissingDependencyError, match="pip install pyarrow"):
        dx.evaluate(predict, ROWS).save(tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()


def test_the_figure(predict):
    figure = dx.evaluate(predict, ROWS).plot()
    assert len(figure.data) >= 2
    assert "billing" in figure.to_json()
    free = [{"message": f"m{i}", "desk": f"long answer {i}"} for i in range(30)]
    with pytest.raises(DataError, match="label"):
        dx.evaluate(dx.Predict("message -> desk"), free).plot()


def test_errors_are_kept_per_row(predict, lm):
    def sometimes(request):
        if "message 3" in request.messages[-1]["content"]:
            return LMServerError("broken", hint="wait")
        return '{"desk": "billing"}'

    lm._wire._answer = sometimes
    evaluation = dx.evaluate(predict, ROWS)
    assert evaluation.frame["error"].notna().tolist() == [i == 3 for i in range(10)]
    assert "broken" in evaluation.frame["error"][3]
    assert evaluation.score == 0.5
    assert evaluation.info().errors == 1
    with pytest.raises(LMServerError):
        dx.evaluate(predict, ROWS, max_errors=0)


def test_a_program_that_always_fails_has_no_score(lm):
    def broken(message):
        raise RuntimeError("no luck")

    with pytest.raises(StepError, match="no luck"):
        dx.evaluate(dx.Pipeline("p", a=dx.native(broken)), ROWS)
    with pytest.raises(RuntimeError, match="no luck"):
        dx.evaluate(broken, ROWS)


def test_a_time_limit(lm):
    import time

    evaluation = dx.evaluate(lambda message: time.sleep(0.05) or {"desk": "billing"}, ROWS, n_jobs=1, deadline_s=0.12)
    late = evaluation.frame["error"].notna()
    assert not late[0]
    assert late[9]
    assert "deadline_s" in evaluation.frame["error"][9]


def test_no_rows(predict):
    with pytest.raises(DataError, match="no row"):
        dx.evaluate(predict, [])


def test_events_and_the_store(predict):
    seen = []
    dx.evaluate(predict, ROWS, on_progress=seen.append, name="first")
    assert sum(event.kind == "row_scored" for event in seen) == 10
    dx.session().store.flush()
    (run,) = dx.session().store.runs("evaluation")
    assert (run.name, run.status) == ("first", "done")


def test_shown_once_in_a_cell(predict, shell):
    shell.user_ns.update(p=predict, rows=ROWS, dx=dx)
    shell.run("dx.evaluate(p, rows)")
    assert len(shell.displayed) == 1
    assert "exact_match" in shell.displayed[0]["text/plain"]
    assert "failures" in shell.displayed[0]["text/html"].lower()
