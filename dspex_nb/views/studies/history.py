"""A study's scores over its trials, and over what was spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import MOST_POINTS, Chart, chart, draw, labels, nothing, score_axis, thinned, thinned_note
from dspex_nb.views.formats import count_text, plural, score_text
from dspex_nb.views.markup import BLUE, GREEN, GREY
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot, Texts

TITLE = "Score of each trial, and the best so far"
_MANY = 500
SPENDING = "Best score so far against what was spent"


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """The scored trials as columns of equal length, and the best so far as a step line.

    Attributes:
        number: Trials drawn, ascending: all, or of every group of neighbours the lowest and the highest score.
        part: Which of them were scored on a part of the validation set.
        best_at: Trials at which the best score rose, and the last one; `best` the score from there on.
        start: Score of the program as it was, None if unknown.
        total: Trials with a score.
    """

    metric: str
    number: Counts
    score: Numbers
    part: Any
    label: Texts
    best_at: Counts
    best: Numbers
    start: float | None
    total: int


def _history_info(snapshot: StudySnapshot) -> HistoryInfo:
    trials = snapshot.trials
    scored = np.flatnonzero(trials.scored)
    # Each kind is thinned by itself: scores on parts scatter most, and would take the place of those that count.
    groups = [np.flatnonzero(trials.whole), np.flatnonzero(trials.scored & trials.part)]
    shown = np.sort(np.concatenate([group[thinned(trials.score[group], MOST_POINTS // 2)] for group in groups]))
    at, best = _steps(snapshot, trials.number.astype(float))
    return HistoryInfo(
        snapshot.facts.metric or "score",
        trials.number[shown],
        trials.score[shown],
        trials.part[shown],
        trials.label[shown],
        at.astype(int),
        best,
        snapshot.start,
        len(scored),
    )


def _steps(snapshot: StudySnapshot, along: Numbers) -> tuple[Numbers, Numbers]:
    """Return where the best score rose, measured along a column that never falls, and how it stood; the last place too."""
    rivals = np.flatnonzero(snapshot.rivals)
    if not len(rivals):
        return np.zeros(0), np.zeros(0)
    best = np.maximum.accumulate(snapshot.trials.score[rivals])
    rose = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
    end = along[np.flatnonzero(snapshot.trials.scored)[-1]]
    return np.append(along[rivals][rose], end), np.append(best[rose], best[-1])


def history_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of scores over trials."""
    return _history_chart(_history_info(snapshot))


def _history_chart(info: HistoryInfo) -> Chart:
    if not info.total:
        return nothing(TITLE, "no trial has been scored yet")
    traces: list[dict[str, Any]] = []
    few = 2 if info.total < _MANY else 0
    for part, name, color, size in ((True, "trial on a part of the examples", GREY, 3 + few), (False, "trial", BLUE, 5 + few)):
        chosen = info.part == part
        if chosen.any():
            hover = list(zip(info.number[chosen].tolist(), labels(info.label[chosen].tolist()), strict=True))
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": name, "x": info.number[chosen], "y": info.score[chosen],
                    "customdata": hover, "marker": {"color": color, "size": size, "opacity": 0.75},
                    "hovertemplate": "trial %{x}: %{y:.3f}<br>%{customdata[1]}<extra></extra>",
                }
            )  # fmt: skip
    traces.append(
        {
            "type": "scatter", "mode": "lines", "name": "best so far", "x": info.best_at, "y": info.best,
            "line": {"shape": "hv", "color": GREEN, "width": 2.5}, "hovertemplate": "best so far %{y:.3f}<extra></extra>",
        }
    )  # fmt: skip
    if info.start is not None:
        ends = [int(info.number[0]), max(int(info.number[-1]), int(info.number[0]) + 1)]
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": "start", "x": ends, "y": [info.start] * 2,
                "line": {"dash": "dash", "color": GREY, "width": 1.5}, "hovertemplate": "start %{y:.3f}<extra></extra>",
            }
        )  # fmt: skip
    scores = np.append(info.score, [] if info.start is None else [info.start])
    last = int(info.number[-1]) + 1
    ticks = {"dtick": 1} if last <= 20 else {}  # noqa: PLR2004 - more ticks than that run into each other
    return chart(
        TITLE,
        traces,
        alt=_history_words(info),
        hint=thinned_note(len(info.number), info.total),
        x={"title": "trial", **ticks},
        y=score_axis(info.metric, scores),
    )


