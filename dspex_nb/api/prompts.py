"""A prompt as a cell shows it: the messages whole, but the files in them."""

from __future__ import annotations

import re
from typing import Any

_SHOWN = 60
_FILE = re.compile(r"\S{1000,}")  # no word is so long: a file's bytes, alone or within a text


class Prompt(list[dict[str, Any]]):
    """The messages of a call, as they are sent.

    Shown by a cell, a file in them is its beginning and its length: megabytes of base64 would be saved with the notebook.
    """

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython calls it so
        del cycle
        printer.pretty(_shown(list(self)))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return _FILE.sub(_beginning, value) if isinstance(value, str) else value


def _beginning(file: re.Match[str]) -> str:
    return f"{file[0][:_SHOWN]}… ({len(file[0]):,} characters)"
