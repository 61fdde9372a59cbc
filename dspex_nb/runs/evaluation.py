"""Score a program on labelled examples: every row kept, with its scores, time, cost and error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, DSPexError, MetricError
from dspex_nb.events import RowScored
from dspex_nb.examples import Example
from dspex_nb.messages import Usage
from dspex_nb.metrics import Interval, Metric
from dspex_nb.predictions import Prediction
from dspex_nb.runs.mapping import map_rows
from dspex_nb.scopes import Scope

Call = Callable[[dict[str, Any], Scope], Prediction]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One example of an evaluation.

    Attributes:
        scores: Each metric's value; 0.0 for all where the program or the metric failed, with `error` saying why.
        inner: A pipeline's other fields, for a metric of the whole set that names one.
        cost: US dollars, None where a price is unknown.
        cached: The cache tier that served it, or None.
    """

    index: int
    inputs: Mapping[str, Any]
    labels: Mapping[str, Any]
    outputs: Mapping[str, Any]
    scores: Mapping[str, float]
    latency_s: float = 0.0
    cost: float | None = None
    cached: str | None = None
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    inner: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The outcome of an evaluation: its rows in the data's order, and each metric over all of them with a 95% interval.

    Attributes:
        metrics: As they were applied, in the order of `intervals`.
    """

    rows: tuple[ScoredRow, ...]
    intervals: Mapping[str, Interval]
    elapsed_s: float
    run_id: str
    metrics: tuple[Metric, ...] = ()

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all rows."""
        return sum((row.usage for row in self.rows), Usage())


def evaluate(
    call: Call,
    examples: Sequence[Example],
    metrics: Sequence[Metric],
    *,
    scope: Scope,
    n_jobs: int,
    timeout_s: float | None = None,
    max_errors: int | None = None,
    session: Session | None = None,
) -> Scorecard:
    """Run `call` on every example, score each, and return the scorecard.

    Args:
        call: The program: inputs and a scope to a prediction.
        examples: With their input keys set.
        metrics: The first one is the score.
        scope: Whose events and cancellation these are.
        n_jobs: Examples in flight.
        timeout_s: Seconds for the whole evaluation; rows not done by then are marked so.
        max_errors: Stop with the rows' first error once more rows than this failed; None keeps going.
        session: Whose model judges where a metric asks one; None leaves each metric as it was made.

    Raises:
        MetricError: A metric raised on every row it was asked about.
        DSPexError: The program failed on every row: its first error, since a score of 0 would be a lie.
        Cancelled: The user stopped it; calls already answered are in the cache.
    """
    started = time.perf_counter()
    deadline = None if timeout_s is None else started + timeout_s
    if session is not None:
        metrics = [metric.within(session, scope) for metric in metrics]
    scorer = _Scorer(call, metrics, deadline, max_errors)
    results = map_rows(
        lambda row, inner: scorer.score(row["index"], examples[row["index"]], inner),
        [{"index": index} for index in range(len(examples))],
        n_jobs=n_jobs,
        scope=scope,
        on_error="raise",
    )
    rows = tuple(result.prediction for result in results)
    scorer.check(rows)
    intervals = {metric.name: metric.over(measured(metric, rows)) for metric in metrics}
    return Scorecard(rows, intervals, time.perf_counter() - started, scope.run_id, tuple(metrics))


def measured(metric: Metric, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
    """Return the rows as `metric` is taken over them.

    Where lower is better the failed ones are left out: the 0 that stands for a failure would be the best score there is.
    """
    if metric.lower_is_better:
        return [row for row in rows if row.error is None]
    return [replace(row, outputs={**row.inner, **row.outputs}) if row.inner else row for row in rows]


class _Scorer:
    """Scores one row at a time, from any thread."""

    def __init__(self, call: Call, metrics: Sequence[Metric], deadline: float | None, max_errors: int | None) -> None:
        self.call, self.metrics, self.deadline, self.max_errors = call, metrics, deadline, max_errors
        self.failures: list[Exception] = []
        self.metric_faults: dict[str, list[Exception]] = {metric.name: [] for metric in metrics}

    def score(self, index: int, example: Example, scope: Scope) -> ScoredRow:
        """Return the row; only cancellation and too many errors raise."""
        started = time.perf_counter()
        inputs, labels = example.inputs(), example.labels()
        prediction, error = self._predict(inputs, scope)
        latency_s = time.perf_counter() - started
        if prediction is not None:
            # A labelled field of a pipeline counts as an answer also where a later step reads it.
            prediction = prediction.joined({name: prediction.fields[name] for name in labels if name in prediction.fields})
        scores, fault = self._measure(example, prediction)
        error = error or fault
        scope.publish(RowScored(run_id=scope.run_id, index=index, scores=dict(scores), error=error, elapsed_s=latency_s))
        if prediction is None:
            return ScoredRow(index, inputs, labels, {}, scores, latency_s, error=error)
        took = (latency_s, prediction.cost, prediction.cached, error, prediction.usage, prediction.fields)
        return ScoredRow(index, inputs, labels, dict(prediction), scores, *took)

    def _predict(self, inputs: dict[str, Any], scope: Scope) -> tuple[Prediction | None, str | None]:
        if self.deadline is not None and time.perf_counter() > self.deadline:
            return None, "not run: the evaluation's timeout_s had passed"
        try:
            return self.call(inputs, scope), None
        except Cancelled:
            raise
        except Exception as error:
            self.failures.append(error)
            if self.max_errors is not None and len(self.failures) > self.max_errors:
                raise
            return None, _said(error)

    def _measure(self, example: Example, prediction: Prediction | None) -> tuple[dict[str, float], str | None]:
        scores, fault = dict.fromkeys((metric.name for metric in self.metrics), 0.0), None
        for metric in self.metrics if prediction is not None else ():
            try:
                scores[metric.name] = metric(example, prediction)
            except Cancelled:  # in a judge: the run was stopped, the metric is not at fault
                raise
            except Exception as error:  # noqa: BLE001 - a user's metric may raise anything; the row says so
                self.metric_faults[metric.name].append(error)
                fault = f"metric {metric.name!r}: {_said(error)}"
        return scores, fault

    def check(self, rows: Sequence[ScoredRow]) -> None:
        """Raise if the program failed on every row, or a metric on every prediction: a mean of 0 would be a lie."""
        if self.failures and len(self.failures) == len(rows):
            raise self.failures[0]
        answered = sum(bool(row.outputs) for row in rows)
        for name, faults in self.metric_faults.items():
            if faults and len(faults) >= answered:
                first = faults[0]
                hint = getattr(first, "hint", "") or "mend the metric and run again: the answers are in the cache"
                raise MetricError(f"metric {name!r} failed on all {answered} predictions: {_said(first)}", hint=hint) from first


def _said(error: Exception) -> str:
    return error.message if isinstance(error, DSPexError) else f"{type(error).__name__}: {error}"
