r"""Bounded answers: for a type, the JSON schema that limits every length, and the most tokens such an answer can take.

Why the numbers are what they are: a tokenizer of bytes spends at most one token a byte, so a character costs up to 4, and
6 where the model writes it as a `\uXXXX` escape; llama.cpp's grammar lets up to two newlines and twenty blanks stand at
every place where JSON allows blanks. `max_tokens` is the sum, so that an answer is never cut; answers seldom come near it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import json
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from dspex_nb.errors import AdapterError
from dspex_nb.signatures.codecs import jsonable
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.types import type_text

TEXT_LENGTH = 200
REASONING_LENGTH = 240
INNER_TEXT_LENGTH = 80
LIST_LENGTH = 8
_DEPTH = 4
_CHAR, _BLANKS, _INTEGER, _NUMBER = 6, 22, 18, 56
_DIGITS = 10**15 - 1
_SMALL_RANGE = 24
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_PATTERNS: dict[type, tuple[str, int]] = {
    dt.datetime: (f"^[12][0-9]{{3}}-{_DAY}T{_TIME}$", 19),
    dt.date: (f"^[12][0-9]{{3}}-{_DAY}$", 10),
    dt.time: (f"^{_TIME}$", 8),
    dt.timedelta: (r"^P[0-9]{1,4}DT[0-9]{1,2}H[0-9]{1,2}M$", 14),
    uuid.UUID: ("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", 36),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one value, from a field's rules, a model's constraints, or the words of a description."""

    low: float | None = None
    high: float | None = None
    shortest: int = 0
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How a type's values look in a bounded answer.

    Attributes:
        schema: JSON schema, closed and with all properties required, as OpenAI's strict mode wants it.
        tokens: The most tokens an answer of the schema takes, blanks behind it included.
    """

    schema: dict[str, Any]
    tokens: int


def answer_shape(fields: Iterable[Field]) -> Shape:
    """Return the shape of a whole answer: an object with one property an output.

    Raises:
        AdapterError: A type has no bounded form.
    """
    shapes: dict[str, Shape] = {}
    for field in fields:
        limits = field_limits(field)
        shape = _shape(field.type, limits, TEXT_LENGTH, 0)
        if field.name == "reasoning" and limits.longest is None and field.type is str:
            shape = _text(limits, REASONING_LENGTH)
        shapes[field.name] = shape
    return _object(shapes)


def field_limits(field: Field) -> Limits:
    """Return a field's bounds: its rules, else, for whole numbers, those its description states."""
    limits = _limits({**_rules(field.metadata), **field.rules}, whole=_is_whole(field.type))
    if limits.low is None and limits.high is None and _is_whole(field.type):
        low, high = stated_range(field.desc) or (None, None)
        return dataclasses.replace(limits, low=low, high=high)
    return limits


def _is_whole(kind: Any) -> bool:
    return kind is int or (get_origin(kind) in (Union, types.UnionType) and set(get_args(kind)) <= {int, type(None)})


_RANGE = re.compile(
    r"(?:^|[(:,;]|\b(?:from|between|range|scale|of|score|rating|rated|level|number|integer|int))\s*"
    r"(-?\d{1,9})(?:\s*\([^()]*\))?\s*(?:to|and|through|-|–|—|\.\.)\s*(-?\d{1,9})(?![\d.%])",  # noqa: RUF001 - people type dashes
    re.IGNORECASE,
)


def stated_range(text: str) -> tuple[int, int] | None:
    """Return the bounds that a description clearly states (`1 (can wait) to 5 (now)`, `1-5`, `between 0 and 10`), else None."""
    found = _RANGE.findall(text)
    if len(found) != 1:
        return None
    low, high = int(found[0][0]), int(found[0][1])
    return (low, high) if low < high else None


def _rules(metadata: Iterable[Any]) -> dict[str, Any]:
    """Return the bounds inside what `Annotated` or pydantic keep beside a type."""
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    found: dict[str, Any] = {}
    for item in metadata:
        found |= _rules(getattr(item, "metadata", ()))
        found |= {name: getattr(item, name) for name in names if getattr(item, name, None) is not None}
    return found


