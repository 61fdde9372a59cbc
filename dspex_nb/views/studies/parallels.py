"""Parallel coordinates: a line a trial through what was chosen, what it took and what it scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import SCORE_SCALE, Chart, chart, draw, nothing, plain
from dspex_nb.views.formats import one_line, plural, value_text
from dspex_nb.views.studies.choices import choice_names, value_order
from dspex_nb.views.studies.snapshots import Numbers, StudySnapshot, Texts

TITLE = "Choices, costs and score of each trial"
MOST_LINES = 600
_MOST_CHOICES = 5
_MOST_WORDS = 12
_FEW = 20


@dataclass(frozen=True, slots=True)
class ParallelAxis:
    """One axis: its values by trial, and its ticks where they are names."""

    name: str
    values: Numbers
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParallelInfo:
    """Axes of equal length, the score last; a position a trial.

    Attributes:
        shown: Trials drawn; `total` those with a score.
    """

    axes: tuple[ParallelAxis, ...]
    score: Numbers
    shown: int
    total: int


def _parallel_info(snapshot: StudySnapshot) -> ParallelInfo:
    trials = snapshot.trials
    rivals = np.flatnonzero(snapshot.rivals)
    if len(rivals) < _FEW:  # MIPROv2 tries most of its choices on parts alone
        rivals = np.flatnonzero(trials.scored)
    rows = rivals[_spread(trials.score[rivals])]
    chosen = list(snapshot.params.items())[:_MOST_CHOICES]
    axes = [_choice_axis(name, column[rows]) for name, (_, column) in zip(choice_names(snapshot.params), chosen, strict=False)]
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = trials.tokens / trials.examples
    demos = trials.demos.astype(float)
    measured = [
        ("demos", np.where(demos < 0, np.nan, demos)),
        ("characters", trials.words.astype(float)),
        ("tokens", np.where(np.isfinite(tokens), tokens, np.nan)),
        ("seconds", trials.elapsed_s),
    ]
    axes += [
        ParallelAxis(name, values[rows])
        for name, values in measured
        if len(np.unique(values[rows][np.isfinite(values[rows])])) > 1
    ]
    score = ParallelAxis(one_line(snapshot.facts.metric or "score", 24), trials.score[rows])
    return ParallelInfo((*axes, score), trials.score[rows], len(rows), len(rivals))


def _spread(score: Numbers) -> Any:
    """Return positions of at most `MOST_LINES` trials: the best tenth of them, and the rest evenly by score."""
    if len(score) <= MOST_LINES:
        return np.arange(len(score))
    order = np.argsort(-score, kind="stable")
    best = order[: MOST_LINES // 10]
    rest = order[MOST_LINES // 10 :]
    return np.sort(np.concatenate([best, rest[np.linspace(0, len(rest) - 1, MOST_LINES - len(best)).astype(int)]]))


def _choice_axis(name: str, column: Texts) -> ParallelAxis:
    values = sorted({value for value in column.tolist() if value is not None}, key=value_order)
    codes = {value: i for i, value in enumerate(values)}
    coded = np.array([codes.get(value, np.nan) if value is not None else np.nan for value in column.tolist()], float)
    return ParallelAxis(name, coded, tuple(one_line(value_text(value), 10) for value in values))


def parallel_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of parallel coordinates."""
    info = _parallel_info(snapshot)
    if info.total < 2 or len(info.axes) < 2:  # noqa: PLR2004 - one line, or one axis, compares nothing
        return nothing(TITLE, "it needs two scored trials that differ in something")
    dimensions = []
    for axis in info.axes:
        low, high = float(np.nanmin(axis.values)), float(np.nanmax(axis.values))
        made: dict[str, Any] = {
            "label": plain(one_line(axis.name, 18)),
            "values": np.nan_to_num(axis.values, nan=low),
            "range": [low, high if high > low else low + 1],
        }
        if axis.ticks:
            every = max(len(axis.ticks) // _MOST_WORDS, 1)
            made |= {"tickvals": list(range(0, len(axis.ticks), every)), "ticktext": list(axis.ticks[::every])}
        dimensions.append(made)
    color = {
        "color": info.score, "colorscale": SCORE_SCALE, "showscale": True,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9, "tickformat": ".2f", "x": 1.04},
    }  # fmt: skip
    trace = {
        "type": "parcoords", "dimensions": dimensions, "line": color, "labelfont": {"size": 12}, "tickfont": {"size": 11},
        "unselected": {"line": {"color": "#8a929c", "opacity": 0.12}}, "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
    }  # fmt: skip
    hints = ["drag along an axis to pick lines"]
    if info.shown < info.total:
        hints.insert(0, f"{info.shown} of {info.total:,} trials: the best, the rest evenly by score")
    if info.total > snapshot.rivals.sum():
        hints.insert(0, "scores on parts among them")
    alt = f"{plural(info.shown, 'trial')} as lines through {', '.join(axis.name for axis in info.axes)}."
    made_chart = chart(TITLE, [trace], alt=alt, hint="; ".join(hints), height=400)
    made_chart.layout["margin"] |= {"l": 56, "r": 30, "t": 100}  # type: ignore[index]
    return made_chart


def plot_parallel(snapshot: StudySnapshot) -> Any:
    """Return a figure of parallel coordinates: choices, demos, tokens, seconds and score."""
    return draw(parallel_chart(snapshot))
