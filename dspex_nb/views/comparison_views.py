"""Two scores side by side, and a sentence that says no more than the numbers allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.views.example_tables import fields_html
from dspex_nb.views.formats import interval_text, plural, score_text
from dspex_nb.views.markup import AMBER, GREEN, RED, Html, bar, details, frame, heading, join, mark, muted, notice, tag
from dspex_nb.views.tables import Column, number, rest_note, table_html, table_text


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """A score under a label (`"before"`, `"after"`), its 95% confidence interval, and over how many examples."""

    label: str
    score: float
    interval: tuple[float, float] | None = None
    examples: int = 0


@dataclass(frozen=True, slots=True)
class ChangeInfo:
    """An example whose score changed: what was answered before and after, and both scores."""

    index: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    old: float = 0.0
    new: float = 0.0


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
        test: The paired test's name, empty if nothing changed or it was not made.
        p_value: How likely so large a difference is where there is none.
        left_out: Examples that only the first, and only the second has.
        losses: Examples that became worse, the worst first.
        wins: Examples that became better, the best first.
        lost: How many became worse, those not listed too.
        won: How many became better.
    """

    metric: str
    before: ScoreInfo
    after: ScoreInfo
    interval: tuple[float, float] | None = None
    fixed: int | None = None
    broken: int | None = None
    title: str = "before and after"
    lower_is_better: bool = False
    test: str = ""
    p_value: float | None = None
    left_out: tuple[int, int] = (0, 0)
    losses: Sequence[ChangeInfo] = ()
    wins: Sequence[ChangeInfo] = ()
    lost: int = 0
    won: int = 0

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
    parts = []
    if info.fixed is not None and info.broken is not None:
        parts.append(f"{plural(info.fixed, 'example')} wrong before and right after, {info.broken:,} the other way round.")
    elif info.won or info.lost:
        parts.append(f"{plural(info.won, 'example')} became better, {info.lost:,} worse.")
    if info.test and info.p_value is not None:
        parts.append(f"{info.test[:1].upper()}{info.test[1:]}: p {_p_text(info.p_value)}.")
    return " ".join(parts)


def _p_text(p_value: float) -> str:
    return "< 0.001" if p_value < _SMALL else f"= {p_value:.3f}"


_SMALL = 0.001


def _other_sets(info: ComparisonInfo) -> str:
    """Say which examples are not compared, empty if all are."""
    first, second = info.left_out
    if not first and not second:
        return ""
    parts = [f"{count:,} only {label}" for count, label in ((first, info.before.label), (second, info.after.label)) if count]
    both = plural(info.after.examples, "example")
    return f"The sets differ: {both} in common are compared, {' and '.join(parts)} left out."


def _listed(title: str, state: str, changes: Sequence[ChangeInfo], of: int) -> Html:
    if not changes:
        return Html("")
    columns = [
        number("#"),
        Column("Inputs", width="34%"),
        Column("Expected"),
        Column("Before"),
        Column("After"),
        number("Change"),
    ]
    rows = [
        (str(c.index), fields_html(c.inputs), fields_html(c.expected), fields_html(c.before), fields_html(c.after),
         f"{score_text(c.old)} → {score_text(c.new)}")
        for c in changes
    ]  # fmt: skip
    shown = join(table_html(columns, rows, limit=None), rest_note(len(changes), of, f".{title}"))
    return details(join(mark(state), f" {of:,} {title}"), shown)


def comparison_html(info: ComparisonInfo) -> str:
    """Draw a comparison as HTML."""
    color = {"better": GREEN, "worse": RED}.get(info.verdict, AMBER)
    rows = [
        (
            tag("strong", s.label, style="font-weight: 600;"),
            Html(bar(s.score, width="110px")),
            score_text(s.score),
            interval_text(s.interval),
            f"{s.examples:,}" if s.examples else "",
        )
        for s in (info.before, info.after)
    ]
    columns = [
        Column("", wrap=False),
        Column("", width="120px"),
        number(info.metric),
        Column("", wrap=False),
        number("Examples"),
        Column("", width="30%"),
    ]
    changes = tag("div", muted(_changes(info)), style="font-size: 12px;") if _changes(info) else ""
    other = _other_sets(info)
    return frame(
        heading(info.title),
        table_html(columns, [(*row, Html("")) for row in rows]),
        notice(comparison_sentence(info), changes, color=color),
        notice(other, color=AMBER) if other else "",
        _listed("losses", "failed", info.losses, info.lost),
        _listed("wins", "done", info.wins, info.won),
    )


def comparison_text(info: ComparisonInfo) -> str:
    """Write a comparison as text."""
    rows = [(s.label, score_text(s.score), interval_text(s.interval), s.examples or "") for s in (info.before, info.after)]
    table = table_text(["", number(info.metric), "", number("examples")], rows)
    return "\n".join(part for part in (table, comparison_sentence(info), _changes(info), _other_sets(info)) if part)
