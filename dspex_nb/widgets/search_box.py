"""The search box's widget: fields that send what is typed, and a place for what was found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from dspex_nb.widgets.html_view import answer_while_busy

_HERE = files("dspex_nb.widgets")
_LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands in the fields; `keep` says that Enter was pressed."""

    query: str
    filter: str
    k: int
    keep: bool = False


class SearchBoxWidget(anywidget.AnyWidget):
    """Calls `on_search` with what is typed and shows the HTML that it returns; of several waiting only the latest is searched.

    Args:
        asked: What stands in the fields first.
        html: What is shown first.
        on_search: Returns escaped HTML, as `dspex_nb.views` writes it; called in a thread, once at a time.
        on_keep: Called after a search that Enter asked for.
    """

    _esm = _HERE.joinpath("search_box.js").read_text("utf-8")
    _css = _HERE.joinpath("search_box.css").read_text("utf-8")
    html = traitlets.Unicode("").tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    filter = traitlets.Unicode("").tag(sync=True)
    k = traitlets.Int(5).tag(sync=True)
    kept = traitlets.Bool(False).tag(sync=True)  # noqa: FBT003 - traitlets takes its default so

    def __init__(self, asked: Asked, html: str, on_search: Callable[[Asked], str], on_keep: Callable[[], None]) -> None:
        super().__init__(html=html, query=asked.query, filter=asked.filter, k=asked.k)
        self._on_search, self._on_keep = on_search, on_keep
        self._lock = threading.Lock()
        self._waiting: Asked | None = None
        self._at_work = False
        self.on_msg(self._received)
        answer_while_busy(self.comm)

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        asked = _read(content)
        if asked is None:
            return
        with self._lock:
            self._waiting = asked
            start, self._at_work = not self._at_work, True
        if start:
            threading.Thread(target=self._work, name="dspex-search-box", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                asked, self._waiting = self._waiting, None
                if asked is None:
                    self._at_work = False
                    return
            html = self._on_search(asked)
            self.query, self.filter, self.k = asked.query, asked.filter, asked.k
            if html == self.html:
                html += " "  # so that the front end learns that the search is over
            self.html = html
            if asked.keep:
                self.kept = True
                self._on_keep()
                self.kept = False


def _read(content: Any) -> Asked | None:
    """Return what a front end sent, or None if it is not of the form."""
    if not isinstance(content, dict):
        return None
    query, narrowed, k = content.get("query"), content.get("filter"), content.get("k")
    if not isinstance(query, str) or not isinstance(narrowed, str) or isinstance(k, bool) or not isinstance(k, int | float):
        return None
    return Asked(query[:_LONGEST], narrowed[:_LONGEST], max(1, min(int(k), 100)), content.get("keep") is True)
