"""`Evaluation`: a score with its interval, a row an example, each with its trace, and pictures of both."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dspex_nb.api.comparisons import Comparison
from dspex_nb.api.displays import ShownOnce, Watch, in_notebook, show, show_figure
from dspex_nb.errors import DataError, DSPexError, MissingDependencyError
from dspex_nb.events import Bus
from dspex_nb.metrics import Interval, Metric
from dspex_nb.runs.evaluation import Scorecard, ScoredRow
from dspex_nb.runs.traces import TracedCall
from dspex_nb.scopes import Scope
from dspex_nb.views import (
    EvaluationInfo,
    ExampleInfo,
    ExampleTable,
    LabelsInfo,
    MetricInfo,
    evaluation_html,
    evaluation_live_html,
    evaluation_page,
    evaluation_text,
    labels_bundle,
    labels_info,
    plot_labels,
    trace_html,
    trace_text,
)
from dspex_nb.views.formats import value_text
from dspex_nb.views.markup import frame, heading


class Resumable(Protocol):
    """What goes on with an evaluation; see `Evaluation.resume`."""

    def resume(self, program: Any, data: Any, metrics: Any, options: dict[str, Any]) -> Evaluation:
        """Run the rows that have not ended."""


class Trace:
    """What happened for one example: its LM calls with the exact prompts and raw answers, what was read, and the scores.

    Attributes:
        calls: Each has `messages`, `answers`, `options`, `model`, `step`, tokens, `cost`, `cached`, `elapsed_s` and `error`.
    """

    def __init__(self, example: ExampleInfo, calls: tuple[TracedCall, ...]) -> None:
        self.example, self.calls = example, calls

    def __repr__(self) -> str:
        return trace_text(self.example)

    def _ipython_display_(self) -> None:
        show(frame(heading(f"example {self.example.index}", kind="trace"), trace_html(self.example)), repr(self))


class Evaluation(ShownOnce):
    """The outcome of `dx.evaluate`.

    Attributes:
        name: The program's name.
        card: The rows, intervals and seconds as records.
        status: `"done"`; or `"cancelled"`, `"failed"` or `"interrupted"`, with the rows that ended before: see `resume`.
        total: How many examples the data has.
        job: What `resume` goes on with.
        note: What to read beside the score, empty if nothing.
    """

    def __init__(
        self, name: str, card: Scorecard, status: str = "done", total: int = 0, job: Resumable | None = None, note: str = ""
    ) -> None:
        self.name, self.card, self.status, self.job, self.note = name, card, status, job, note
        self.total = total or len(card.rows)

    @property
    def id(self) -> str:
        """Its run in the store: `dx.load_evaluation(id)` opens it again, in any kernel."""
        return self.card.run_id

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

        A label whose name an input or output has too is prefixed `expected_`. Its index is the row's place in the data.
        """
        import pandas as pd

        return pd.DataFrame([_record(row) for row in self.card.rows], index=[row.index for row in self.card.rows])

    def failures(self) -> Any:
        """Return the rows of `frame` that scored below 1 on the first metric; above 0, or failed, where lower is better."""
        frame = self.frame
        if self.card.metrics[0].lower_is_better:
            return frame[(frame[self.metric] > 0) | frame["error"].notna()]
        return frame[frame[self.metric] < 1]

    def trace(self, index: int) -> Trace:
        """Return what happened for the example at this place in the data: prompts as sent, raw answers, what was read.

        Raises:
            DataError: No such example was scored.
        """
        row = next((row for row in self.card.rows if row.index == index), None)
        if row is None:
            raise DataError(
                f"example {index!r} was not scored: there are {self.total:,}, of which {len(self.card.rows):,} are",
                hint="give its place in the data, counted from 0",
            )
        return Trace(example_info(row, self.card.metrics[0]), row.calls)

    def compare(self, other: Evaluation, metric: str = "") -> Comparison:
        """Return this evaluation beside an earlier one: the difference with its interval and test, wins, losses, regressions.

        Examples that only one of them has are left out, and the comparison says how many.

        Args:
            other: The earlier one.
            metric: The metric's name; by default this one's first.

        Raises:
            DataError: They have no example, or not this metric, in common.
        """
        return Comparison(other, self, metric)

    def resume(self, program: Any = None, data: Any = None, metrics: Any = None, **options: Any) -> Evaluation:
        """Go on with an evaluation that was stopped or killed: finished rows are not run again, failed ones are.

        Args:
            program: The program, made again, where this evaluation is of another kernel; by default the notebook's variable of
                its name.
            data: The data, only where it could not be kept as it was.
            metrics: The metrics, only where they are functions of another kernel.
            **options: `n_jobs`, `timeout_s`, `deadline_s`, `max_errors`, `on_progress`, as `dx.evaluate` takes them.

        Raises:
            DSPexError: It still runs, or the program, a metric or the model is another one than before.
        """
        if self.job is None:
            raise DSPexError(
                f"evaluation {self.id} is not on disk: it was made by hand",
                hint="evaluate anew: answers already received are in the cache",
            )
        return self.job.resume(program, data, metrics, options)

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
        """Write it by the path's ending: `frame` as CSV, JSONL or Parquet, or all of it as one HTML page.

        The page stands alone: scores, every row to search and sort, each with its trace.

        Raises:
            DataError: The ending is none of these.
            MissingDependencyError: Parquet without pyarrow.
        """
        target = Path(path)
        writers = {".csv": "to_csv", ".parquet": "to_parquet", ".jsonl": "to_json"}
        if target.suffix in (".html", ".htm"):
            target.write_text(evaluation_page(self.info()), encoding="utf-8")
            return target
        if target.suffix not in writers:
            raise DataError(f"cannot write {target.name!r}", hint="use a path that ends in .csv, .jsonl, .parquet or .html")
        if target.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise MissingDependencyError("Parquet needs the package 'pyarrow'", hint="pip install pyarrow")
        options = {"orient": "records", "lines": True} if target.suffix == ".jsonl" else {"index": False}
        getattr(_writable(self.frame, target.suffix), writers[target.suffix])(target, **options)
        return target

    def info(self) -> EvaluationInfo:
        """Return the values that the views draw."""
        return self._info

    @functools.cached_property
    def _info(self) -> EvaluationInfo:
        rows, usage = self.card.rows, self.card.usage
        costs = [row.cost for row in rows if not row.error]
        return EvaluationInfo(
            name=self.name,
            metrics=[MetricInfo(name, i.mean, (i.low, i.high) if i.n else None) for name, i in self.card.intervals.items()],
            examples=[example_info(row, self.card.metrics[0]) for row in rows],
            status=self.status,
            labels=_labels(self.metric, rows),
            errors=sum(row.error is not None for row in rows),
            calls=usage.calls,
            cache_hits=usage.cache_hits,
            tokens=usage.total_tokens,
            cost=None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs),
            elapsed_s=self.card.elapsed_s,
            note=self.note
            or (f"stopped early: .resume() goes on, or dx.load_evaluation({self.id!r}).resume()" if self.left else ""),
            total=self.total,
        )

    @property
    def left(self) -> int:
        """How many examples were not scored."""
        return self.total - len(self.card.rows)

    def __repr__(self) -> str:
        i = self.interval
        partly = f", {self.status}, {len(self.card.rows)} of {self.total} rows" if self.status != "done" else ""
        return f"Evaluation({self.name!r}, {self.metric} {i.mean:.3f} [{i.low:.3f}, {i.high:.3f}], n={i.n}{partly})"

    def show(self) -> None:
        """Display the score, the examples to search and open, and the figure."""
        info = self.info()
        if not in_notebook():
            show(evaluation_html(info), evaluation_text(info))
            show_figure(labels_bundle(info))
            return
        table = ExampleTable([metric.name for metric in info.metrics], info.examples)
        with Watch(
            Scope(self.id, Bus(keep=0)), None, lambda: evaluation_live_html(info, table), lambda: evaluation_text(info),
            figure=lambda: labels_bundle(info), choose=table.choose, still=lambda: evaluation_html(info),
        ):  # fmt: skip
            pass


