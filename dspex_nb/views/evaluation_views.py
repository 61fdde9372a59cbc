"""An evaluation: the score and how sure it is, failures one click away, every example in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.views.figures import figure_bundle
from dspex_nb.views.formats import cost_text, interval_text, one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.label_charts import LabelsInfo, labels_figure, labels_line, labels_svg
from dspex_nb.views.markup import (
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
    section,
    state_chip,
    tag,
)
from dspex_nb.views.tables import LIMIT, Column, long_text, number, table_html, table_text


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """A metric's mean over all examples, and its 95% confidence interval if one was computed."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ExampleInfo:
    """One example of an evaluation.

    Attributes:
        index: Its place in the data, counted from 0.
        inputs: What the program was given, by field.
        expected: What the data says, by field.
        got: What the program answered, by field; empty after an error.
        scores: Each metric's value.
        correct: Whether it counts as right; None if the metric is no yes or no.
        latency_s: Seconds it took, None if unknown.
        error: What went wrong, empty if nothing did.
        cached: Whether it was served from the cache.
    """

    index: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    got: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    latency_s: float | None = None
    error: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationInfo:
    """An evaluation that ended.

    Attributes:
        name: The program's name.
        metrics: The main metric first.
        examples: One a row, in the order of the data.
        status: `"done"`, `"cancelled"` or `"failed"`.
        labels: Counts by label, None if no output field is a label.
        errors: Examples that ended in an error; they count as wrong.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        tokens: Prompt and completion tokens.
        cost: US dollars, None if unknown.
        elapsed_s: Seconds it took.
        note: A sentence to read beside the score (e.g. that it was stopped early), empty if none.
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


def evaluation_html(info: EvaluationInfo) -> str:
    """Draw an evaluation as HTML."""
    status = state_chip(info.status) if info.status != "done" else ""
    facts = [chip(plural(len(info.examples), "example")), *_spent(info)]
    parts = [heading(info.name, status, *facts, kind="evaluation"), _scores(info)]
    if info.note:
        parts.append(tag("div", muted(info.note), style="margin: 4px 0;"))
    if info.labels:
        parts += [section("By label", info.labels.field), _labels(info.labels)]
    return frame(*parts, _failures(info), _all(info))


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


def correctness(correct: bool | None, error: str = "") -> Html:  # noqa: FBT001 - it is the value shown
    """Return an example's verdict as symbol, colour and word."""
    if error:
        return tag("span", mark("failed"), " error", style="white-space: nowrap;")
    if correct is None:
        return Html("")
    word, state = ("right", "done") if correct else ("wrong", "failed")
    return tag("span", mark(state), " ", word, style="white-space: nowrap;")


def _fields(values: Mapping[str, Any]) -> Html | str:
    """Return one field's value bare, several each under its name."""
    if len(values) == 1:
        return value_text(next(iter(values.values())))
    return join(*(tag("div", muted(name, ": "), long_text(value)) for name, value in values.items()))


def _got(example: ExampleInfo) -> Html | str:
    if example.error:
        return tag("span", one_line(example.error, 300), style=f"color: {RED}; overflow-wrap: break-word;")
    return _fields(example.got)


def _table(info: EvaluationInfo, examples: Sequence[ExampleInfo]) -> Html:
    # The verdict says what a yes-or-no metric would repeat in a column of its own.
    metrics = [m.name for m in info.metrics]
    columns = [number("#"), Column("", wrap=False), Column("Inputs", width="40%"), Column("Expected"), Column("Got")]
    columns += [*(number(name) for name in metrics), number("Time")]
    rows = []
    for e in examples[:LIMIT]:
        took = join(mark("cached") if e.cached else "", " " if e.cached else "", seconds_text(e.latency_s))
        scores = [score_text(e.scores.get(name)) for name in metrics]
        rows.append(
            (str(e.index), correctness(e.correct, e.error), _folded(e.inputs), _fields(e.expected), _got(e), *scores, took)
        )
    return table_html(columns, rows, total=len(examples))


def _folded(values: Mapping[str, Any]) -> Html | str:
    return (
        _fields(values)
        if len(values) == 1
        else details(one_line(" · ".join(map(value_text, values.values())), 100), _fields(values), tight=True)
    )


def _failures(info: EvaluationInfo) -> Html:
    failed = [e for e in info.examples if e.error or e.correct is False]
    if not failed:
        return Html("")
    return details(join(mark("failed"), f" {plural(len(failed), 'failure')} of {len(info.examples):,}"), _table(info, failed))


def _all(info: EvaluationInfo) -> Html:
    return details(f"All {plural(len(info.examples), 'example')}", _table(info, info.examples)) if info.examples else Html("")


def evaluation_text(info: EvaluationInfo) -> str:
    """Write an evaluation as text."""
    ends = "" if info.status == "done" else f" ({info.status})"
    size = f"{plural(len(info.examples), 'example')}, {plural(info.errors, 'error')}"
    lines = [f"evaluation of {info.name}{ends}: {size}, {seconds_text(info.elapsed_s)}"]
    lines.append(table_text(["metric", number("mean"), "95% CI"], [_metric_row(m) for m in info.metrics], limit=None))
    if info.labels:
        lines.append(f"by label ({info.labels.field}): {labels_line(info.labels)}")
    failed = [e for e in info.examples if e.error or e.correct is False]
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
