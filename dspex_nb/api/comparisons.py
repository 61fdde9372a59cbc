"""`Comparison`: two evaluations beside each other: the difference, how sure it is, and the examples that changed."""

from __future__ import annotations

import functools
import json
from typing import Any, Protocol

from dspex_nb.api.displays import show
from dspex_nb.errors import DataError, did_you_mean
from dspex_nb.metrics import (
    Interval,
    Metric,
    PairedTest,
    approximate_randomization,
    bootstrap_interval,
    paired_interval,
    paired_test,
)
from dspex_nb.runs.evaluation import Scorecard, ScoredRow, measured
from dspex_nb.views import ChangeInfo, ComparisonInfo, ScoreInfo, comparison_html, comparison_text

_LISTED = 50


class Side(Protocol):
    """One of the two: an `Evaluation`, as far as comparing goes."""

    name: str
    card: Scorecard

    @property
    def frame(self) -> Any:
        """Its rows as a DataFrame."""


class Comparison:
    """Two evaluations on the examples that both have: what changed, and whether it is more than chance.

    Attributes:
        metric: What they are compared by.
        before: The earlier evaluation.
        after: The later one.
        left_out: How many examples only the earlier, and only the later one has.
    """

    def __init__(self, before: Side, after: Side, metric: str = "") -> None:
        self.before, self.after = before, after
        self._metric = _named(after, metric)
        _named(before, self._metric.name)
        self._pairs = _pairs(before, after)
        if not self._pairs:
            raise DataError(
                f"{before.name!r} and {after.name!r} have no example in common, so there is nothing to compare",
                hint="evaluate both on the same data",
            )
        self.left_out = (len(before.card.rows) - len(self._pairs), len(after.card.rows) - len(self._pairs))
        self._old = [old.scores[self.metric] for old, _ in self._pairs]
        self._new = [new.scores[self.metric] for _, new in self._pairs]
        self.changes = [new - old for old, new in zip(self._old, self._new, strict=True)]
        self.lower_is_better = self._metric.lower_is_better

    @property
    def metric(self) -> str:
        """The metric's name."""
        return self._metric.name

    @functools.cached_property
    def difference(self) -> Interval:
        """After minus before, paired by example, with its 95% confidence interval."""
        whole = self._whole
        if whole is not None:
            n = len(self._pairs)
            return bootstrap_interval(n, lambda numbers: whole(numbers + n) - whole(numbers))
        old, new = self._measured
        return paired_interval(old, new)

    @functools.cached_property
    def test(self) -> PairedTest:
        """The paired test of no difference that fits the metric: its name and p-value."""
        if self._whole is not None:
            return PairedTest("approximate randomization", approximate_randomization(len(self._pairs), self._whole))
        return paired_test(*self._measured)

    @functools.cached_property
    def _whole(self) -> Any:
        """The metric over row numbers, the later evaluation's behind the earlier's; None for a mean of the rows' scores."""
        total = self._metric.total
        return None if total is None else total(measured(self._metric, [side[at] for at in (0, 1) for side in self._pairs]))

    @property
    def _measured(self) -> tuple[list[float], list[float]]:
        kept = [at for at, (old, new) in enumerate(self._pairs) if not self.lower_is_better or old.error is new.error is None]
        return [self._old[at] for at in kept], [self._new[at] for at in kept]

    @functools.cached_property
    def frame(self) -> Any:
        """A DataFrame of the examples that changed, worst first."""
        both = self._records()
        return both[both["change"] != 0].sort_values("change", ascending=not self.lower_is_better, kind="stable")

    @property
    def wins(self) -> Any:
        """The examples that became better, the largest change first."""
        frame = self.frame
        won = frame[(frame["change"] < 0) if self.lower_is_better else (frame["change"] > 0)]
        return won.sort_values("change", ascending=self.lower_is_better, kind="stable")

    @property
    def losses(self) -> Any:
        """The examples that became worse, the largest change first."""
        frame = self.frame
        return frame[(frame["change"] > 0) if self.lower_is_better else (frame["change"] < 0)]

    @property
    def regressions(self) -> Any:
        """The examples that were right before, or as good as can be, and no longer are."""
        best = 0 if self.lower_is_better else 1
        losses = self.losses
        return losses[losses["before"] == best]

    def _records(self) -> Any:
        after = self.after.frame.loc[[new.index for _, new in self._pairs]]
        answers = {name for old, new in self._pairs for name in (*old.outputs, *new.outputs)}
        earlier = {f"before_{name}": [old.outputs.get(name) for old, _ in self._pairs] for name in sorted(answers)}
        return after.assign(**earlier, before=self._old, change=self.changes)

    def info(self) -> ComparisonInfo:
        """Return the values that the view draws."""
        spread, changed = self.difference, any(self.changes)
        better = [change < 0 if self.lower_is_better else change > 0 for change in self.changes]
        worse = [change > 0 if self.lower_is_better else change < 0 for change in self.changes]
        lost = sorted((at for at, is_worse in enumerate(worse) if is_worse), key=lambda at: -abs(self.changes[at]))
        won = sorted((at for at, is_better in enumerate(better) if is_better), key=lambda at: -abs(self.changes[at]))
        return ComparisonInfo(
            metric=self.metric,
            before=self._score_info("before", self.before, self._old, 0),
            after=self._score_info("after", self.after, self._new, 1),
            interval=(spread.low, spread.high) if changed else None,
            fixed=None if self.lower_is_better else sum(better),
            broken=None if self.lower_is_better else sum(worse),
            lower_is_better=self.lower_is_better,
            test=self.test.name if changed else "",
            p_value=self.test.p_value if changed else None,
            left_out=self.left_out,
            losses=[self._change(at) for at in lost[:_LISTED]],
            wins=[self._change(at) for at in won[:_LISTED]],
            lost=len(lost),
            won=len(won),
        )

    def _score_info(self, label: str, side: Side, scores: list[float], at: int) -> ScoreInfo:
        if not any(self.left_out):
            interval = side.card.intervals[self.metric]
        else:
            interval = self._metric.over(measured(self._metric, [pair[at] for pair in self._pairs]))
        return ScoreInfo(label, interval.mean, (interval.low, interval.high), len(scores))

    def _change(self, at: int) -> ChangeInfo:
        old, new = self._pairs[at]
        asked = self.metric.partition(":")[2].split(",")
        return ChangeInfo(
            new.index, new.inputs, new.labels, _answer(old, asked), _answer(new, asked), self._old[at], self._new[at]
        )

    def __repr__(self) -> str:
        return comparison_text(self.info())

    def _ipython_display_(self) -> None:
        self.show()

    def show(self) -> None:
        """Display it."""
        show(comparison_html(self.info()), comparison_text(self.info()))


