"""Plotly's figure, with a still picture and words beside it wherever plotly does not run. Importing this imports plotly."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from dspex_nb.views.chart_svg import chart_svg
from dspex_nb.views.figures import figure_bundle


class StillFigure(go.Figure):  # type: ignore[misc]
    """A `plotly.graph_objects.Figure` that an exported or untrusted notebook shows as a picture.

    The picture is drawn from the figure as it is when it is displayed, with what its owner changed.
    """

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        drawn = self.to_plotly_json()
        alt = str((drawn["layout"].get("meta") or {}).get("alt") or "figure")
        return figure_bundle(self, chart_svg(drawn["data"], drawn["layout"]), alt)

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data(self._repr_mimebundle_())