def _writable(frame: Any, suffix: str) -> Any:
    """Return the frame with values that a column of the format cannot hold as JSON texts."""
    if suffix != ".parquet":
        return frame
    held = {name: frame[name].map(_text) for name in frame.columns if frame[name].dtype == object and not _plain(frame[name])}
    return frame.assign(**held) if held else frame


def _text(value: Any) -> str | None:
    return None if value is None else value_text(value)


def _plain(column: Any) -> bool:
    """Whether a column holds texts, or lists of texts, and nothing else."""
    kinds = {type(value) for value in column} - {type(None)}
    items = {type(item) for value in column if isinstance(value, list) for item in value}
    return len(kinds) <= 1 and kinds | items <= {str, list, bool, int, float} and len(items) <= 1


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


def example_info(row: ScoredRow, metric: Metric) -> ExampleInfo:
    """Return a row as the views draw it, judged by `metric`."""
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
        calls=row.calls,
        outputs=row.outputs,
    )


def _record(row: ScoredRow) -> dict[str, Any]:
    taken = {*row.inputs, *row.outputs}
    labels = {f"expected_{name}" if name in taken else name: value for name, value in row.labels.items()}
    facts: Mapping[str, Any] = {"latency_s": row.latency_s, "cost": row.cost, "cached": row.cached, "error": row.error}
    return {**row.inputs, **labels, **row.outputs, **row.scores, **facts}
