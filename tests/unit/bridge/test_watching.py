"""The metric that a study calls: what the optimizer asks reaches the user's, and what that says comes back."""

from __future__ import annotations

import dspy
import pytest

from dspex_nb.bridge.watched_metric import WatchedMetric
from dspex_nb.bridge.watching import StudyWatch
from dspex_nb.metrics import resolve_metric
from dspex_nb.scopes import Scope

EXAMPLE = dspy.Example(question="q", answer="a").with_inputs("question")
PREDICTION = dspy.Prediction(answer="a")


def watched(metric):
    return WatchedMetric(metric, StudyWatch(Scope("study"), [EXAMPLE], {}), [EXAMPLE])


@pytest.mark.parametrize("wrap", [lambda metric: metric, resolve_metric], ids=["function", "metric"])
def test_gepa_asks_about_a_predictor_and_gets_its_feedback(wrap):
    def judged(gold, pred, trace=None, pred_name=None, pred_trace=None):
        return dspy.Prediction(score=0.5, feedback=f"mend {pred_name}, {pred_trace}")

    metric = watched(wrap(judged))
    told = metric(EXAMPLE, PREDICTION, None, "ask", [1])
    assert (told.score, told.feedback) == (0.5, "mend ask, [1]")
    assert metric(EXAMPLE, PREDICTION) == 0.5


@pytest.mark.parametrize(
    "metric",
    [lambda e, p: 1, lambda e, p, trace: trace is None, lambda e, p, trace=None, frac=1.0: frac, lambda *given: len(given) < 4],
)
def test_a_metric_is_given_what_it_takes(metric):
    assert watched(metric)(EXAMPLE, PREDICTION, None, "ask", [1]) == 1
    assert watched(metric)(EXAMPLE, PREDICTION) == 1
