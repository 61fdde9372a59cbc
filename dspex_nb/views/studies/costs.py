"""Score against cost: what the candidates would cost to use, and which of them nothing cheaper beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import Chart, chart, draw, labels, nothing, score_axis, thinned, thinned_note
from dspex_nb.views.formats import plural, score_text
from dspex_nb.views.markup import AMBER, BLUE
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot, Texts

TITLE = "Score against the cost of a candidate"
_PER = 1000


@dataclass(frozen=True, slots=True)
class CostInfo:
    """Trials scored on the whole set, by what an example cost them; columns of equal length.

    Attributes:
        cost: US dollars a thousand examples, cached answers at their price; or tokens an example where prices are unknown.
        unit: What `cost` is in.
        front: Which no other beats in both: as good for less, or better for as much.
        total: How many there are with a known cost.
    """

    metric: str
    number: Counts
    cost: Numbers
    score: Numbers
    label: Texts
    front: Any
    unit: str
    total: int


def _cost_info(snapshot: StudySnapshot) -> CostInfo:
    trials = snapshot.trials
    with np.errstate(divide="ignore", invalid="ignore"):
        dollars = (np.nan_to_num(trials.cost) + np.nan_to_num(trials.saved)) / trials.examples * _PER
        tokens = trials.tokens / trials.examples
    money = bool(np.nansum(np.where(np.isfinite(dollars), dollars, 0)) > 0)
    cost = dollars if money else tokens
    chosen = np.flatnonzero(snapshot.rivals & np.isfinite(cost) & (cost > 0))
    front = np.zeros(len(trials), bool)
    by_cost = chosen[np.lexsort((-trials.score[chosen], cost[chosen]))]
    if len(by_cost):
        best = np.maximum.accumulate(trials.score[by_cost])
        front[by_cost[np.diff(best, prepend=-np.inf) > 0]] = True
    shown = np.union1d(chosen[thinned(trials.score[chosen])], np.flatnonzero(front)).astype(int)
    return CostInfo(
        snapshot.facts.metric or "score",
        trials.number[shown],
        cost[shown],
        trials.score[shown],
        trials.label[shown],
        front[shown],
        "US dollars per 1,000 examples" if money else "tokens per example",
        len(chosen),
    )


def cost_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of scores over what a candidate costs."""
    info = _cost_info(snapshot)
    if not info.total:
        return nothing(TITLE, "no scored trial has a known cost or number of tokens yet")
    money = info.unit.startswith("US")
    hover = list(zip(info.number.tolist(), labels(info.label.tolist()), strict=True))
    points = {
        "type": "scatter", "mode": "markers", "name": "trial", "x": info.cost, "y": info.score, "customdata": hover,
        "marker": {"color": BLUE, "size": 7 if info.total < 500 else 5, "opacity": 0.6},  # noqa: PLR2004
        "hovertemplate": f"trial %{{customdata[0]}}: %{{y:.3f}} at %{{x:,.4g}} {info.unit}<br>%{{customdata[1]}}<extra></extra>",
    }  # fmt: skip
    order = np.argsort(info.cost[info.front])
    x, y, numbers = info.cost[info.front][order], info.score[info.front][order], info.number[info.front][order]
    front = {
        "type": "scatter", "mode": "lines+markers", "name": "nothing cheaper is as good", "x": x, "y": y,
        "customdata": [[int(n), ""] for n in numbers],
        "line": {"shape": "hv", "color": AMBER, "width": 2}, "marker": {"color": AMBER, "size": 9},
        "hovertemplate": f"trial %{{customdata[0]}}: %{{y:.3f}} at %{{x:,.4g}} {info.unit}<extra></extra>",
    }  # fmt: skip
    sign = "$" if money else ""
    ends = [f"{score_text(float(y[i]))} at {sign}{x[i]:,.4g}" for i in (0, -1)]
    alt = f"{plural(info.total, 'trial')}, {len(x)} of them not beaten at their cost: from {ends[0]} to {ends[1]} {info.unit}."
    axis = {"title": info.unit, "tickprefix": sign}
    hint = thinned_note(len(info.number), info.total) or "up and to the left is better"
    return chart(TITLE, [points, front], alt=alt, hint=hint, x=axis, y=score_axis(info.metric, info.score))


def plot_cost(snapshot: StudySnapshot) -> Any:
    """Return a figure of each candidate's score against what it costs to use."""
    return draw(cost_chart(snapshot))
