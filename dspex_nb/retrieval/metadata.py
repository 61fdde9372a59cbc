"""Metadata as JSON text, the way stores keep it: written and read by orjson where that keeps what JSON keeps."""

from __future__ import annotations

import json
from typing import Any

import orjson

_FLAT = frozenset({str, int, float, bool, type(None)})
_write = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` would make an encoder for each passage
_BLANK = " "  # before what orjson must not read
_BEHIND = "\x1e"  # JSON holds none of it, so its last one is ours, whatever the text


def metadata_text(metadata: dict[str, Any]) -> str:
    """Return metadata as JSON.

    orjson would make null of not-a-number in a list, and a float of a whole number of more than 64 bits when it reads it. So
    lists, dicts and large numbers are written by `json`, with a blank in front, which JSON allows and `metadata_of` heeds.
    """
    if _FLAT.issuperset(map(type, metadata.values())):
        try:
            return orjson.dumps(metadata).decode()
        except TypeError:  # such a number, or a text that UTF-8 cannot hold
            pass
    return _BLANK + _write(metadata)


def metadata_texts(given: list[dict[str, Any]], *, flat: bool = False) -> list[str]:
    """Return `metadata_text` of each; `flat` says that none holds a list or a dict."""
    if flat:
        try:
            return [one.decode() for one in map(orjson.dumps, given)]
        except TypeError:
            pass
    return list(map(metadata_text, given))


def metadata_of(text: str) -> dict[str, Any]:
    """Return the metadata that `metadata_text` wrote."""
    found: dict[str, Any] = json.loads(text) if text[:1] == _BLANK else orjson.loads(text)
    return found


def is_exact(written: str) -> bool:
    """Say whether metadata, as `metadata_text` wrote it, holds only what any JSON keeps as it is."""
    return written[:1] != _BLANK


def with_metadata(text: str, metadata: str) -> str:
    """Return a passage's text with its metadata behind it, for stores that take long over each field."""
    return f"{text}{_BEHIND}{metadata}"


def parted(given: str) -> tuple[str, str]:
    """Return the text and the metadata, still as JSON, of what `with_metadata` made."""
    text, _, metadata = given.rpartition(_BEHIND)
    return text, metadata