def _limits(rules: Mapping[str, Any], *, whole: bool = True) -> Limits:
    step = 1 if whole else 0
    low = rules.get("ge", None if rules.get("gt") is None else rules["gt"] + step)
    high = rules.get("le", None if rules.get("lt") is None else rules["lt"] - step)
    numeric = [value if isinstance(value, int | float) else None for value in (low, high)]
    return Limits(numeric[0], numeric[1], int(rules.get("min_length") or 0), rules.get("max_length"))


def _shape(kind: Any, limits: Limits, length: int, depth: int) -> Shape:
    """Return a type's shape; `length` bounds texts in it that say nothing themselves."""
    origin, args = get_origin(kind), get_args(kind)
    if depth > _DEPTH:
        raise AdapterError(
            f"{type_text(kind)} is nested too deeply for a bounded answer", hint="use adapter='json', or a flatter type"
        )
    if origin is Annotated:
        return _shape(args[0], _limits(_rules(args[1:]), whole=args[0] is int), length, depth)
    if origin is Literal:
        return _choice([jsonable(value) for value in args])
    if origin in (Union, types.UnionType):
        return _union([_shape(arg, limits, length, depth) for arg in args])
    if origin is not None or kind in (list, set, frozenset, tuple, dict):
        return _container(origin or kind, args, limits, depth)
    return _class(kind, limits, length, depth)


def _class(kind: Any, limits: Limits, length: int, depth: int) -> Shape:
    simple = _simple(kind, limits, length)
    if simple is not None:
        return simple
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return _choice([jsonable(member.value) for member in kind])
    fields = _model_fields(kind)
    if fields is None:
        raise AdapterError(f"{type_text(kind)} has no bounded JSON form", hint="use adapter='json' or 'chat' for this signature")
    return _object({name: _shape(inner, bounds, INNER_TEXT_LENGTH, depth + 1) for name, (inner, bounds) in fields.items()})


def _simple(kind: Any, limits: Limits, length: int) -> Shape | None:  # noqa: PLR0911 - one return a type reads best
    if kind in (str, Any, object, bytes) or kind is pathlib.Path:
        return _text(limits, length)
    if kind is bool:
        return Shape({"type": "boolean"}, 5 + _BLANKS)
    if kind is int:
        return _integer(limits)
    if kind in (float, decimal.Decimal):
        bounds = {"minimum": limits.low, "maximum": limits.high}
        return Shape({"type": "number", **{key: value for key, value in bounds.items() if value is not None}}, _NUMBER + _BLANKS)
    if kind is type(None):
        return Shape({"type": "null"}, 4 + _BLANKS)
    if kind in _PATTERNS:
        pattern, size = _PATTERNS[kind]
        return Shape({"type": "string", "pattern": pattern}, size + 2 + _BLANKS)
    return None


def _text(limits: Limits, length: int) -> Shape:
    longest = max(min(limits.longest, 1000) if limits.longest is not None else length, limits.shortest)
    schema: dict[str, Any] = {"type": "string", "maxLength": longest}
    if limits.shortest:
        schema["minLength"] = limits.shortest
    return Shape(schema, longest * _CHAR + 2 + _BLANKS)


def _integer(limits: Limits) -> Shape:
    low = -_DIGITS if limits.low is None else max(int(limits.low), -_DIGITS)
    high = _DIGITS if limits.high is None else min(int(limits.high), _DIGITS)
    if 0 <= high - low <= _SMALL_RANGE:
        return _choice(list(range(low, high + 1)))
    return Shape({"type": "integer", "minimum": low, "maximum": high}, _INTEGER + _BLANKS)


def _choice(values: Sequence[Any]) -> Shape:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    found = sorted({kinds[type(value)] for value in values})
    schema: dict[str, Any] = {"type": found[0] if len(found) == 1 else found, "enum": list(values)}
    longest = max(len(json.dumps(value, ensure_ascii=False).encode()) for value in values)
    return Shape(schema, longest + _BLANKS)


def _union(shapes: list[Shape]) -> Shape:
    schemas: list[dict[str, Any]] = []
    for shape in shapes:
        if shape.schema not in schemas:
            schemas.append(shape.schema)
    return Shape(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, max(shape.tokens for shape in shapes))


