"""`dx.evaluate`: a score with its interval, a row an example, and pictures of both."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_nb.api.displays import ShownOnce, Watch, show, show_figure
from dspex_nb.api.mapping import checked_rows, recorded
from dspex_nb.api.placing import placed
from dspex_nb.api.programs import lm_width
from dspex_nb.api.sessions import session
from dspex_nb.errors import DataError, MissingDependencyError
from dspex_nb.metrics import Interval, Metric, bootstrap_interval, paired_interval, resolve_metrics
from dspex_nb.pools import Pool
from dspex_nb.runs.evaluation import Scorecard, ScoredRow, measured
from dspex_nb.runs.evaluation import evaluate as score_rows
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import (
    ComparisonInfo,
    EvaluationInfo,
    ExampleInfo,
    LabelsInfo,
    MetricInfo,
    ProgressState,
    ScoreInfo,
    comparison_html,
    comparison_text,
    evaluation_html,
    evaluation_text,
    labels_bundle,
    labels_info,
    plot_labels,
    progress_html,
    progress_text,
)


class Evaluation(ShownOnce):
    """The outcome of `dx.evaluate`.

    Attributes:
        name: The program's name.
        card: The rows, intervals and seconds as records.
    """

    def __init__(self, name: str, card: Scorecard) -> None:
        self.name, self.card = name, card

    @property
    def metric(self) -> str:
        """The first metric's name."""
        return next(iter(self.card.intervals))

    @property
    def interval(self) -> Interval:
        """The first metric over all rows, with its 95% confidence interval."""
        return self.card.intervals[self.metric]

    @property
    def score(self) -> float:
        """The first metric over all rows: the mean of theirs, or what a metric of whole sets such as macro_f1 gives for them."""
        return self.interval.mean

    @property
    def scores(self) -> dict[str, float]:
        """Each metric over all rows."""
        return {name: interval.mean for name, interval in self.card.intervals.items()}

    @functools.cached_property
    def frame(self) -> Any:
        """A DataFrame, a row an example: inputs, labels, outputs, each metric, latency_s, cost, cached, error.

        A label whose name an input or output has too is prefixed `expected_`.
        """
        import pandas as pd

        return pd.DataFrame([_record(row) for row in self.card.rows])

    def failures(self) -> Any:
        """Return the rows of `frame` that scored below 1 on the first metric; above 0, or failed, where lower is better."""
        frame = self.frame
        if self.card.metrics[0].lower_is_better:
            return frame[(frame[self.metric] > 0) | frame["error"].notna()]
        return frame[frame[self.metric] < 1]

    def compare(self, other: Evaluation) -> Comparison:
        """Return this evaluation beside an `other` of the same examples: the difference with its interval, and the rows.

        Raises:
            DataError: They were not made on the same examples.
        """
        if [row.inputs for row in self.card.rows] != [row.inputs for row in other.card.rows]:
            raise DataError(
                f"{self.name!r} and {other.name!r} were not evaluated on the same examples", hint="evaluate both on the same data"
            )
        return Comparison(other, self)

    def plot(self) -> Any:
        """Return a plotly figure: accuracy by label beside the confusion matrix.

        Raises:
            DataError: No field has few enough different values to be a label.
        """
        labels = self.info().labels
        if labels is None:
            raise DataError("no output field has few enough different values to be a label", hint="look at .frame instead")
        return plot_labels(labels)

    def save(self, path: str | Path) -> Path:
        """Write `frame` as CSV, JSONL or Parquet, by the path's ending.

        Raises:
            DataError: The ending is none of these.
            MissingDependencyError: Parquet without pyarrow.
        """
        target = Path(path)
        writers = {".csv": "to_csv", ".parquet": "to_parquet", ".jsonl": "to_json"}
        if target.suffix not in writers:
            raise DataError(f"cannot write {target.name!r}", hint="use a path that ends in .csv, .jsonl or .parquet")
        if target.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise MissingDependencyError("Parquet needs the package 'pyarrow'", hint="pip install pyarrow")
        options = {"orient": "records", "lines": True} if target.suffix == ".jsonl" else {"index": False}
        getattr(self.frame, writers[target.suffix])(target, **options)
        return target

    def info(self) -> EvaluationInfo:
        """Return the values that the views draw."""
        rows, usage = self.card.rows, self.card.usage
        costs = [row.cost for row in rows if not row.error]
        return EvaluationInfo(
            name=self.name,
            metrics=[MetricInfo(name, i.mean, (i.low, i.high) if i.n else None) for name, i in self.card.intervals.items()],
            examples=[_example(row, self.card.metrics[0]) for row in rows],
            labels=_labels(self.metric, rows),
            errors=sum(row.error is not None for row in rows),
            calls=usage.calls,
            cache_hits=usage.cache_hits,
            tokens=usage.total_tokens,
            cost=None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs),
            elapsed_s=self.card.elapsed_s,
        )

    def __repr__(self) -> str:
        i = self.interval
        return f"Evaluation({self.name!r}, {self.metric} {i.mean:.3f} [{i.low:.3f}, {i.high:.3f}], n={i.n})"

    def show(self) -> None:
        """Display the score, the failures, the table and the figure."""
        info = self.info()
        show(evaluation_html(info), evaluation_text(info))
        show_figure(labels_bundle(info))


