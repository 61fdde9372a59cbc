"""A figure before it is one: plotly's traces and layout as plain values, made in a millisecond and without importing plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dspex_nb.views.figures import FONT_COLOR, GRID, figure_layout
from dspex_nb.views.formats import one_line
from dspex_nb.views.markup import clean

SCORE_SCALE = [[0.0, "#a3abb5"], [0.5, "#3b82f6"], [1.0, "#14b86a"]]
"""From low to high, each readable on white and on black."""
MOST_POINTS = 2000
_HINT_PX = 12


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes:
        title: What it shows; `hint` how to read it, and what was left out.
        traces: Plotly's traces as dicts; their arrays may be numpy's.
        layout: Plotly's layout as a dict.
        alt: The same in words, for those who do not see it.
        empty: Why there is nothing to draw; empty where there is.
    """

    title: str
    traces: Sequence[Mapping[str, Any]] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    alt: str = ""
    hint: str = ""
    empty: str = ""


def chart(
    title: str,
    traces: Sequence[Mapping[str, Any]],
    *,
    alt: str,
    hint: str = "",
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    height: int = 380,
    **layout: Any,
) -> Chart:
    """Return a chart with titles, axes and margins as all figures here have them."""
    shared = figure_layout(plain(title), height=height)
    shared["title"] |= {
        "font": {"size": 14, "weight": 600}, "y": 1, "yref": "container", "pad": {"t": 12}, "x": 0, "xref": "container",
        "subtitle": {"text": plain(hint), "font": {"size": _HINT_PX, "color": FONT_COLOR}},
    }  # fmt: skip
    named = any(trace.get("name") and trace.get("showlegend", True) for trace in traces)
    shared["margin"] = {"l": 64, "r": 24, "t": 40 + (18 if hint else 0) + (24 if named else 0), "b": 44}
    shared["legend"] |= {"x": 0, "xanchor": "left", "y": 1.0, "font": {"size": 12}}
    shared["showlegend"] = named
    shared["meta"] = {"alt": alt}
    axis = {"gridcolor": GRID, "zeroline": False, "title": {"font": {"size": 12}, "standoff": 8}, "automargin": True}
    shared |= {"xaxis": _merged(axis, x or {}), "yaxis": _merged(axis, y or {}), **layout}
    return Chart(title, traces, shared, alt, hint)


def nothing(title: str, why: str) -> Chart:
    """Return a chart that says why it is empty."""
    axis = {"visible": False}
    words = [{"text": plain(why), "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "font": {"size": 13}}]
    made = chart(title, [], alt=f"{title}: {why}", x=axis, y=axis, height=180, annotations=words)
    return Chart(made.title, (), made.layout, made.alt, "", why)


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    made = {**base, **more}
    title = more.get("title")
    if isinstance(title, str):
        made["title"] = {**base["title"], "text": plain(title)}
    return made


def score_axis(metric: str, *values: NDArray[np.float64], hold: bool = False) -> dict[str, Any]:
    """Return a score's axis: as wide as the scores, or from 0 to 1 with `hold`."""
    found = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
    room = max((high - low) * 0.12, 0.02)
    span = (
        [0.0, 1.0]
        if hold
        else [max(low - room, -0.02 if low >= 0 else low - room), min(high + room, 1.03) if high <= 1 else high + room]
    )
    unit = " (0 to 1)" if high <= 1 and low >= 0 else ""
    return {"title": f"{one_line(metric, 40) or 'score'}{unit}", "range": span, "tickformat": ".2f"}


def plain(text: str) -> str:
    """Return text that plotly, which reads a few tags, shows as it is."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;")


def labels(texts: Sequence[Any], limit: int = 60) -> list[str]:
    """Return texts short enough for a hover label, as plotly shows them unchanged."""
    return [plain(one_line(str(text), limit)) for text in texts]


def thinned(values: NDArray[np.float64], most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Return positions of at most `most` values, in order: of every group of neighbours the lowest and the highest.

    The edge of the cloud, which is what one looks at, stays exact; only points between the two are left out.
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most // 2 + 1).astype(int)
    groups = list(pairwise(edges.tolist()))
    lows = [start + int(np.argmin(values[start:end])) for start, end in groups]
    highs = [start + int(np.argmax(values[start:end])) for start, end in groups]
    return np.unique(np.array([*lows, *highs, count - 1]))


def thinned_note(shown: int, total: int, noun: str = "trials") -> str:
    """Return the sentence that a thinned figure owes its reader, empty where all is shown."""
    if shown >= total:
        return ""
    return f"{shown:,} of {total:,} {noun} drawn: of every few neighbours the lowest and the highest"


def draw(made: Chart) -> Any:
    """Return the chart as a plotly figure that a saved notebook shows too."""
    from dspex_nb.views.still_figures import StillFigure

    return StillFigure({"data": [dict(trace) for trace in made.traces], "layout": dict(made.layout)})


def chart_json(name: str, made: Chart) -> str:
    """Return the chart as the front end takes it: `{"name", "data", "layout"}`, numpy's not-a-number as null."""
    spec = {"name": name, "data": made.traces, "layout": made.layout}
    return orjson.dumps(spec, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()


def _listed(value: Any) -> Any:
    """Return what orjson leaves to others as what it knows: arrays that are slices, numpy's own numbers."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
