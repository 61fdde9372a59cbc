"""Two scores side by side, and a sentence that says no more than the numbers allow."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_nb.views.formats import interval_text, plural, score_text
from dspex_nb.views.markup import AMBER, GREEN, RED, Html, bar, frame, heading, muted, notice, tag
from dspex_nb.views.tables import Column, number, table_html, table_text


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """A score under a label (`"before"`, `"after"`), its 95% confidence interval, and over how many examples."""

    label: str
    score: float
    interval: tuple[float, float] | None = None
    examples: int = 0


@dataclass(frozen=True, slots=True)
class ComparisonInfo:
    """Two measurements of one metric.

    Attributes:
        metric: The metric's name.
        before: The first.
        after: The second.
        interval: 95% confidence interval of after minus before, paired by example; None if it was not computed.
        fixed: Examples wrong before and right after, None if unknown.
        broken: Examples right before and wrong after, None if unknown.
        title: The heading.
        lower_is_better: The metric's direction.
    """

    metric: str
    before: ScoreInfo
    after: ScoreInfo
    interval: tuple[float, float] | None = None
    fixed: int | None = None
    broken: int | None = None
    title: str = "before and after"
    lower_is_better: bool = False

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after.score - self.before.score

    @property
    def verdict(self) -> str:
        """`"better"`, `"worse"`, `"same"` (no difference at all) or `"unclear"` (within chance)."""
        if self.difference == 0:
            return "same"
        low, high = self.interval or self._apart()
        if low <= 0 <= high:
            return "unclear"
        return "better" if (self.difference > 0) is not self.lower_is_better else "worse"

    def _apart(self) -> tuple[float, float]:
        """Return bounds of the difference from the two intervals alone: wider than a paired one, never too sure."""
        before, after = self.before.interval, self.after.interval
        return (after[0] - before[1], after[1] - before[0]) if before and after else (-1.0, 1.0)


def comparison_sentence(info: ComparisonInfo) -> str:
    """Say honestly whether it helped."""
    how = f"from {info.before.score:.3f} to {info.after.score:.3f} ({info.difference:+.3f})"
    over = f" on {plural(info.after.examples, 'example')}" if info.after.examples else ""
    measured = (
        f"; the difference is {info.interval[0]:+.3f} to {info.interval[1]:+.3f} with 95% confidence" if info.interval else ""
    )
    went = "rose" if info.difference > 0 else "fell"
    if info.verdict == "better":
        return f"It helped: {info.metric} {went} {how}{over}{measured}."
    if info.verdict == "worse":
        return f"It made things worse: {info.metric} {went} {how}{over}{measured}."
    if info.verdict == "same":
        return f"It changed nothing: {info.metric} is {info.before.score:.3f} both times{over}."
    return f"No clear difference: {info.metric} {went} {how}{over}, which chance alone can explain{measured}."


def _changes(info: ComparisonInfo) -> str:
    if info.fixed is None or info.broken is None:
        return ""
    return f"{plural(info.fixed, 'example')} wrong before and right after, {info.broken:,} the other way round."


def comparison_html(info: ComparisonInfo) -> str:
    """Draw a comparison as HTML."""
    color = {"better": GREEN, "worse": RED}.get(info.verdict, AMBER)
    rows = [
        (
            tag("strong", s.label, style="font-weight: 600;"),
            Html(bar(s.score, width="180px")),
            score_text(s.score),
            interval_text(s.interval),
            f"{s.examples:,}" if s.examples else "",
        )
        for s in (info.before, info.after)
    ]
    columns = [
        Column("", wrap=False),
        Column("", width="190px"),
        number(info.metric),
        Column("", wrap=False),
        number("Examples"),
        Column("", width="30%"),
    ]
    changes = tag("div", muted(_changes(info)), style="font-size: 12px;") if _changes(info) else ""
    return frame(
        heading(info.title),
        table_html(columns, [(*row, Html("")) for row in rows]),
        notice(comparison_sentence(info), changes, color=color),
    )


def comparison_text(info: ComparisonInfo) -> str:
    """Write a comparison as text."""
    rows = [(s.label, score_text(s.score), interval_text(s.interval), s.examples or "") for s in (info.before, info.after)]
    table = table_text(["", number(info.metric), "", number("examples")], rows)
    return "\n".join(part for part in (table, comparison_sentence(info), _changes(info)) if part)
