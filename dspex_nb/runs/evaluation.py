"""Score a program on labelled examples: every row kept, with its scores, time, cost, error and the calls it made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, DSPexError, MetricError, TaskTimeoutError
from dspex_nb.events import RowScored
from dspex_nb.examples import Example
from dspex_nb.messages import Usage
from dspex_nb.metrics import Interval, Metric
from dspex_nb.pools import crew
from dspex_nb.predictions import Prediction
from dspex_nb.runs.mapping import map_rows
from dspex_nb.runs.traces import Messages, TracedCall, Tracer
from dspex_nb.scopes import CancelToken, Scope

Call = Callable[[dict[str, Any], Scope], Prediction]
_ENDS_S = 0.2


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One example of an evaluation.

    Attributes:
        scores: Each metric's value; 0.0 for all where the program or the metric failed, with `error` saying why.
        inner: A pipeline's other fields, for a metric of the whole set that names one.
        cost: US dollars, None where a price is unknown.
        cached: The cache tier that served it, or None.
        calls: Its LM calls, those of judges too, in the order they ended.
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
    calls: tuple[TracedCall, ...] = ()


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
    deadline_s: float | None = None,
    max_errors: int | None = None,
    session: Session | None = None,
    done: Iterable[ScoredRow] = (),
    on_row: Callable[[ScoredRow], None] = lambda _: None,
) -> Scorecard:
    """Run `call` on every example, score each, and return the scorecard.

    Args:
        call: The program: inputs and a scope to a prediction.
        examples: With their input keys set.
        metrics: The first one is the score.
        scope: Whose events and cancellation these are.
        n_jobs: Examples in flight.
        timeout_s: Seconds for one example, waiting for the model's limits included; then its calls are broken off and it counts
            as failed. Its metrics have the same time again.
        deadline_s: Seconds for the whole evaluation; rows not begun by then are marked so.
        max_errors: Stop with the rows' first error once more rows than this failed; None keeps going.
        session: Whose model judges where a metric asks one; None leaves each metric as it was made.
        done: Rows of an earlier attempt, which are not run again.
        on_row: Given each row as soon as it ends, in the thread that ran it.

    Raises:
        MetricError: A metric raised on every row it was asked about.
        DSPexError: The program failed on every row: its first error, since a score of 0 would be a lie.
        Cancelled: The user stopped it; what `on_row` was given stands.
    """
    started = time.perf_counter()
    deadline = None if deadline_s is None else started + deadline_s
    found = {row.index: row for row in done}
    scorer = _Scorer(call, metrics, session, timeout_s, deadline, max_errors, on_row)
    left = [{"index": index} for index in range(len(examples)) if index not in found]
    results = map_rows(
        lambda row, inner: scorer.score(row["index"], examples[row["index"]], inner),
        left,
        n_jobs=n_jobs,
        scope=scope,
        on_error="raise",
    )
    found |= {result.prediction.index: result.prediction for result in results}
    scorer.check([found[index] for index in sorted(found)])
    return scorecard(found.values(), metrics, time.perf_counter() - started, scope.run_id)


def scorecard(rows: Iterable[ScoredRow], metrics: Sequence[Metric], elapsed_s: float, run_id: str) -> Scorecard:
    """Return the outcome of these rows: all of them, or those that ended before a stop."""
    ordered = tuple(sorted(rows, key=lambda row: row.index))
    intervals = {metric.name: metric.over(measured(metric, ordered)) for metric in metrics}
    return Scorecard(ordered, intervals, elapsed_s, run_id, tuple(metrics))


def measured(metric: Metric, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
    """Return the rows as `metric` is taken over them.

    Where lower is better the failed ones are left out: the 0 that stands for a failure would be the best score there is.
    """
    if metric.lower_is_better:
        return [row for row in rows if row.error is None]
    return [replace(row, outputs={**row.inner, **row.outputs}) if row.inner else row for row in rows]


class _Scorer:
    """Scores one row at a time, from any thread."""

    def __init__(
        self,
        call: Call,
        metrics: Sequence[Metric],
        session: Session | None,
        timeout_s: float | None,
        deadline: float | None,
        max_errors: int | None,
        on_row: Callable[[ScoredRow], None],
    ) -> None:
        self.call, self.metrics, self.session = call, metrics, session
        self.timeout_s, self.deadline, self.max_errors, self.on_row = timeout_s, deadline, max_errors, on_row
        self.messages = Messages()
        self.failures: list[Exception] = []
        self.metric_faults: dict[str, list[Exception]] = {metric.name: [] for metric in metrics}

    def score(self, index: int, example: Example, scope: Scope) -> ScoredRow:
        """Return the row; only cancellation and too many errors raise."""
        tracer = Tracer(self.messages)
        row = self._scored(index, example, replace(scope, trace=tracer.take))
        if scope.cancel.cancelled and row.error is not None:  # what failed because of the stop is not the row's outcome
            scope.cancel.check()
        row = replace(row, calls=tracer.close())
        self.on_row(row)
        event = RowScored(run_id=scope.run_id, index=index, scores=dict(row.scores), error=row.error, elapsed_s=row.latency_s)
        scope.publish(event)
        return row

    def _scored(self, index: int, example: Example, scope: Scope) -> ScoredRow:
        started = time.perf_counter()
        inputs, labels = example.inputs(), example.labels()
        prediction, error = self._predict(inputs, scope)
        latency_s = time.perf_counter() - started
        if prediction is not None:
            # A labelled field of a pipeline counts as an answer also where a later step reads it.
            prediction = prediction.joined({name: prediction.fields[name] for name in labels if name in prediction.fields})
        scores, fault = self._measure(example, prediction, scope)
        error = error or fault
        if prediction is None:
            return ScoredRow(index, inputs, labels, {}, scores, latency_s, error=error)
        took = (latency_s, prediction.cost, prediction.cached, error, prediction.usage, prediction.fields)
        return ScoredRow(index, inputs, labels, dict(prediction), scores, *took)

    def _predict(self, inputs: dict[str, Any], scope: Scope) -> tuple[Prediction | None, str | None]:
        if self.deadline is not None and time.perf_counter() > self.deadline:
            return None, "not run: the evaluation's deadline_s had passed"
        try:
            return limited(partial(self.call, inputs), scope, self.timeout_s, "the program"), None
        except Cancelled:
            raise
        except Exception as error:
            self.failures.append(error)
            if self.max_errors is not None and len(self.failures) > self.max_errors and not scope.cancel.cancelled:
                raise
            return None, _said(error)

    def _measure(self, example: Example, prediction: Prediction | None, scope: Scope) -> tuple[dict[str, float], str | None]:
        scores, fault = dict.fromkeys((metric.name for metric in self.metrics), 0.0), None
        for metric in self.metrics if prediction is not None else ():
            try:
                scores[metric.name] = limited(
                    partial(self._value, metric, example, prediction), scope, self.timeout_s, "the metric"
                )
            except Cancelled:  # in a judge: the run was stopped, the metric is not at fault
                raise
            except Exception as error:  # noqa: BLE001 - a user's metric may raise anything; the row says so
                self.metric_faults[metric.name].append(error)
                fault = f"metric {metric.name!r}: {_said(error)}"
        return scores, fault

    def _value(self, metric: Metric, example: Example, prediction: Any, scope: Scope) -> float:
        if self.session is not None and metric.bind is not None:  # anew for each row, so that a judge's calls are in its trace
            metric = metric.within(self.session, scope.at_step(f"metric {metric.name}"))
        return float(metric(example, prediction))

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


def limited(work: Callable[[Scope], Any], scope: Scope, timeout_s: float | None, what: str) -> Any:
    """Do `work` in this thread, or with a time limit in one of its own.

    Raises:
        TaskTimeoutError: It was not done in time. Its sockets are closed; Python code that waits for none of them cannot be
            stopped, so its thread is left behind and its result discarded.
        Cancelled: The scope was stopped.
    """
    if timeout_s is None:
        return work(scope)
    token = CancelToken()  # its own: a time limit closes this row's sockets and no other's
    done = threading.Event()
    forget = [scope.cancel.on_cancel(token.cancel), scope.cancel.on_cancel(done.set)]
    try:
        future = crew.start(work, replace(scope, cancel=token))
        future.add_done_callback(lambda _: done.set())
        done.wait(timeout_s)
        scope.cancel.check()
        if future.done():
            return future.result()
        token.cancel()
        done.wait(_ENDS_S)  # its socket is closed: the call ends now, and is in the row's trace
        future.cancel()
        scope.cancel.check()
        raise TaskTimeoutError(
            f"{what} was not done after {timeout_s:g} s (timeout_s): given up", hint="raise timeout_s, or see the row's trace"
        )
    finally:
        for each in forget:
            each()


def _said(error: Exception) -> str:
    return error.message if isinstance(error, DSPexError) else f"{type(error).__name__}: {error}"