class Comparison:
    """Two evaluations of the same examples: what changed, and whether it is more than chance."""

    def __init__(self, before: Evaluation, after: Evaluation) -> None:
        self.before, self.after = before, after
        self._old = [row.scores[before.metric] for row in before.card.rows]
        self._new = [row.scores[after.metric] for row in after.card.rows]
        self.changes = [new - old for old, new in zip(self._old, self._new, strict=True)]
        self.lower_is_better = after.card.metrics[0].lower_is_better

    @property
    def difference(self) -> Interval:
        """After minus before, paired by example, with its 95% confidence interval."""
        rows = list(zip(self.before.card.rows, self.after.card.rows, strict=True))
        was, now = _whole(self.before), _whole(self.after)
        if was is not None and now is not None:
            return bootstrap_interval(len(rows), lambda numbers: now(numbers) - was(numbers))
        kept = [at for at, (old, new) in enumerate(rows) if not self.lower_is_better or old.error is new.error is None]
        return paired_interval([self._old[at] for at in kept], [self._new[at] for at in kept])

    @functools.cached_property
    def frame(self) -> Any:
        """A DataFrame of the examples that changed, worst first."""
        both = self.after.frame.assign(before=self.before.frame[self.before.metric], change=self.changes)
        return both[both["change"] != 0].sort_values("change", ascending=not self.lower_is_better)

    def info(self) -> ComparisonInfo:
        """Return the values that the view draws."""
        spread = self.difference
        return ComparisonInfo(
            metric=self.after.metric,
            before=_score_info("before", self.before),
            after=_score_info("after", self.after),
            interval=(spread.low, spread.high) if any(self.changes) else None,
            fixed=None if self.lower_is_better else sum(change > 0 for change in self.changes),
            broken=None if self.lower_is_better else sum(change < 0 for change in self.changes),
            lower_is_better=self.lower_is_better,
        )

    def __repr__(self) -> str:
        return comparison_text(self.info())

    def _ipython_display_(self) -> None:
        show(comparison_html(self.info()), comparison_text(self.info()))


def _whole(side: Evaluation) -> Callable[[Any], float] | None:
    """Return the first metric as a function of row numbers, None where it is a mean of the rows' scores."""
    metric = side.card.metrics[0]
    return None if metric.total is None else metric.total(measured(metric, side.card.rows))


def _score_info(label: str, side: Evaluation) -> ScoreInfo:
    return ScoreInfo(label, side.score, (side.interval.low, side.interval.high), side.interval.n)


