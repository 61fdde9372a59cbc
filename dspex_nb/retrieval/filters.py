"""The filter language: a dict becomes a `Condition`, which memory checks and stores compile; what is unknown is refused.

```python
{"topic": "if"}                                  # equal
{"year": {"$gte": 2020, "$lt": 2024}}            # both
{"topic": {"$in": ["if", "while"]}, "draft": {"$exists": False}}
{"$or": [{"topic": "if"}, {"$not": {"year": {"$lt": 2020}}}]}
```
A condition on a key holds if the value, or any element of a list value, satisfies it. Values of different types never
compare: `1` is not `"1"` and not `True`. `$ne` and `$nin` are the opposites of `$eq` and `$in`, so a missing key satisfies them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import DataError, FilterError, did_you_mean
from dspex_nb.retrieval.documents import plain_value

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip
OPERATORS = ("$eq", "$ne", "$in", "$nin", *_ORDER, "$exists")
JOINS = ("$and", "$or", "$not")
_DEEPEST = 20  # filters come from models too: a deep one is a mistake, and recursion has an end
_EXAMPLE = 'write e.g. {"topic": "if"}, {"year": {"$gte": 2020}} or {"$or": [{…}, {…}]}'


@dataclass(frozen=True, slots=True)
class Compare:
    """One key against one value; `operator` is `$eq`, `$in`, `$exists` or one of the four orders."""

    key: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Opposite:
    """The part does not hold."""

    part: Condition


Condition = Compare | Every | Some | Opposite


def read_filter(given: Mapping[str, Any] | None) -> Condition | None:
    """Return the condition that a filter says, or None where it asks nothing.

    Raises:
        FilterError: An unknown operator, or a value that the language has no meaning for.
    """
    return None if given is None or (isinstance(given, Mapping) and not given) else _read(given, 0)


def matches(condition: Condition | None, metadata: Mapping[str, Any]) -> bool:
    """Say whether metadata satisfies a condition; None is satisfied by all."""
    if isinstance(condition, Compare):
        if condition.operator == "$exists":
            return (condition.key in metadata) is condition.value
        found = metadata.get(condition.key, [])  # a missing key is like an empty list: nothing in it satisfies
        values = found if isinstance(found, list) else [found]
        return any(_holds(condition.operator, value, condition.value) for value in values)
    if isinstance(condition, Every):
        return all(matches(part, metadata) for part in condition.parts)
    if isinstance(condition, Some):
        return any(matches(part, metadata) for part in condition.parts)
    return condition is None or not matches(condition.part, metadata)


def _holds(name: str, value: Any, wanted: Any) -> bool:
    if name == "$in":
        return any(_holds("$eq", value, one) for one in wanted)
    if _sort(value) != _sort(wanted):
        return False
    return bool(value == wanted) if name == "$eq" else bool(_ORDER[name](value, wanted))


def _sort(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _read(given: Any, depth: int) -> Condition:
    if not isinstance(given, Mapping) or not given:
        raise FilterError(f"a filter is a dict, found {_shown(given)}", hint=_EXAMPLE)
    if depth > _DEEPEST:
        raise FilterError(f"the filter is nested more than {_DEEPEST} deep", hint="write it flatter")
    parts = [part for key, value in given.items() for part in _entry(key, value, depth)]
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def _entry(key: Any, value: Any, depth: int) -> list[Condition]:
    if key == "$not":
        return [Opposite(_read(value, depth + 1))]
    if key in JOINS:
        if not isinstance(value, list | tuple) or not value:
            raise FilterError(f"{key} takes a list of filters, found {_shown(value)}", hint=_EXAMPLE)
        parts = tuple(_read(part, depth + 1) for part in value)
        return [Every(parts) if key == "$and" else Some(parts)]
    if not isinstance(key, str) or key.startswith("$"):
        near = did_you_mean(str(key), (*JOINS, *OPERATORS))
        raise FilterError(f"unknown word {key!r} in a filter", hint=f"{near}joins are {', '.join(JOINS)}; {_EXAMPLE}")
    if not isinstance(value, Mapping):
        return [Compare(key, "$eq", _scalar(key, value))]
    if not value:
        raise FilterError(f"the filter of {key!r} is empty", hint=_EXAMPLE)
    return [_comparison(key, name, wanted) for name, wanted in value.items()]


def _comparison(key: str, name: Any, wanted: Any) -> Condition:
    if name not in OPERATORS:
        near = did_you_mean(str(name), OPERATORS)
        raise FilterError(f"unknown operator {name!r} for {key!r}", hint=f"{near}operators are {', '.join(OPERATORS)}")
    if name == "$exists":
        if not isinstance(wanted, bool):
            raise FilterError(f"$exists of {key!r} takes True or False, found {_shown(wanted)}", hint=_EXAMPLE)
        return Compare(key, name, wanted)
    if name in ("$in", "$nin"):
        if not isinstance(wanted, list | tuple | set | frozenset):
            raise FilterError(
                f"{name} of {key!r} takes a list, found {_shown(wanted)}", hint='write e.g. {"$in": ["if", "while"]}'
            )
        inside = Compare(key, "$in", tuple(_scalar(key, one) for one in wanted))
        return inside if name == "$in" else Opposite(inside)
    if name == "$ne":
        return Opposite(Compare(key, "$eq", _scalar(key, wanted)))
    value = _scalar(key, wanted)
    if name in _ORDER and _sort(value) not in ("number", "str"):
        raise FilterError(f"{name} of {key!r} takes a number or a text, found {_shown(wanted)}", hint=_EXAMPLE)
    return Compare(key, name, value)


def _scalar(key: str, value: Any) -> Any:
    try:
        found = plain_value(value)
    except DataError:
        found = value
    if found is not None and not isinstance(found, str | int | float):
        raise FilterError(
            f"the filter of {key!r} compares with {_shown(value)}; expected a text, a number, True, False or None",
            hint='for several values write {"$in": [...]}',
        )
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:59] + '…'}"  # noqa: PLR2004 - one short line
