"""An evaluation: the score and how sure it is, failures one click away, every example in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.views.example_tables import ExampleInfo, ExampleTable, traced_rows
from dspex_nb.views.figures import figure_bundle
from dspex_nb.views.formats import cost_text, interval_text, plural, score_text, seconds_text, value_text
from dspex_nb.views.label_charts import LabelsInfo, labels_figure, labels_line, labels_svg
from dspex_nb.views.markup import (
    AMBER,
    GREEN,
    RED,
    Html,
    bar,
    chip,
    details,
    frame,
    heading,
    join,
    mark,
    muted,
    notice,
    section,
    state_chip,
    tag,
)
from dspex_nb.views.progress_views import ProgressInfo, progress_html
from dspex_nb.views.tables import LIMIT, Column, number, rest_note, table_html, table_text

_TRACES = 3  # failures whose trace a saved notebook holds; more would make it heavy
_ALL, _FAILED = 10, 20
_TRACE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """A metric's mean over all examples, and its 95% confidence interval if one was computed."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class EvaluationInfo:
    """An evaluation that ended, or was stopped.

    Attributes:
        name: The program's name.
        metrics: The main metric first.
        examples: One a row, in the order of the data.
        status: `"done"`, `"cancelled"`, `"failed"` or `"interrupted"`.
        labels: Counts by label, None if no output field is a label.
        errors: Examples that ended in an error; they count as wrong.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        tokens: Prompt and completion tokens.
        cost: US dollars, None if unknown.
        elapsed_s: Seconds it took.
        note: A sentence to read beside the score (e.g. that it was stopped early), empty if none.
        total: Examples in all, where some were not scored; 0 means those that are here.
    """

    name: str
    metrics: Sequence[MetricInfo]
    examples: Sequence[ExampleInfo] = ()
    status: str = "done"
    labels: LabelsInfo | None = None
    errors: int = 0
    calls: int = 0
    cache_hits: int = 0
    tokens: int = 0
    cost: float | None = None
    elapsed_s: float = 0.0
    note: str = ""
    total: int = 0

    @property
    def partly(self) -> str:
        """How much of the data was scored, where it was not all; empty otherwise."""
        return f"{len(self.examples):,} of {plural(self.total, 'example')}" if self.total > len(self.examples) else ""


def evaluation_html(info: EvaluationInfo) -> str:
    """Draw an evaluation as HTML that needs no kernel: a failure's trace is a click away."""
    return frame(*_summary(info), _failures(info), _all(info))


def evaluation_live_html(info: EvaluationInfo, table: ExampleTable) -> str:
    """Draw an evaluation as HTML for a widget: its examples to search, filter, sort and open."""
    return frame(*_summary(info), table.html())


def evaluating_html(progress: ProgressInfo, table: ExampleTable) -> str:
    """Draw an evaluation that is going on: how far it is, and the examples so far."""
    return join(Html(progress_html(progress)), frame(table.html()) if progress.done else "")


def summary_html(info: EvaluationInfo) -> Html:
    """Draw the score and the counts, without the examples."""
    return frame(*_summary(info))


def _summary(info: EvaluationInfo) -> list[Html]:
    status = state_chip(info.status) if info.status != "done" else ""
    facts = [chip(info.partly or plural(len(info.examples), "example")), *_spent(info)]
    parts = [heading(info.name, status, *facts, kind="evaluation"), _scores(info)]
    if info.note:
        parts.append(notice(info.note, color=AMBER))
    if info.labels:
        parts += [section("By label", info.labels.field), _labels(info.labels)]
    return parts


def _spent(info: EvaluationInfo) -> list[Html]:
    chips = [chip(seconds_text(info.elapsed_s))]
    if info.calls or info.cache_hits:
        chips.append(chip(plural(info.calls, "LM call"), f" · {info.cache_hits:,} from cache" if info.cache_hits else ""))
        chips.append(chip(plural(info.tokens, "token")))
        chips.append(chip(muted("cost "), cost_text(info.cost)))
    return chips