def _labels(metric: str, rows: tuple[ScoredRow, ...]) -> LabelsInfo | None:
    """Count the labels of the field the metric names (`exact_match:desk`), else of the first that has few values."""
    shared = [name for name in (rows[0].labels if rows else ()) if any(name in row.outputs for row in rows)]
    named = [name for name in metric.partition(":")[2].split(",") if name in shared]
    for field in named or shared:
        pairs = [(row.labels.get(field), row.outputs.get(field, "")) for row in rows]
        found = labels_info(field, pairs)
        if found is not None:
            return found
    return None


def _example(row: ScoredRow, metric: Metric) -> ExampleInfo:
    score = row.scores[metric.name]
    asked = metric.name.partition(":")[2].split(",") if ":" in metric.name else list(row.labels)
    got = {name: value for name, value in row.outputs.items() if name in asked} or row.outputs
    return ExampleInfo(
        index=row.index,
        inputs=row.inputs,
        expected={name: value for name, value in row.labels.items() if name in got} or row.labels,
        got=got,
        scores=row.scores,
        correct=score == 1 if score in (0, 1) and not metric.lower_is_better else None,
        latency_s=row.latency_s,
        error=row.error or "",
        cached=row.cached is not None,
    )


def _record(row: ScoredRow) -> dict[str, Any]:
    taken = {*row.inputs, *row.outputs}
    labels = {f"expected_{name}" if name in taken else name: value for name, value in row.labels.items()}
    facts = {"latency_s": row.latency_s, "cost": row.cost, "cached": row.cached, "error": row.error}
    return {**row.inputs, **labels, **row.outputs, **row.scores, **facts}


def evaluate(
    program: Any,
    data: Any,
    metrics: Any = "exact_match",
    n_jobs: int | None = None,
    timeout_s: float | None = None,
    max_errors: int | None = None,
    on_progress: Any = None,
    name: str = "",
    backend: str | Pool | None = None,
) -> Evaluation:
    """Score `program` on labelled rows; a notebook shows progress while it runs, then the result in its place.

    Args:
        program: A `dx.Predict`, a pipeline, a `dspy.Module` or a function.
        data: Dicts, examples, a DataFrame, or the path of a CSV, JSONL or Parquet file.
        metrics: Names (`"f1"`, `"exact_match:desk"`) or functions `metric(example, prediction, trace=None)`.
        n_jobs: Rows in flight; None and -1 mean the LM's `max_concurrency`.
        timeout_s: Seconds for the whole evaluation; rows not begun by then are marked so.
        max_errors: Rows that may fail before it stops; None keeps going and marks each.
        on_progress: Called with each event.
        name: Shown as the title; by default the program's name.
        backend: Where the program runs: None here; `"loky"`, `"dask"` or `"ray"` in the session's pool of that backend; or a
            pool. Metrics are taken here.

    Raises:
        DataError: A column is missing, or there is no row.
        MetricError: A metric is unknown, or raised on every row.
        Cancelled: The user stopped it; the answers so far are in the cache.
    """
    now = session()
    resolved = resolve_metrics(metrics)
    unit = placed(program, name, backend)
    examples = checked_rows(unit, data)
    if not examples:
        raise DataError("there is no row to evaluate", hint="pass at least one labelled row")
    scope = Scope(new_run_id(), now.bus)
    state = ProgressState(run_id=scope.run_id, title=unit.name, total=len(examples))
    made: list[Evaluation] = []
    watch = Watch(
        scope,
        state,
        lambda: evaluation_html(made[0].info()) if made else progress_html(state),
        lambda: evaluation_text(made[0].info()) if made else progress_text(state),
        on_progress=on_progress,
        actions={"cancel": scope.cancel.cancel},
        figure=lambda: labels_bundle(made[0].info()) if made else None,
    )
    with watch, recorded(scope, unit.name, "evaluation", len(examples)):
        width = unit.n_jobs if n_jobs is None else lm_width(now, n_jobs)
        card = score_rows(
            unit.call, examples, resolved, scope=scope, n_jobs=width, timeout_s=timeout_s, max_errors=max_errors, session=now
        )
        made.append(Evaluation(unit.name, card))
    if watch.live:
        made[0].mark_shown()
    return made[0]