def compare(before: Side, after: Side, metric: str = "") -> Comparison:
    """Return two evaluations beside each other; what `after.compare(before)` returns.

    Args:
        before: The earlier one.
        after: The later one.
        metric: The metric's name; by default the later one's first.

    Raises:
        DataError: They have no example, or not this metric, in common.
    """
    return Comparison(before, after, metric)


def _named(side: Side, name: str) -> Metric:
    known = {metric.name: metric for metric in side.card.metrics}
    if not name:
        return side.card.metrics[0]
    if name not in known:
        raise DataError(
            f"{side.name!r} was not evaluated by {name!r}", hint=f"{did_you_mean(name, known)}it has {', '.join(known)}"
        )
    return known[name]


def _pairs(before: Side, after: Side) -> list[tuple[ScoredRow, ScoredRow]]:
    """Return the rows of the same example, in the later one's order; an example that is there twice is paired twice."""
    earlier: dict[str, list[ScoredRow]] = {}
    for row in before.card.rows:
        earlier.setdefault(_example_key(row), []).append(row)
    found = []
    for row in after.card.rows:
        same = earlier.get(_example_key(row))
        if same:
            found.append((same.pop(0), row))
    return found


def _example_key(row: ScoredRow) -> str:
    from dspex_nb.runs.row_files import plain

    return json.dumps([row.inputs, row.labels], sort_keys=True, default=plain, ensure_ascii=False)


def _answer(row: ScoredRow, asked: list[str]) -> dict[str, Any]:
    if row.error:
        return {"error": row.error}
    return {name: value for name, value in row.outputs.items() if name in asked} or dict(row.outputs)
