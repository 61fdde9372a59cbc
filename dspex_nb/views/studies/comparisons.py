"""Studies side by side: the best score of each over what it took, on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import Chart, chart, draw, nothing, plain, score_axis
from dspex_nb.views.formats import one_line, score_text
from dspex_nb.views.markup import AMBER, BLUE, GREEN, GREY, RED, VIOLET
from dspex_nb.views.studies.history import _spending_info
from dspex_nb.views.studies.snapshots import Numbers, StudySnapshot

TITLE = "Studies compared: best score so far"
AXES = ("trials", "calls", "tokens", "cost", "minutes")
_COLORS = (BLUE, GREEN, AMBER, VIOLET, RED, "#0ea5b7", "#d0589f", GREY)


@dataclass(frozen=True, slots=True)
class CompareInfo:
    """The best score of each study as a step line over one measure.

    Attributes:
        names: Of the studies, each once; `best` and `spent` a column each.
        start: Score of each program as it was, None where it was not measured.
    """

    metric: str
    by: str
    unit: str
    names: tuple[str, ...]
    spent: tuple[Numbers, ...]
    best: tuple[Numbers, ...]
    start: tuple[float | None, ...]


def _compare_info(snapshots: Sequence[StudySnapshot], by: str) -> CompareInfo:
    found = [_spending_info(snapshot, by) for snapshot in snapshots]
    names: list[str] = []
    for snapshot in snapshots:
        name = one_line(snapshot.facts.title, 48)
        names.append(name if name not in names else f"{name} ({snapshot.facts.study_id[-6:]})")
    metrics = dict.fromkeys(info.metric for info in found)
    return CompareInfo(
        " or ".join(metrics) or "score",
        by,
        found[0].unit if found else by,
        tuple(names),
        tuple(info.spent for info in found),
        tuple(info.best for info in found),
        tuple(snapshot.start for snapshot in snapshots),
    )


def comparison_chart(snapshots: Sequence[StudySnapshot], by: str = "calls") -> Chart:
    """Return the chart of several studies over one measure of `AXES`."""
    info = _compare_info(snapshots, by)
    scored = [i for i, best in enumerate(info.best) if len(best)]
    if not scored:
        return nothing(TITLE, "none of these studies has a scored trial")
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": plain(info.names[i]), "x": info.spent[i], "y": info.best[i],
            "line": {"shape": "hv", "color": _COLORS[i % len(_COLORS)], "width": 2.5},
            "marker": {"color": _COLORS[i % len(_COLORS)], "size": 6},
            "hovertemplate": f"{plain(info.names[i])}: %{{y:.3f}} after %{{x:,.4g}} {info.unit}<extra></extra>",
        }
        for i in scored
    ]  # fmt: skip
    best = max(scored, key=lambda i: info.best[i][-1])
    counted = "1 study" if len(scored) == 1 else f"{len(scored)} studies"
    alt = f"{counted}; best: {info.names[best]}, {score_text(float(info.best[best][-1]))}."
    mixed = "different metrics: the heights do not compare" if " or " in info.metric else ""
    made = chart(
        TITLE,
        traces,
        alt=alt,
        hint=mixed or f"by {info.unit}, answers from the cache counted" if by == "calls" else mixed or f"by {info.unit}",
        x={"title": info.unit, "rangemode": "tozero", "tickprefix": "$" if info.unit == "US dollars" else ""},
        y=score_axis(info.metric, np.concatenate([info.best[i] for i in scored])),
    )
    made.layout["margin"] |= {"t": 92 + 18 * max(len(traces) - 2, 0)}  # type: ignore[index]
    return made


def plot_comparison(snapshots: Sequence[StudySnapshot], by: str = "calls") -> Any:
    """Return a figure of several studies' best scores over what they took."""
    return draw(comparison_chart(snapshots, by))
