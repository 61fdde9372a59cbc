"""Metrics: their values, and how they are applied to examples."""

import copy
import math

import pytest

from dspex_nb import metrics
from dspex_nb.errors import MetricError
from dspex_nb.examples import Example
from dspex_nb.metrics import Metric, contains, exact_match, f1, mean_interval, numeric_match, resolve_metric, resolve_metrics
from dspex_nb.predictions import Prediction


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("Paris", "paris", 1.0),
        ("the Paris!", "Paris", 1.0),
        ("London", "Paris", 0.0),
        (3, 3, 1.0),
        (3, 4, 0.0),
        ("3", 3, 1.0),
        (True, True, 1.0),
        ("b", ["a", "b"], 1.0),
        ("c", ["a", "b"], 0.0),
        (["a"], ["a"], 1.0),
        (["a"], ["b"], 0.0),
        ("", "", 1.0),
        (None, "x", 0.0),
    ],
)
def test_exact_match(prediction, reference, value):
    assert exact_match(prediction, reference) == value


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("the cat sat", "cat sat", 1.0),
        ("cat sat down", "cat stood up", 1 / 3),
        ("a a b", "a b b", 2 / 2),  # articles go: "b" against "b b"
        ("x", "y", 0.0),
        ("", "", 1.0),
        ("x", "", 0.0),
        ("x y", ["z", "x"], 2 / 3),
    ],
)
def test_f1(prediction, reference, value):
    got = f1(prediction, reference)
    assert got == pytest.approx(value if (prediction, reference) != ("a a b", "a b b") else 2 / 3)


def test_contains_and_numbers():
    assert contains("It is the Eiffel Tower.", "eiffel tower") == 1.0
    assert contains("tower", "eiffel") == 0.0
    assert numeric_match("about 1,234.5 in all", 1234.5) == 1.0
    assert numeric_match("first 3 then 4", "4") == 1.0
    assert numeric_match("none", 4) == 0.0
    assert numeric_match(2.0000001, 2) == 1.0
    assert numeric_match(-3, "-3") == 1.0


EXAMPLE = Example({"message": "m", "desk": "tech", "urgency": 3}, ["message"])
PREDICTION = Prediction({"desk": "tech", "urgency": 4})


def test_names_score_every_label_or_the_named_one():
    assert resolve_metric("exact_match")(EXAMPLE, PREDICTION) == 0.5
    assert resolve_metric("exact_match:desk")(EXAMPLE, PREDICTION) == 1.0
    assert resolve_metric("exact_match:urgency")(EXAMPLE, PREDICTION) == 0.0
    assert resolve_metric("exact_match:desk,urgency")(EXAMPLE, PREDICTION) == 0.5
    assert resolve_metric(exact_match)(EXAMPLE, PREDICTION) == 0.5


def test_dspys_examples_and_predictions_are_taken():
    import dspy

    example = dspy.Example(message="m", desk="tech").with_inputs("message")
    assert resolve_metric("exact_match")(example, dspy.Prediction(desk="tech")) == 1.0
    assert resolve_metric("exact_match:desk")(example, dspy.Prediction(desk="x")) == 0.0


@pytest.mark.parametrize(
    "function",
    [
        lambda example, prediction: example.desk == prediction.desk,
        lambda example, prediction, trace=None: 1,
        lambda example, prediction, trace: trace is None,
        lambda gold, pred, trace, pred_name, pred_trace: 1.0,
        lambda example, prediction, **more: True,
    ],
)
def test_functions_of_two_to_five(function):
    assert resolve_metric(function)(EXAMPLE, PREDICTION, None) == 1.0


def test_a_score_with_feedback_counts():
    import dspy

    assert resolve_metric(lambda e, p: dspy.Prediction(score=0.25, feedback="meh"))(EXAMPLE, PREDICTION) == 0.25


@pytest.mark.parametrize("value", ["good", None, [1], object()])
def test_no_number_is_refused(value):
    with pytest.raises(MetricError, match="expected a number"):
        resolve_metric(lambda e, p: value)(EXAMPLE, PREDICTION)


def test_what_cannot_be_a_metric():
    for given, told in (
        ("exct_match", "did you mean 'exact_match'"),
        (3, "int is no metric"),
        ([], "no metric is given"),
        (["f1", "f1"], "'f1' is given twice"),
    ):
        with pytest.raises(MetricError) as raised:
            resolve_metrics(given)
        assert told in str(raised.value)
    with pytest.raises(MetricError, match="did you mean 'desk'"):
        resolve_metric("f1:dsk")(EXAMPLE, PREDICTION)
    with pytest.raises(MetricError, match="no label is named like an answer"):
        resolve_metric("f1")(Example({"message": "m"}, ["message"]), PREDICTION)


def test_a_metric_has_a_name_and_is_kept():
    metric = resolve_metric("f1:desk")
    assert metric.name == metric.__name__ == "f1:desk"
    assert resolve_metric(metric) is metric
    assert Metric.__name__ == "Metric"
    assert [m.name for m in resolve_metrics(["f1", exact_match, "f1:desk"])] == ["f1", "exact_match", "f1:desk"]


def test_the_interval():
    empty, one, all_right, half = (mean_interval(values) for values in ([], [1.0], [1.0] * 100, [0.0, 1.0] * 50))
    assert empty.n == 0
    assert (one.mean, one.n) == (1.0, 1)
    assert one.low < 0.5
    assert all_right.mean == all_right.high == 1.0
    assert 0.95 < all_right.low < 1.0  # Wilson's: certain of nothing
    assert half.mean == 0.5
    assert half.low == pytest.approx(0.4038, abs=0.003)
    assert half.high == pytest.approx(0.5962, abs=0.003)
    spread = mean_interval([0.2, 0.4, 0.9])
    assert spread.low < spread.mean < spread.high
    assert math.isclose(spread.mean, 0.5)
    signed = mean_interval([-1.0, 1.0, 0.0, 0.0])
    assert signed.low < 0 < signed.high


def test_what_is_public():
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    assert copy.copy(EXAMPLE).labels() == {"desk": "tech", "urgency": 3}  # as pickle does it: examples cross processes
