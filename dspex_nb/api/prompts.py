"""A prompt as a cell shows it: the messages whole, but the files in them."""

from __future__ import annotations

from typing import Any

_SHOWN = 60
_FILE = 1000  # characters: what is longer and one unbroken word is a file's bytes


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
    if isinstance(value, str) and len(value) > _FILE and not any(map(str.isspace, value)):
        return f"{value[:_SHOWN]}… ({len(value):,} characters)"
    return value