def _scores(info: EvaluationInfo) -> Html:
    if not info.metrics:
        return Html("")
    first, *others = info.metrics
    big = tag("span", score_text(first.value), style="font-size: 26px; font-weight: 600; line-height: 34px; margin-right: 8px;")
    main = tag("div", big, " ", tag("strong", first.name, style="font-weight: 500;"), " ", muted(interval_text(first.interval)))
    rest = [
        chip(muted(m.name, " "), score_text(m.value), muted(" ", interval_text(m.interval)) if m.interval else "") for m in others
    ]
    errors = [chip(mark("failed"), " ", plural(info.errors, "error"), color=RED)] if info.errors else []
    return join(main, tag("div", *rest, *errors) if rest or errors else "")


def _labels(labels: LabelsInfo) -> Html:
    rows = [
        (name, join(bar(share, color=GREEN, width="140px")), f"{share:.0%}", f"{right} / {total}")
        for name, share, right, total in zip(labels.labels, labels.accuracies, labels.correct, labels.totals, strict=True)
    ]
    columns = [
        Column("Label", wrap=False),
        Column("", width="150px"),
        number("Right"),
        number("Examples"),
        Column("", width="40%"),
    ]
    return table_html(columns, [(*row, Html("")) for row in rows], limit=None)


def _table(info: EvaluationInfo, examples: Sequence[ExampleInfo], *, traces: int = 0, limit: int = LIMIT) -> Html:
    shown, metrics = examples[:limit], [m.name for m in info.metrics]
    return join(traced_rows(shown, metrics, traces=traces, limit=_TRACE_CHARACTERS), rest_note(len(shown), len(examples)))


def _failures(info: EvaluationInfo) -> Html:
    failed = [e for e in info.examples if e.failed]
    if not failed:
        return Html("")
    title = join(mark("failed"), f" {plural(len(failed), 'failure')} of {len(info.examples):,}")
    return details(title, _table(info, failed, traces=_TRACES, limit=_FAILED))


def _all(info: EvaluationInfo) -> Html:
    return (
        details(f"All {plural(len(info.examples), 'example')}", _table(info, info.examples, limit=_ALL))
        if info.examples
        else Html("")
    )


def evaluation_text(info: EvaluationInfo) -> str:
    """Write an evaluation as text."""
    ends = "" if info.status == "done" else f" ({info.status})"
    size = f"{info.partly or plural(len(info.examples), 'example')}, {plural(info.errors, 'error')}"
    lines = [f"evaluation of {info.name}{ends}: {size}, {seconds_text(info.elapsed_s)}"]
    lines.append(table_text(["metric", number("mean"), "95% CI"], [_metric_row(m) for m in info.metrics], limit=None))
    if info.labels:
        lines.append(f"by label ({info.labels.field}): {labels_line(info.labels)}")
    failed = [e for e in info.examples if e.failed]
    if failed:
        rows = [(e.index, _plain(e.inputs), _plain(e.expected), e.error or _plain(e.got)) for e in failed]
        lines.append(f"failures ({len(failed)}):\n" + table_text([number("#"), "inputs", "expected", "got"], rows, limit=10))
    return "\n".join([*lines, info.note] if info.note else lines)


def _metric_row(metric: MetricInfo) -> tuple[str, str, str]:
    return metric.name, score_text(metric.value), interval_text(metric.interval).removeprefix("95% CI ")


def _plain(values: Mapping[str, Any]) -> str:
    return " · ".join(value_text(value) for value in values.values())


def plot_labels(info: EvaluationInfo | LabelsInfo) -> Any:
    """Draw accuracy by label beside the confusion matrix.

    Raises:
        ValueError: The evaluation has no output field that is a label.
    """
    labels = info if isinstance(info, LabelsInfo) else info.labels
    if labels is None:
        raise ValueError("no output field has few enough different values to be a label")
    return labels_figure(labels)


def labels_bundle(info: EvaluationInfo | LabelsInfo) -> dict[str, Any] | None:
    """Return the label figure as a notebook stores it, None where no field is a label."""
    labels = info if isinstance(info, LabelsInfo) else info.labels
    return (
        figure_bundle(labels_figure(labels), labels_svg(labels), f"accuracy by label: {labels_line(labels)}") if labels else None
    )
