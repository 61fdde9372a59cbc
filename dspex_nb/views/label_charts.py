"""Accuracy by label and what was taken for what: counted, as a plotly figure, and as a plain SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.views.figures import BLUE_SCALE, FONT_COLOR, figure_layout
from dspex_nb.views.formats import value_text
from dspex_nb.views.markup import BLUE, GREY, clean
from dspex_nb.views.svg import document, text_at, text_fit

OTHER = "(other)"
_MOST_LABELS = 20


@dataclass(frozen=True, slots=True)
class LabelsInfo:
    """Counts of an output field whose values are few, as columns of equal length.

    Attributes:
        field: The field's name.
        labels: Expected labels, most frequent first.
        totals: Examples of each label.
        correct: Those answered with that label.
        predicted: Labels answered, the expected ones first, then `(other)` if there were any others.
        matrix: A row an expected label, a column a predicted one: how often.
    """

    field: str
    labels: tuple[str, ...]
    totals: tuple[int, ...]
    correct: tuple[int, ...]
    predicted: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Share answered right, by label."""
        return tuple(c / t if t else 0.0 for c, t in zip(self.correct, self.totals, strict=True))


def labels_info(field: str, pairs: Iterable[tuple[Any, Any]], *, most: int = _MOST_LABELS) -> LabelsInfo | None:
    """Count (expected, answered) pairs of one field.

    Returns:
        The counts; None if there are no pairs or more than `most` different expected values: then it is no label.
    """
    written = [(value_text(want), value_text(got)) for want, got in pairs]
    totals: dict[str, int] = {}
    for want, _ in written:
        totals[want] = totals.get(want, 0) + 1
    if not totals or len(totals) > most:
        return None
    labels = tuple(sorted(totals, key=lambda name: (-totals[name], name)))
    other = (OTHER,) if any(got not in totals for _, got in written) else ()
    predicted = labels + other
    counts = {name: dict.fromkeys(predicted, 0) for name in labels}
    for want, got in written:
        counts[want][got if got in totals else OTHER] += 1
    return LabelsInfo(
        field,
        labels,
        tuple(totals[name] for name in labels),
        tuple(counts[name][name] for name in labels),
        predicted,
        tuple(tuple(counts[name][got] for got in predicted) for name in labels),
    )


def labels_figure(info: LabelsInfo) -> Any:
    """Draw accuracy by label (bars) beside the confusion matrix (heat map)."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.46, 0.54],
        horizontal_spacing=0.16,
        subplot_titles=("Accuracy by label", "Expected against answered"),
    )
    names = [_short(label) for label in info.labels]
    figure.add_trace(
        go.Bar(
            x=list(info.accuracies), y=names, orientation="h", marker={"color": BLUE, "cornerradius": 3},
            customdata=list(zip(info.correct, info.totals, strict=True)),
            text=[f"{c}/{t}" for c, t in zip(info.correct, info.totals, strict=True)], textposition="auto", showlegend=False,
            hovertemplate="%{y}: %{customdata[0]} of %{customdata[1]} right (%{x:.0%})<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    figure.add_trace(
        go.Heatmap(
            z=[list(row) for row in info.matrix], x=[_short(p) for p in info.predicted], y=names,
            colorscale=BLUE_SCALE, showscale=False, xgap=2, ygap=2,
            hovertemplate="expected %{y}, answered %{x}: %{z}<extra></extra>",
        ),
        row=1, col=2,
    )  # fmt: skip
    figure.add_trace(_counts(info, names), row=1, col=2)
    height = max(320, 120 + 30 * len(names))
    figure.update_layout(**figure_layout(f"Accuracy on {clean(info.field)}", height=height))
    figure.update_xaxes(
        range=[0, 1.02], tickformat=".0%", title_text="share right", gridcolor="rgba(128,128,128,0.25)", row=1, col=1
    )
    figure.update_xaxes(title_text="answered", type="category", showgrid=False, row=1, col=2)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="expected", row=1, col=2)
    figure.update_annotations(font={"size": 12, "color": FONT_COLOR})
    figure.update_xaxes(title_font_size=12)
    figure.update_yaxes(title_font_size=12)
    return figure


def _counts(info: LabelsInfo, names: list[str]) -> Any:
    """Write each count into its cell; plotly's own choice of colour takes a faint cell for a light one, in the dark too."""
    import plotly.graph_objects as go

    top = max((count for row in info.matrix for count in row), default=0)
    cells = [
        (x, y, count) for y, row in zip(names, info.matrix, strict=True) for x, count in zip(info.predicted, row, strict=True)
    ]
    return go.Scatter(
        x=[_short(x) for x, _, _ in cells],
        y=[y for _, y, _ in cells],
        text=[str(count) for _, _, count in cells],
        mode="text",
        textfont={"color": ["#ffffff" if count > top / 2 else FONT_COLOR for _, _, count in cells]},
        hoverinfo="skip",
        showlegend=False,
    )


def _short(label: str, limit: int = 22) -> str:
    # Plotly reads a few tags (b, i, a href) in labels: what a model wrote must stay text.
    text = clean(label)[:limit] + ("…" if len(label) > limit else "")
    return text.replace("&", "&amp;").replace("<", "&lt;") or "(empty)"


def labels_svg(info: LabelsInfo) -> str:
    """Draw accuracy by label as bars, for where no plotly runs."""
    left, width, row = 150, 620, 26
    parts = [text_at(10, 20, f"Accuracy by label: {info.field}", css="onpage", size_px=13, more='font-weight="600"')]
    for i, (label, share) in enumerate(zip(info.labels, info.accuracies, strict=True)):
        y = 34 + i * row
        full = width - left - 70
        parts.append(text_at(left - 8, y + 14, text_fit(label, 12, left - 20), css="onpage", more='text-anchor="end"'))
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{full}" height="16" rx="3" fill="{GREY}" fill-opacity="0.15"/>')
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{full * share:.1f}" height="16" rx="3" fill="{BLUE}"/>')
        parts.append(text_at(left + full + 8, y + 14, f"{info.correct[i]}/{info.totals[i]}", css="onpage"))
    return document(width, 44 + row * len(info.labels), "".join(parts), f"accuracy by label of {info.field}")


def labels_line(info: LabelsInfo) -> str:
    """Return accuracy by label in one line of text."""
    rows: Sequence[tuple[str, int, int]] = list(zip(info.labels, info.correct, info.totals, strict=True))
    return ", ".join(f"{label} {right}/{total}" for label, right, total in rows)
