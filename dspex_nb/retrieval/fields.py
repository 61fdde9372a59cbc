"""Fields: metadata that a store keeps and compares itself, for stores that can; only of what they cannot there are facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dspex_nb.retrieval.facts import fact
from dspex_nb.retrieval.filters import Compare, Condition, Opposite

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LARGEST = 2**53  # beyond it a store that compares whole numbers with fractions takes neighbours for equal


def field_of(key: str, value: Any, kinds: tuple[type, ...]) -> str | int | None:
    """Return a value as it is asked for under its key, `1.0` as `1`; None where the store cannot be asked for it.

    Args:
        key: The key in the metadata.
        value: What is looked for, or an element of what is.
        kinds: Whichever of `str`, `int` and `bool` the store compares as we mean it.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _plain(key):
        return None
    if isinstance(value, bool):
        return value if bool in kinds else None
    if isinstance(value, int):
        return value if int in kinds and -_LARGEST < value < _LARGEST else None
    return value if isinstance(value, str) and str in kinds else None


def facts_beside(metadata: Mapping[str, Any], kinds: tuple[type, ...]) -> list[str]:
    """Return facts of the values that are no fields: a list's elements, fractions, nulls, and what has an odd key."""
    found: list[str] = []
    for key, value in metadata.items():
        if type(value) is str and str in kinds and _plain(key):  # what most are
            continue
        if isinstance(value, list):
            found += [fact(key, one) for one in value if not isinstance(one, list | dict)]
        elif not isinstance(value, dict) and (isinstance(value, float) or field_of(key, value, kinds) is None):
            found.append(fact(key, value))
    return list(dict.fromkeys(found))


def by_values(condition: Condition) -> bool:
    """Say whether a condition only looks for values: fields and facts tell no orders, and not whether a key is there."""
    if isinstance(condition, Compare):
        return condition.operator == "$eq" or (condition.operator == "$in" and bool(condition.value))
    return all(map(by_values, [condition.part] if isinstance(condition, Opposite) else condition.parts))


def wanted(asked: Compare, kinds: tuple[type, ...]) -> tuple[list[list[str | int]], list[str]]:
    """Return the values of a comparison, those of each kind together, and their facts: a passage may have either."""
    values = list(asked.value) if asked.operator == "$in" else [asked.value]
    fields = [one for value in values if (one := field_of(asked.key, value, kinds)) is not None]
    alike = [[one for one in fields if type(one) is kind] for kind in kinds]
    return [one for one in alike if one], [fact(asked.key, value) for value in values]


@lru_cache(maxsize=1024)
def _plain(key: str) -> bool:
    """Say whether no store reads a key as a path, or as one of its own."""
    return _KEY.fullmatch(key) is not None
