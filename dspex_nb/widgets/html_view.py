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
    """Shows `html`; a click on an element with `data-dspex-action="x"` calls `on_action("x")`.

    Where the element has a `data-dspex-value`, or is an input or a select, `on_input("x", value)` is called in its place.
    `html` must come from `dspex_nb.views`, which escapes what models and users wrote.
    """

    _esm = _HERE.joinpath("html_view.js").read_text("utf-8")
    _css = _HERE.joinpath("html_view.css").read_text("utf-8")
    html = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        html: str = "",
        on_action: Callable[[str], None] | None = None,
        on_input: Callable[[str, str], None] | None = None,
    ) -> None:
        super().__init__(html=html)
        self._on_action, self._on_input = on_action, on_input
        self.on_msg(self._received)
        answer_while_busy(self.comm)

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        action, value = (content.get("action"), content.get("value")) if isinstance(content, dict) else (None, None)
        if not isinstance(action, str):
            return
        if isinstance(value, str):
            if self._on_input:
                self._on_input(action, value)
        elif self._on_action:
            self._on_action(action)


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
