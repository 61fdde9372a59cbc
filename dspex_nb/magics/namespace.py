"""Names on a magic's line, looked up in the user's namespace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex_nb.errors import MagicUsageError, did_you_mean


def lookup(name: str, namespace: Mapping[str, Any], what: str) -> Any:
    """Return the user's variable `name`; dots reach attributes.

    Raises:
        MagicUsageError: There is none; the hint names the nearest.
    """
    head, *rest = name.split(".")
    if head not in namespace:
        visible = [key for key in namespace if not key.startswith("_")]
        near = did_you_mean(head, visible)
        raise MagicUsageError(
            f"no variable {head!r} for {what}", hint=f"{near}define it in a cell above, then run this one again"
        )
    value = namespace[head]
    for attribute in rest:
        value = getattr(value, attribute)
    return value


def lookup_data(name: str, namespace: Mapping[str, Any]) -> Any:
    """Return rows: a variable's value, or the path itself where it ends like a data file."""
    if Path(name).suffix.lower() in {".csv", ".jsonl", ".ndjson", ".parquet", ".json"} and name not in namespace:
        return name
    return lookup(name, namespace, "--data")


def lookup_metrics(text: str, namespace: Mapping[str, Any]) -> list[Any]:
    """Return the metrics of `a,b:field`: the user's functions where they have the name, else built-in names."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        value = namespace.get(part)
        found.append(value if callable(value) else part)
    return found


def literal(text: str) -> Any:
    """Return the value of an option's text: a number, a bool, None, or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
