"""A camera in the notebook: what it took is the widget's `value`, a JPEG's bytes."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from dspex_nb.widgets.html_view import answer_while_busy

_HERE = files("dspex_nb.widgets")


def _as_bytes(sent: Any, _widget: object) -> bytes:
    """Return what the front end sent: a memoryview, which the trait would refuse."""
    return bytes(sent)


class Webcam(anywidget.AnyWidget):
    """Takes one picture with the browser's camera; give the widget itself, or its `value`, to an image field.

    The camera runs only from "Start camera" to "Take picture". A browser allows it on https and on this machine.

    Args:
        width: Pixels asked of the camera.
    """

    _esm = _HERE.joinpath("webcam.js").read_text("utf-8")
    _css = _HERE.joinpath("webcam.css").read_text("utf-8")
    value = traitlets.Bytes(b"").tag(sync=True, from_json=_as_bytes)
    width = traitlets.Int(1280).tag(sync=True)

    def __init__(self, width: int = 1280) -> None:
        super().__init__(width=width)
        answer_while_busy(self.comm)
