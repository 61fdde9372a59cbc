"""A prediction while it is written: each field's text as it grows, then what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.views.markup import BLUE, MUTED, Html, chip, error_notice, frame, join, mark, muted, tag
from dspex_nb.views.prediction_views import prediction_chips, prediction_info, prediction_text
from dspex_nb.views.tables import facts_html, facts_text


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is shown of a stream.

    Attributes:
        fields: Each output's name and its text so far, in order.
        writing: The field that is being written, empty for none.
        notes: Why fields were withdrawn, by name.
        prediction: The end of it; None while it goes on.
        error: What ended it otherwise: message and, after `→`, hint.
    """

    fields: Sequence[tuple[str, str]]
    writing: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    prediction: Prediction | None = None
    error: str = ""


class StreamState:
    """Follows a stream's events. Taking one is cheap; `info` is made when there is something to draw."""

    def __init__(self, fields: Iterable[str]) -> None:
        self._texts: dict[str, list[str]] = {name: [] for name in fields}
        self._notes: dict[str, str] = {}
        self._writing = self._error = ""
        self._prediction: Prediction | None = None

    def apply(self, event: FieldEvent | Prediction) -> None:
        """Take the next event."""
        if isinstance(event, Prediction):
            self._prediction, self._writing = event, ""
        elif event.kind == "delta":
            self._texts[event.field].append(event.text)
        elif event.kind == "withdrawn":
            self._texts[event.field] = []
            self._notes = {**self._notes, event.field: event.text}  # whole new dicts: the view's own thread reads the old ones
        elif event.kind == "start":
            self._texts[event.field] = []
            self._writing = event.field
            self._notes = {name: why for name, why in self._notes.items() if name != event.field}
        else:
            self._writing = ""

    def fail(self, error: str) -> None:
        """Say what ended it."""
        self._error, self._writing = error, ""

    def info(self) -> StreamInfo:
        """Return what is to be shown now."""
        fields = [(name, "".join(pieces)) for name, pieces in self._texts.items()]
        return StreamInfo(fields, self._writing, self._notes, self._prediction, self._error)


def stream_html(info: StreamInfo) -> str:
    """Draw a stream as HTML."""
    rows = [(name, _text_html(info, name, text)) for name, text in info.fields]
    if info.prediction is not None:
        below = tag("div", *prediction_chips(prediction_info(info.prediction)))
    elif info.error:
        below = error_notice(info.error)
    else:
        below = tag("div", chip(mark("running"), " streaming", color=BLUE))
    return frame(facts_html(rows), below)


def _text_html(info: StreamInfo, name: str, text: str) -> Html:
    if name in info.notes and not text:
        return muted(f"withdrawn: {info.notes[name]}")
    cursor = tag("span", "▌", style=f"color: {MUTED};") if name == info.writing else ""
    return join(tag("span", text, style="white-space: pre-wrap; overflow-wrap: anywhere;"), cursor)


def stream_text(info: StreamInfo) -> str:
    """Write a stream as text."""
    if info.prediction is not None:
        return prediction_text(info.prediction)
    return f"{facts_text(info.fields, max_width=400)}\n{info.error or '(streaming)'}"
