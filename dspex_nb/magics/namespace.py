"""Names on a magic's line, looked up in the user's namespace."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from dspex_nb.errors import MagicUsageError, did_you_mean
from dspex_nb.pipelines.matching import mismatch

_WRITTEN: dict[Any, str] = {
    list: "['a', 'b']", dict: "{'a': 1}", tuple: "('a', 'b')", set: "{'a', 'b'}", int: "3", float: "0.5", bool: "True",
}  # fmt: skip


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
        if not hasattr(value, attribute):
            near = did_you_mean(attribute, [key for key in dir(value) if not key.startswith("_")])
            if "(" in name:
                raise MagicUsageError(
                    f"{name!r} is an expression", hint="put it in a variable first, then name the variable here"
                )
            raise MagicUsageError(f"{head!r} has no {attribute!r} for {what}", hint=near or f"look at dir({head})")
        value = getattr(value, attribute)
    return value


def lookup_data(name: Any, namespace: Mapping[str, Any], option: str = "--data") -> Any:
    """Return rows: a variable's value, the path itself where it ends like a data file, or what a body gave in place of a name."""
    if not isinstance(name, str):
        return name
    if Path(name).suffix.lower() in {".csv", ".jsonl", ".ndjson", ".parquet", ".json"} and name not in namespace:
        return name
    return lookup(name, namespace, option)


def lookup_metrics(text: Any, namespace: Mapping[str, Any]) -> list[Any]:
    """Return the metrics of `a,b:field`: the user's functions where they have the name, else built-in names."""
    if not isinstance(text, str):  # a body may hold the functions themselves
        return list(text) if isinstance(text, list | tuple) else [text]
    found: list[Any] = []
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


def typed(text: str, kind: Any, namespace: Mapping[str, Any]) -> Any:
    """Return the value that `text` means for an input of type `kind`: `{name}` is a variable, text stays text.

    Raises:
        MagicUsageError: The input is a list, a dict or a number, and the text is none.
    """
    if text.startswith("{") and text.endswith("}") and text[1:-1].replace(".", "").isidentifier():
        return lookup(text[1:-1], namespace, f"the input {text}")
    if kind is str:
        return text
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = literal(text)
    wanted = get_origin(kind) or kind
    if wanted in _WRITTEN and mismatch(type(found), wanted):
        raise MagicUsageError(
            f"the text {text!r} is no {wanted.__name__}", hint=f"write e.g. {_WRITTEN[wanted]}, or {{name}} for a variable"
        )
    return found