def _history_words(info: HistoryInfo) -> str:
    start = f", start {score_text(info.start)}" if info.start is not None else ""
    best = f"best {score_text(float(info.best[-1]))} (trial {info.best_at[-2] if len(info.best_at) > 1 else info.best_at[-1]})"
    low, high = score_text(float(info.score.min())), score_text(float(info.score.max()))
    return f"Scores of {plural(info.total, 'trial')} between {low} and {high}; {best}{start}."


def plot_history(snapshot: StudySnapshot) -> Any:
    """Return a figure of each trial's score, the best so far as a step line, and the start as a dashed line."""
    return draw(history_chart(snapshot))


@dataclass(frozen=True, slots=True)
class SpendingInfo:
    """The best score so far as a step line over what was spent by then.

    Attributes:
        spent: Dollars, or tokens where prices are unknown or nothing, by the end of the trial.
        unit: `"US dollars"`, `"tokens"` or `"LM calls"`.
    """

    metric: str
    spent: Numbers
    best: Numbers
    unit: str


def _spending_info(snapshot: StudySnapshot, by: str = "") -> SpendingInfo:
    """Sum up what the trials took; `by` is `"cost"`, `"tokens"`, `"calls"` or empty for the first that says something."""
    trials = snapshot.trials
    columns = {
        "cost": (np.nan_to_num(trials.cost), "US dollars"),
        "tokens": (trials.tokens.astype(float), "tokens"),
        "calls": ((trials.calls + trials.cache_hits).astype(float), "LM calls"),
        "minutes": (np.nan_to_num(trials.elapsed_s) / 60, "minutes"),
        "trials": (np.ones(len(trials)), "trials"),
    }
    chosen = by or next((name for name in ("cost", "tokens", "calls") if columns[name][0].sum() > 0), "calls")
    column, unit = columns[chosen]
    spent, best = _steps(snapshot, np.cumsum(column))
    return SpendingInfo(snapshot.facts.metric or "score", spent, best, unit)


def spending_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of the best score over what was spent."""
    info = _spending_info(snapshot)
    if not len(info.best):
        return nothing(SPENDING, "no trial has been scored yet")
    money = info.unit == "US dollars"
    gain = (
        f"Best score from {score_text(float(info.best[0]))} to {score_text(float(info.best[-1]))}"
        f" over {'$' if money else ''}{info.spent[-1]:,.4g} {info.unit}."
    )
    trace = {
        "type": "scatter", "mode": "lines+markers", "name": "best so far", "x": info.spent, "y": info.best,
        "line": {"shape": "hv", "color": GREEN, "width": 2.5}, "marker": {"color": GREEN, "size": 7},
        "hovertemplate": f"%{{y:.3f}} after %{{x:,.4g}} {info.unit}<extra></extra>",
    }  # fmt: skip
    hint = "" if money else f"in {info.unit}: the price of these calls is unknown or nothing"
    if money and snapshot.facts.unpriced:
        hint = f"{count_text(snapshot.facts.unpriced)} calls of unknown price are not in it"
    x = {"title": f"spent by then ({info.unit})", "tickprefix": "$" if money else "", "rangemode": "tozero"}
    return chart(SPENDING, [trace], alt=gain, hint=hint, x=x, y=score_axis(info.metric, info.best))


def plot_spending(snapshot: StudySnapshot) -> Any:
    """Return a figure of the best score so far over what was spent by then."""
    return draw(spending_chart(snapshot))
