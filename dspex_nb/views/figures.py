"""What all plotly figures share: no background, a font grey that reads on white and on black, compact."""

from __future__ import annotations

import json
from typing import Any

from dspex_nb.views.markup import picture

FONT_COLOR = "#7f8893"
GRID = "rgba(128,128,128,0.25)"
BLUE_SCALE = [[0.0, "rgba(59,130,246,0.06)"], [0.5, "rgba(59,130,246,0.5)"], [1.0, "rgba(59,130,246,1)"]]


def figure_layout(title: str, *, height: int = 320) -> dict[str, Any]:
    """Return layout settings for `Figure.update_layout`."""
    return {
        "title": {"text": title, "x": 0.01, "xanchor": "left", "y": 0.97, "yanchor": "top", "font": {"size": 14}},
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 64, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": FONT_COLOR, "size": 12},
        "hoverlabel": {"font": {"size": 12}},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        # Without a template of its own a figure takes plotly's white one, which glares in a dark notebook.
        "template": "none",
    }


def figure_bundle(figure: Any, svg: str, text: str) -> dict[str, Any]:
    """Return what a notebook stores for a figure: plotly, a still picture where plotly does not run, and text."""
    return {
        "application/vnd.plotly.v1+json": json.loads(figure.to_json())
        | {"config": {"displayModeBar": False, "responsive": True}},
        "text/html": picture(svg, text),
        "text/plain": text,
    }
