"""Metrics as they are applied: to an example and a prediction, whatever form the user gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import MetricError, did_you_mean
from dspex_nb.metrics.values import BUILTIN

Score = Callable[[Any, Any], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A named score of a prediction against its example.

    Called as `metric(example, prediction, trace=None)`, so DSPy's optimizers take it as it is.
    """

    name: str
    score: Score

    @property
    def __name__(self) -> str:
        """Its name, as functions have one: DSPy and the study's record show it."""
        return self.name

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG002 - DSPy's signature
        """Return the score as a float.

        Raises:
            MetricError: The metric returned something that is no number.
        """
        value: Any = self.score(example, prediction)  # a user's function may return anything
        if isinstance(value, bool | int | float):
            return float(value)
        score = getattr(value, "score", None)  # dspy.Prediction(score=…, feedback=…), as GEPA's metrics return
        if isinstance(score, bool | int | float):
            return float(score)
        raise MetricError(
            f"metric {self.name!r} returned {type(value).__name__} {value!r:.60}, expected a number or a bool",
            hint="return e.g. float(example.answer == prediction.answer)",
        )


def resolve_metric(metric: Any) -> Metric:
    """Return a metric from a name (`"f1"`, `"exact_match:desk"`), a function, or a `Metric`.

    `"name:field"` scores one field; `"name"` alone scores each field the example labels and the prediction
    has, and takes their mean. A function is called as `metric(example, prediction, trace=None)` or with the first two.

    Raises:
        MetricError: An unknown name or something that cannot be called.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        name, _, fields = metric.partition(":")
        if name not in BUILTIN:
            raise MetricError(
                f"no metric {name!r}; built in: {', '.join(BUILTIN)}",
                hint=f"{did_you_mean(name, BUILTIN)}or pass a function metric(example, prediction, trace=None)",
            )
        return Metric(metric, _by_field(BUILTIN[name], tuple(f.strip() for f in fields.split(",") if f.strip())))
    if not callable(metric):
        raise MetricError(f"a {type(metric).__name__} is no metric", hint="pass a name or a function")
    label = getattr(metric, "__name__", type(metric).__name__)
    if metric in BUILTIN.values():
        return Metric(label, _by_field(metric, ()))
    return Metric(label, _of_example(metric))


def resolve_metrics(metrics: Any) -> list[Metric]:
    """Return one metric or several as a list with distinct names.

    Raises:
        MetricError: None given, or one name used twice.
    """
    several = metrics if isinstance(metrics, Sequence) and not isinstance(metrics, str) else [metrics]
    resolved = [resolve_metric(metric) for metric in several]
    names = [metric.name for metric in resolved]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not resolved or twice:
        found = f"metric {twice!r} is given twice" if twice else "no metric is given"
        raise MetricError(found, hint="give each metric once, e.g. metrics=['exact_match:desk', 'f1']")
    return resolved


def _by_field(compare: Callable[[Any, Any], float], fields: tuple[str, ...]) -> Score:
    def score(example: Any, prediction: Any) -> float:
        wanted = fields or tuple(name for name in _labels(example) if name in prediction)
        if not wanted:
            labels = ", ".join(_labels(example)) or "none"
            raise MetricError(
                f"no label is named like an answer: labels {labels}; answers {', '.join(prediction)}",
                hint=f"rename the column, e.g. df.rename(columns={{'your_label': {next(iter(prediction), 'answer')!r}}})",
            )
        for name in wanted:
            for side, values in (("example", example), ("prediction", prediction)):
                if name not in values:
                    near = did_you_mean(name, list(values.keys()))
                    found = f"the {side} has no field {name!r}; it has {', '.join(values.keys())}"
                    raise MetricError(found, hint=near or "check the name")
        return sum(compare(prediction[name], example[name]) for name in wanted) / len(wanted)

    return score


def _labels(example: Any) -> Mapping[str, Any]:
    labels = example.labels()  # ours gives a dict, dspy.Example another Example; both have keys()
    return {name: labels[name] for name in labels.keys()}  # noqa: SIM118 - dspy.Example iterates differently


def _of_example(function: Callable[..., Any]) -> Score:
    try:
        parameters = inspect.signature(function).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = sum(p.default is p.empty for p in positional)
    except (TypeError, ValueError):  # a builtin without a signature
        needed = 2
    # GEPA's metrics take five; the optional ones are None in a plain evaluation.
    return lambda example, prediction: function(example, prediction, *([None] * max(0, needed - 2)))
