"""Metrics as they are applied: to an example and a prediction, whatever form the user gave."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from dspex_nb.ambient import Session
from dspex_nb.errors import MetricError, did_you_mean
from dspex_nb.metrics.fields import field_pairs, score_by_field, total_by_field
from dspex_nb.metrics.intervals import Interval, bootstrap_interval, mean_interval
from dspex_nb.metrics.registry import BUILTIN, Builtin, Made
from dspex_nb.scopes import Scope

Score = Callable[..., Any]
_GEPAS = 5  # gold, pred, trace, pred_name, pred_trace


class Row(Protocol):
    """A scored example, as `runs.evaluation.ScoredRow` is one."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The example's inputs."""

    @property
    def labels(self) -> Mapping[str, Any]:
        """Its other fields."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The prediction's fields, none where the program failed."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Each metric's value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A named score of a prediction against its example, and of a set of them.

    Called as `metric(example, prediction, trace=None)`, so DSPy's optimizers take it as it is, GEPA's five arguments too.

    Attributes:
        score: Takes DSPy's five arguments, of which the last three may be None.
        lower_is_better: Its direction; optimizers maximize.
        total: What it is over a set, where that is no mean: takes the rows, gives a function of row numbers.
        bind: Makes `score` anew for a session and a run, where it asks a model.
    """

    name: str
    score: Score
    lower_is_better: bool = False
    total: Callable[[Sequence[Row]], Callable[[Any], float]] | None = None
    bind: Callable[[Session, Scope], Score] | None = None

    @property
    def __name__(self) -> str:
        """Its name, as functions have one: DSPy and the study's record show it."""
        return self.name

    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> Any:
        """Return the score as a float; where GEPA asks about one predictor, what the metric said, with its feedback.

        Raises:
            MetricError: The metric returned something that is no finite number.
        """
        value = self.score(example, prediction, trace, pred_name, pred_trace)
        number = self._number(value)
        return number if pred_name is None else value

    def raw(self, example: Any, prediction: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None) -> Any:
        """Return what the metric itself said: a number, or an object with `score` and `feedback`.

        Raises:
            MetricError: It holds no finite number.
        """
        value = self.score(example, prediction, trace, pred_name, pred_trace)
        self._number(value)
        return value

    def over(self, rows: Sequence[Row]) -> Interval:
        """Return the metric over a set, with its 95% interval: the mean of the rows' scores, or the value of them all at once.

        A row that failed counts as one without an answer.

        Raises:
            MetricError: A metric of the whole set finds no field to compare.
        """
        if self.total is None:
            return mean_interval([row.scores[self.name] for row in rows])
        return bootstrap_interval(len(rows), self.total(rows)) if rows else mean_interval([])

    def within(self, session: Session, scope: Scope) -> Metric:
        """Return the metric as it is to be called in a run: one that asks a model uses the session's, and stops with the run."""
        return self if self.bind is None else replace(self, score=self.bind(session, scope))

    def _number(self, value: Any) -> float:
        told = getattr(value, "score", value)  # dspy.Prediction(score=…, feedback=…), as GEPA's metrics return
        number = float(told) if hasattr(type(told), "__float__") else None
        if number is None or not math.isfinite(number):
            raise MetricError(
                f"metric {self.name!r} returned {type(value).__name__} {value!r:.60}, expected a number or a bool",
                hint="return e.g. float(example.answer == prediction.answer)",
            )
        return number


def resolve_metric(metric: Any) -> Metric:
    """Return a metric from a name (`"f1"`, `"exact_match:desk"`), a function, or a `Metric`.

    `"name:field"` scores one field; `"name"` alone scores each field the example labels and the prediction
    has, and takes their mean. `"name:context=answer"` scores the prediction's `context` against the example's `answer`.
    `"recall@5:…"` gives the metric its argument.
    A function is called as `metric(example, prediction, trace=None)` or with the first two.

    Raises:
        MetricError: An unknown name or something that cannot be called.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return _named(metric)
    if not callable(metric):
        raise MetricError(f"a {type(metric).__name__} is no metric", hint="pass a name or a function")
    label = getattr(metric, "__name__", type(metric).__name__)
    builtin = next((one for one in BUILTIN.values() if isinstance(one, Builtin) and one.function is metric), None)
    return _of_example(label, metric) if builtin is None else _of_builtin(label, builtin, "")


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


def _named(text: str) -> Metric:
    head, _, fields = text.partition(":")
    name, at, argument = head.partition("@")
    known = next((key for key in BUILTIN if key.partition("@")[:2] == (name, at)), None)
    if known is None:
        raise MetricError(
            f"no metric {head!r}; built in: {', '.join(BUILTIN)}",
            hint=f"{did_you_mean(head, BUILTIN)}or pass a function metric(example, prediction, trace=None)",
        )
    entry = BUILTIN[known]
    if isinstance(entry, Made):
        return replace(resolve_metric(entry.make(fields)), name=text)
    return _of_builtin(text, entry, fields, *(_argument(known, entry, argument) if at else ()))


def _argument(known: str, entry: Builtin, text: str) -> tuple[Any]:
    try:
        value = entry.argument(text) if entry.argument is not None else None
    except ValueError:
        value = None
    if value is None or not value > 0:
        example = known.replace("@k", "@5").replace("@tolerance", "@0.01")
        raise MetricError(f"{text!r} in {known.partition('@')[0]}@{text} is no number above 0", hint=f"write e.g. {example}")
    return (value,)


def _of_builtin(name: str, entry: Builtin, fields: str, *arguments: Any) -> Metric:
    if entry.of_prediction:
        return Metric(name, partial(_of_prediction, entry.function), entry.lower_is_better)
    compare = partial(_with, entry.compare or entry.function, arguments)
    pairs = field_pairs(fields)
    total = None if entry.of_rows is None else partial(total_by_field, entry.of_rows, pairs)
    return Metric(name, partial(_scored, compare, pairs), entry.lower_is_better, total)


# Module-level functions and `partial`: a metric crosses to a study's process.
def _of_prediction(function: Score, _example: Any, prediction: Any, *_: Any) -> Any:
    return function(prediction)


def _with(compare: Score, arguments: tuple[Any, ...], prediction: Any, reference: Any) -> Any:
    return compare(prediction, reference, *arguments)


def _scored(compare: Score, pairs: Sequence[tuple[str, str]], example: Any, prediction: Any, *_: Any) -> float:
    return score_by_field(compare, pairs, example, prediction)


def _of_example(name: str, function: Score) -> Metric:
    needed, accepted = _arity(function)
    return Metric(name, partial(_as_dspy_calls, function, needed, accepted))


def _as_dspy_calls(function: Score, needed: int, accepted: int, example: Any, prediction: Any, *rest: Any) -> Any:
    """Call a metric with as many arguments as it needs, and more where they say something and it takes them."""
    told = max((at + 1 for at, value in enumerate(rest) if value is not None), default=0)
    # A fourth parameter that is not GEPA's (`frac` of DSPy's answer_exact_match) is the metric's own.
    most = accepted - 2 if accepted >= _GEPAS else min(accepted - 2, 1)
    return function(example, prediction, *rest[: max(needed - 2, min(told, most), 0)])


def _arity(function: Score) -> tuple[int, int]:
    """Return how many positional arguments a function needs, and how many it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return 2, 2
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return 2, 3
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return sum(one.default is one.empty for one in positional), len(positional)
