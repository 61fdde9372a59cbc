"""Views that live in a notebook: one widget, one thread that draws, and something to read where there is no kernel."""

from typing import Any

from dspex_nb.widgets.bundles import bundle
from dspex_nb.widgets.live import LiveView

__all__ = ["HtmlView", "LiveView", "bundle"]


def __getattr__(name: str) -> Any:
    if name == "HtmlView":  # loads ipywidgets, so only on demand
        from dspex_nb.widgets.html_view import HtmlView

        return HtmlView
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
