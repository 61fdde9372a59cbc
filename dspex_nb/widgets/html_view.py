"""The one widget: it shows HTML that the views wrote, and hands clicks on its buttons to callables.

Importing this module imports anywidget and ipywidgets; `LiveView` does so only when it shows something.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

_HERE = files("dspex_nb.widgets")


class HtmlView(anywidget.AnyWidget):
    """Shows `html`; a click on an element with `data-dspex-action="x"` calls `on_action("x", value)`.

    The value is that of `data-dspex-value`, what was written into an input, or None. `html` must come from `dspex_nb.views`,
    which escapes what models and users wrote. `plot` is a plotly figure as JSON for the element with `data-dspex-figure`; a front
    end without plotly says so by the action `still`, and wants a picture in the HTML instead.
    """

    _esm = _HERE.joinpath("html_view.js").read_text("utf-8")
    _css = _HERE.joinpath("html_view.css").read_text("utf-8")
    html = traitlets.Unicode("").tag(sync=True)
    plot = traitlets.Unicode("").tag(sync=True)

    def __init__(self, html: str = "", on_action: Callable[[str, str | None], None] | None = None) -> None:
        super().__init__(html=html)
        self._on_action = on_action
        self.on_msg(self._received)
        answer_while_busy(self.comm)

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        said = content if isinstance(content, dict) else {}
        action, value = said.get("action"), said.get("value")
        if self._on_action and isinstance(action, str):
            self._on_action(action, value if isinstance(value, str) else None)


def answer_while_busy(comm: Any) -> bool:
    """Let clicks reach the kernel while a cell runs; return whether that could be arranged.

    Lab sends a comm's messages on a subshell of its own, but ipykernel 7 routes them to the shell that last sent on the
    comm: the busy one. The message's own subshell is the right one for a widget whose handlers only start a thread.
    The method is private, so it is replaced only where its shape is the one known; elsewhere the ■ button serves.
    """
    route = getattr(comm, "_reply_subshell_for", None)
    if not callable(route) or not _is_known(route):
        return False
    comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001 - see above
    return True


def _is_known(route: Callable[..., Any]) -> bool:
    try:
        import ipykernel

        return ipykernel.version_info[0] == 7 and list(inspect.signature(route).parameters) == ["data", "default"]  # noqa: PLR2004
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
