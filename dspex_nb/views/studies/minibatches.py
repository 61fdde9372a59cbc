"""Minibatch against full: how well a score on a part foretold the score on the whole set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import MOST_POINTS, Chart, chart, draw, nothing, score_axis, thinned, thinned_note
from dspex_nb.views.formats import plural
from dspex_nb.views.markup import BLUE, GREY
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot

TITLE = "Score on a part against score on the whole set"


@dataclass(frozen=True, slots=True)
class MinibatchInfo:
    """Candidates that were scored both ways; columns of equal length.

    Attributes:
        number: The trial on the whole set.
        part: Mean of the candidate's scores on parts, of `parts` of them; `whole` its score on the whole set.
        only_part: Candidates that were never scored on the whole set.
        total: Candidates scored both ways.
    """

    metric: str
    number: Counts
    part: Numbers
    whole: Numbers
    parts: Counts
    only_part: int
    total: int


def _minibatch_info(snapshot: StudySnapshot) -> MinibatchInfo:
    trials = snapshot.trials
    small = trials.scored & trials.part
    whole = trials.whole
    size = int(trials.candidate.max()) + 1 if len(trials) else 0
    count = np.bincount(trials.candidate[small], minlength=size)
    total = np.bincount(trials.candidate[small], weights=trials.score[small], minlength=size)
    numbers = np.full(size, -1)
    numbers[trials.candidate[whole]] = np.flatnonzero(whole)
    both = np.flatnonzero((count > 0) & (numbers >= 0))
    at = numbers[both]
    chosen = thinned(trials.score[at], MOST_POINTS)
    return MinibatchInfo(
        snapshot.facts.metric or "score",
        trials.number[at][chosen],
        (total[both] / count[both])[chosen],
        trials.score[at][chosen],
        count[both][chosen],
        int(((count > 0) & (numbers < 0)).sum()),
        len(both),
    )


def minibatch_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of scores on parts against scores on the whole set."""
    info = _minibatch_info(snapshot)
    if not info.total:
        tried = "no candidate was scored on the whole set after a part of it"
        why = tried if info.only_part else "no trial was scored on a part: this optimizer scores whole sets only"
        return nothing(TITLE, why)
    both = np.concatenate([info.part, info.whole])
    low, high = float(both.min()), float(both.max())
    axis = score_axis(info.metric, both)
    points = {
        "type": "scatter", "mode": "markers", "name": "candidate", "x": info.part, "y": info.whole, "showlegend": False,
        "customdata": list(zip(info.number.tolist(), info.parts.tolist(), strict=True)),
        "marker": {"color": BLUE, "size": 8, "opacity": 0.7},
        "hovertemplate": "trial %{customdata[0]}: %{x:.3f} on %{customdata[1]} part(s), %{y:.3f} on all<extra></extra>",
    }  # fmt: skip
    same = {
        "type": "scatter", "mode": "lines", "name": "as foretold", "x": [low, high], "y": [low, high], "hoverinfo": "skip",
        "line": {"dash": "dash", "color": GREY, "width": 1.5},
    }  # fmt: skip
    above = int((info.part > info.whole).sum())
    mean = float(np.mean(info.part - info.whole))
    alt = (
        f"Of {plural(info.total, 'candidate')} {above} scored higher on a part than on the whole set, on average by {mean:+.3f}."
    )
    hint = thinned_note(len(info.number), info.total, "candidates") or "below the line: a part of the examples promised too much"
    x = {**axis, "title": f"mean {axis['title']} on parts"}
    return chart(TITLE, [same, points], alt=alt, hint=hint, x=x, y={**axis, "title": f"{axis['title']} on all"})


def plot_minibatch(snapshot: StudySnapshot) -> Any:
    """Return a figure of candidates' scores on parts against their scores on the whole set."""
    return draw(minibatch_chart(snapshot))