def _container(origin: Any, args: tuple[Any, ...], limits: Limits, depth: int) -> Shape:
    if not inspect.isclass(origin):
        raise AdapterError(f"{origin} has no bounded JSON form", hint="use adapter='json' or 'chat' for this signature")
    if issubclass(origin, Mapping):
        key, value = args or (str, str)
        pair = {
            "key": _shape(key, Limits(longest=INNER_TEXT_LENGTH // 2), 0, depth + 1),
            "value": _shape(value, Limits(), INNER_TEXT_LENGTH, depth + 1),
        }
        return _array(_object(pair), Limits())
    if origin is tuple and args and args[-1] is not ...:
        parts = [_shape(arg, Limits(), INNER_TEXT_LENGTH, depth + 1) for arg in args]
        schema = {
            "type": "array",
            "prefixItems": [part.schema for part in parts],
            "minItems": len(parts),
            "maxItems": len(parts),
        }
        return Shape(schema, 2 + 2 * _BLANKS + sum(part.tokens + 1 + _BLANKS for part in parts))
    return _array(_shape(args[0] if args else str, Limits(), INNER_TEXT_LENGTH, depth + 1), limits)


def _array(item: Shape, limits: Limits) -> Shape:
    most = max(limits.longest or LIST_LENGTH, limits.shortest)
    schema: dict[str, Any] = {"type": "array", "items": item.schema, "maxItems": most}
    if limits.shortest:
        schema["minItems"] = limits.shortest
    return Shape(schema, 2 + 2 * _BLANKS + most * (item.tokens + 1 + _BLANKS))


def _object(shapes: Mapping[str, Shape]) -> Shape:
    schema = {
        "type": "object",
        "properties": {name: shape.schema for name, shape in shapes.items()},
        "required": list(shapes),
        "additionalProperties": False,
    }
    keys = sum(len(json.dumps(name).encode()) + 2 + 3 * _BLANKS + shape.tokens for name, shape in shapes.items())
    return Shape(schema, 2 + 2 * _BLANKS + keys)


def _model_fields(kind: Any) -> dict[str, tuple[Any, Limits]] | None:
    """Return what a pydantic model, dataclass or TypedDict holds, by its name in JSON; None for other classes."""
    if hasattr(kind, "model_fields"):
        return {
            inner.alias or name: (inner.annotation, _limits(_rules(inner.metadata), whole=_is_whole(inner.annotation)))
            for name, inner in kind.model_fields.items()
        }
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__required_keys__"):
        return {name: (inner, Limits()) for name, inner in get_type_hints(kind, include_extras=True).items()}
    return None


def to_answer(kind: Any, value: Any) -> Any:
    """Return a JSON value as a bounded answer holds it: mappings as lists of pairs, since no schema limits an object's keys."""
    if _is_mapping(kind) and isinstance(value, Mapping):
        inner = (get_args(kind) or (str, str))[1]
        return [{"key": key, "value": to_answer(inner, item)} for key, item in value.items()]
    return _inside(kind, value, to_answer)


def from_answer(kind: Any, value: Any) -> Any:
    """Return the JSON value that `to_answer` was given."""
    if (
        _is_mapping(kind)
        and isinstance(value, list)
        and all(isinstance(item, dict) and {"key", "value"} <= set(item) for item in value)
    ):
        inner = (get_args(kind) or (str, str))[1]
        return {item["key"]: from_answer(inner, item["value"]) for item in value}
    return _inside(kind, value, from_answer)


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return inspect.isclass(origin) and issubclass(origin, Mapping) and not hasattr(origin, "__required_keys__")


def _inside(kind: Any, value: Any, step: Callable[[Any, Any], Any]) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType, Annotated):
        # Only the member that is a container of the value's form changes it.
        return next((new for arg in args if (new := step(arg, value)) != value), value)
    if isinstance(value, list) and args and origin is not Literal:
        kinds = args if origin is tuple and args[-1] is not ... else [args[0]] * len(value)
        return [step(inner, item) for inner, item in zip(kinds, value, strict=False)] if len(kinds) >= len(value) else value
    if isinstance(value, dict) and origin is None:
        fields = _model_fields(kind) or {}
        return {name: step(fields[name][0], item) if name in fields else item for name, item in value.items()}
    return value
