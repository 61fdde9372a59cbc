"""JSON values and lists: one predicted value against one reference value."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.metrics.values import normalize_text

_Path = tuple[str | int, ...]


def json_match(prediction: Any, reference: Any) -> float:
    """Return 1.0 where both are the same JSON value: the order of keys, blanks and `1` for `1.0` make no difference.

    Texts are read as JSON where they are JSON; records and pydantic models count as objects.

    Range 0 or 1; higher is better.
    Source: equality of RFC 8259 values, numbers by their value, as JSON Schema's `const` compares.
    """
    return float(_same(_plain(prediction), _plain(reference)))


def field_match(prediction: Any, reference: Any) -> float:
    """Return the share of the reference's fields that the prediction has with the same value, nested ones counted each.

    Texts count as equal after normalization. Fields that only the prediction has are not counted: `json_match` is strict.

    Range 0 to 1; higher is better.
    Source: recall over (path, value) pairs, as key information extraction counts fields (Xu et al. 2022, XFUND).
    """
    got, want = dict(_leaves(_plain(prediction))), dict(_leaves(_plain(reference)))
    return sum(path in got and _alike(got[path], value) for path, value in want.items()) / len(want)


def list_f1(prediction: Any, reference: Any) -> float:
    """Return the F1 of two sets of items: order and repetition make no difference, texts are normalized.

    A text is read as a JSON list, else cut at commas, semicolons and line ends.

    Range 0 to 1; higher is better.
    Source: Dice 1945, "Measures of the Amount of Ecologic Association Between Species": 2|A∩B| / (|A|+|B|).
    """
    got, want = _items(prediction), _items(reference)
    return 2 * len(got & want) / (len(got) + len(want)) if got or want else 1.0


def _plain(value: Any) -> Any:
    """Return the JSON value that a text, a model or a record stands for; other values as they are."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):  # JSON's true is no 1
        return one is other
    return bool(one == other)


def _alike(one: Any, other: Any) -> bool:
    return normalize_text(one) == normalize_text(other) if isinstance(one, str) and isinstance(other, str) else _same(one, other)


def _leaves(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """Yield each value that holds no other, an empty object or list too, with the way to it."""
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    if not parts or not value:
        yield path, value
        return
    for key, inner in parts:
        yield from _leaves(inner, (*path, key))


def _items(value: Any) -> set[str]:
    plain = _plain(value)
    if isinstance(plain, str):
        plain = [piece for piece in re.split(r"[,;\n]", plain) if piece.strip()]
    elif plain is None:
        plain = []
    elif not isinstance(plain, list | tuple | set | frozenset):
        plain = [plain]
    return {normalize_text(item) if isinstance(item, str) else json.dumps(item, sort_keys=True, default=str) for item in plain}
