"""Scoring rows, below the public call."""

import threading
import time

import pytest

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, MetricError
from dspex_nb.events import Bus, RowScored
from dspex_nb.examples import Example
from dspex_nb.messages import Usage
from dspex_nb.metrics import Metric, resolve_metric, resolve_metrics
from dspex_nb.predictions import Facts, Prediction
from dspex_nb.runs.evaluation import evaluate
from dspex_nb.scopes import Scope

EXAMPLES = [Example({"x": i, "y": i % 3}, ["x"]) for i in range(9)]


def mod3(inputs, scope):
    return Prediction({"y": inputs["x"] % 3}, Facts(usage=Usage(calls=1, prompt_tokens=2), cost=0.5))


def test_rows_in_order_with_their_facts():
    scope = Scope("r", Bus())
    card = evaluate(mod3, EXAMPLES, resolve_metrics("exact_match:y"), scope=scope, n_jobs=3)
    assert [row.index for row in card.rows] == list(range(9))
    assert [row.inputs for row in card.rows] == [{"x": i} for i in range(9)]
    assert card.rows[4].labels == {"y": 1}
    assert card.rows[4].outputs == {"y": 1}
    assert card.rows[4].cost == 0.5
    assert card.intervals["exact_match:y"].mean == 1.0
    assert card.usage.calls == 9
    assert card.run_id == "r"
    scored = [event for event in scope.bus.recent if isinstance(event, RowScored)]
    assert sorted(event.index for event in scored) == list(range(9))


def test_a_failed_row_scores_nothing_and_says_why():
    def sometimes(inputs, scope):
        if inputs["x"] == 2:
            raise ValueError("two")
        return mod3(inputs, scope)

    card = evaluate(sometimes, EXAMPLES, resolve_metrics(["exact_match:y", "f1:y"]), scope=Scope("r"), n_jobs=2)
    assert card.rows[2].error == "ValueError: two"
    assert card.rows[2].scores == {"exact_match:y": 0.0, "f1:y": 0.0}
    assert card.intervals["f1:y"].mean == pytest.approx(8 / 9)


def test_one_metric_may_fail_beside_another():
    def odd(example, prediction):
        if example.x % 2:
            raise KeyError("odd")
        return 1

    card = evaluate(mod3, EXAMPLES, resolve_metrics([odd, "exact_match:y"]), scope=Scope("r"), n_jobs=1)
    assert card.intervals["exact_match:y"].mean == 1.0
    assert card.intervals["odd"].mean == pytest.approx(5 / 9)
    assert "odd" in card.rows[1].error
    assert card.rows[0].error is None


def test_a_metric_that_always_fails_raises():
    with pytest.raises(MetricError, match="failed on all 9 predictions: ZeroDivisionError"):
        evaluate(mod3, EXAMPLES, [resolve_metric(lambda e, p: 1 / 0)], scope=Scope("r"), n_jobs=2)


def test_a_program_that_always_fails_raises_its_first_error():
    def broken(inputs, scope):
        raise ValueError(f"row {inputs['x']}")

    with pytest.raises(ValueError, match="row 0"):
        evaluate(broken, EXAMPLES, resolve_metrics("f1"), scope=Scope("r"), n_jobs=1)


def test_too_many_errors_stop_it():
    asked = []

    def broken(inputs, scope):
        asked.append(inputs["x"])
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        evaluate(broken, EXAMPLES, resolve_metrics("f1"), scope=Scope("r"), n_jobs=1, max_errors=2)
    assert asked == [0, 1, 2]


def test_a_time_limit_marks_what_was_not_begun():
    card = evaluate(
        lambda inputs, scope: time.sleep(0.04) or mod3(inputs, scope),
        EXAMPLES, resolve_metrics("exact_match:y"), scope=Scope("r"), n_jobs=1, deadline_s=0.1,
    )  # fmt: skip
    errors = [row.error for row in card.rows]
    assert errors[0] is None
    assert "deadline_s" in errors[-1]
    assert card.intervals["exact_match:y"].mean < 1


def test_cancelling_raises():
    scope, begun = Scope("r"), threading.Event()

    def slow(inputs, inner):
        begun.set()
        while True:
            inner.cancel.check()
            time.sleep(0.005)

    threading.Thread(target=lambda: begun.wait(3) and scope.cancel.cancel()).start()
    started = time.perf_counter()
    with pytest.raises(Cancelled):
        evaluate(slow, EXAMPLES, resolve_metrics("f1"), scope=scope, n_jobs=2)
    assert time.perf_counter() - started < 1


def test_a_metric_of_the_whole_set_is_taken_over_the_whole_set():
    def ones(inputs, scope):
        return Prediction({"y": 1}, Facts(fields={"guess": inputs["x"] % 3}))

    card = evaluate(ones, EXAMPLES, resolve_metrics(["accuracy:y", "macro_f1:y", "macro_f1:guess=y"]), scope=Scope("r"), n_jobs=1)
    assert card.intervals["accuracy:y"].mean == pytest.approx(1 / 3)
    assert card.intervals["macro_f1:y"].mean == pytest.approx(1 / 6)  # f1 of label 1 is 0.5, of the other two 0
    assert card.intervals["macro_f1:guess=y"].mean == 1.0
    assert card.intervals["macro_f1:y"].low < 1 / 6 < card.intervals["macro_f1:y"].high


def test_a_failed_row_is_not_the_best_where_lower_is_better():
    def half(inputs, scope):
        if inputs["x"] % 2:
            raise ValueError("no")
        return Prediction({"y": "abc"})

    examples = [Example({"x": i, "y": "abd"}, ["x"]) for i in range(4)]
    interval = evaluate(half, examples, resolve_metrics("edit_distance:y"), scope=Scope("r"), n_jobs=1).intervals[
        "edit_distance:y"
    ]
    one = resolve_metric("edit_distance:y")(examples[0], Prediction({"y": "abc"}))
    assert (interval.mean, interval.n) == (one, 2)


def test_a_judge_asks_the_sessions_model_within_the_run_and_its_stop_is_no_fault():
    session, scope = Session(), Scope("r", Bus())
    given = []

    def bind(*args):
        given.append(args)

        def score(*_):
            scope.cancel.cancel()
            scope.cancel.check()

        return score

    judge = Metric("judge", lambda *_: 0.0, bind=bind)
    with pytest.raises(Cancelled):
        evaluate(mod3, EXAMPLES, [judge], scope=scope, n_jobs=1, session=session)
    assert [(now, inner.run_id, inner.step) for now, inner in given] == [(session, "r", "metric judge")]
    assert [event for event in scope.bus.recent if isinstance(event, RowScored)] == []
