"""A signature's `spec` that is no text: a map of inputs and outputs, DSPy's map of fields, or fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dspex_nb.errors import SignatureError
from dspex_nb.signatures.annotations import check_type, with_type
from dspex_nb.signatures.fields import MISSING, Field, InputField, OutputField
from dspex_nb.signatures.grammar import Piece, check_name
from dspex_nb.signatures.names import Names
from dspex_nb.signatures.types import TypeReadError, read_type

_SIDES = {"inputs": InputField, "outputs": OutputField}


def read_spec(spec: Mapping[str, Any] | Iterable[Field], names: Names) -> list[Field]:
    """Return the fields of a map, or as they are.

    A map is `{"inputs": {...}, "outputs": {...}}`, whose values are types, their text, a `Field`, or the options of
    one (`{"type": "int", "desc": "1 to 5"}`), or lists of such options with a `name`, as DSPex writes them; or it is
    DSPy's `{"question": (str, InputField()), ...}`.

    Raises:
        SignatureError: It cannot be read, or a field is declared twice.
    """
    fields = [with_type(one) for one in (_from_map(spec, names) if isinstance(spec, Mapping) else spec)]
    seen: set[str] = set()
    for one in fields:
        if one.name in seen:
            raise SignatureError(f"field {one.name!r} is declared twice", hint="inputs and outputs need distinct names")
        seen.add(one.name)
        check_type(one)
    return fields


def _from_map(spec: Mapping[str, Any], names: Names) -> Iterator[Field]:
    if spec and all(isinstance(value, Field | tuple) for value in spec.values()):
        yield from (_from_pair(name, value) for name, value in spec.items())
        return
    if "outputs" not in spec or any(key not in _SIDES for key in spec):
        raise SignatureError(
            "a signature's map has the keys 'inputs' and 'outputs'", hint="write {'inputs': {'q': str}, 'outputs': {'a': str}}"
        )
    for side in _SIDES:
        for name, value in _named(side, spec.get(side, {})):
            yield _from_value(name, value, side, names)


def _from_pair(name: str, value: Any) -> Field:
    """Read DSPy's way: a field, or its type and it."""
    check_name(Piece(name, 0, len(name)))
    kind, one = value if isinstance(value, tuple) and len(value) == 2 else (MISSING, value)  # noqa: PLR2004 - a pair
    if not isinstance(one, Field):
        raise SignatureError(f"field {name!r}: expected (type, InputField()), found {value!r}", hint="or OutputField()")
    kind = one.type if kind is MISSING else kind
    return replace(one, name=name, type=str if kind in (MISSING, None) else kind)


def _named(side: str, given: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(given, Mapping):
        yield from given.items()
        return
    for one in given:
        if not isinstance(one, Mapping) or "name" not in one:
            raise SignatureError(f"{side}: expected a map with a 'name', found {one!r}", hint="{'name': 'q', 'type': 'str'}")
        yield one["name"], {key: value for key, value in one.items() if key != "name"}


def _from_value(name: str, value: Any, side: str, names: Names) -> Field:
    check_name(Piece(name, 0, len(name)))
    if isinstance(value, Field):
        return replace(value, name=name, is_input=side == "inputs")
    if isinstance(value, Mapping):
        kind = value.get("type", MISSING)
        one = _SIDES[side](**{key: item for key, item in value.items() if key != "type"})
    else:
        kind, one = value, _SIDES[side]()
    return replace(one, name=name, type=type_from_text(name, kind, names) if isinstance(kind, str) else kind)


def type_from_text(name: str, text: str, names: Names | Mapping[str, Any]) -> Any:
    """Return the type that a text names; its error names the field and has the caret in the type."""
    try:
        return read_type(text, names)
    except TypeReadError as error:
        Piece(text, 0, len(text)).fail(f"field {name!r}: {error.message}", error.hint, error.offset)
