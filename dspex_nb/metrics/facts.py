"""What a prediction took: seconds, dollars, tokens. Lower is better, so none of them is what an optimizer should maximize."""

from __future__ import annotations

from typing import Any

from dspex_nb.errors import MetricError


def latency(prediction: Any) -> float:
    """Return the seconds that making the prediction took.

    Range above 0; lower is better.
    Source: the wall clock, from the call to the prediction.

    Raises:
        MetricError: They were not measured, as for a `dspy.Prediction`.
    """
    seconds = getattr(prediction, "elapsed_s", None)
    if not seconds:
        raise MetricError("the seconds of this prediction were not measured", hint="look at latency_s, which has each row's")
    return float(seconds)


def cost(prediction: Any) -> float:
    """Return the US dollars paid for the prediction; 0 where the cache answered.

    Range 0 and more; lower is better.
    Source: the tokens that the provider reported, times its prices.

    Raises:
        MetricError: A price is unknown: a sum without it would be too low.
    """
    dollars = getattr(prediction, "cost", None)
    if not isinstance(dollars, int | float):
        raise MetricError(
            "the cost of this prediction is unknown: its model has no known price", hint="use tokens instead of cost"
        )
    return float(dollars)


def tokens(prediction: Any) -> float:
    """Return the tokens of all its prompts and answers.

    Range 0 and more; lower is better.
    Source: the usage that the provider reported.

    Raises:
        MetricError: None were counted, as for a `dspy.Prediction` made without `track_usage`.
    """
    usage = getattr(prediction, "usage", None)
    if usage is not None and hasattr(usage, "total_tokens"):
        return float(usage.total_tokens)
    by_model = prediction.get_lm_usage() if hasattr(prediction, "get_lm_usage") else None
    if not by_model:
        raise MetricError(
            "the tokens of this prediction were not counted", hint="in plain DSPy: dspy.configure(track_usage=True)"
        )
    return float(sum(each.get("total_tokens") or 0 for each in by_model.values()))
