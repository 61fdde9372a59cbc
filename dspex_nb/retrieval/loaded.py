"""`Document`: a text as it was loaded, before it is split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """A text as it was loaded, whole.

    Attributes:
        text: Its text; a passage's `start` and `end` count its characters.
        source: The path or address it came from.
        title: What it calls itself, else its file's name.
        key: Names it among all documents: its source, for a table's row the source and the row.
        pages: Where each page begins.
        headings: Whether lines `# like this` begin sections.
        metadata: What else is known of it.
    """

    text: str
    source: str
    title: str = ""
    key: str = ""
    pages: tuple[int, ...] = ()
    headings: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
