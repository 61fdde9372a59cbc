"""A signature's `spec`, read: the one-line form, a map of inputs and outputs, or fields; and what types a field may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin

from dspex_nb.errors import SignatureError
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.grammar import Piece, check_name, read_line
from dspex_nb.signatures.types import TypeReadError, is_type, leaves, read_type, type_text


def read_spec(spec: str | Mapping[str, Any] | Iterable[Field], types: Mapping[str, Any]) -> list[Field]:
    """Return the fields of a one-line form, of a map of inputs and outputs, or as they are.

    Raises:
        SignatureError: It cannot be read, or a field is declared twice.
    """
    if isinstance(spec, str):
        return read_line(Piece(spec, 0, len(spec)), types)
    if isinstance(spec, Mapping):
        unknown = [key for key in spec if key not in ("inputs", "outputs")]
        if unknown or "outputs" not in spec:
            raise SignatureError(
                "a signature's map has the keys 'inputs' and 'outputs'",
                hint="write {'inputs': {'q': str}, 'outputs': {'a': str}}",
            )
        sides = [
            _from_map(name, value, types, is_input=side == "inputs")
            for side in ("inputs", "outputs")
            for name, value in spec.get(side, {}).items()
        ]
        _refuse_repeats(sides)
        return sides
    fields = list(spec)
    _refuse_repeats(fields)
    return [with_type(one) for one in fields]


def _from_map(name: str, value: Any, types: Mapping[str, Any], *, is_input: bool) -> Field:
    check_name(Piece(name, 0, len(name)))
    if isinstance(value, Field):
        return with_type(replace(value, name=name, is_input=is_input))
    if isinstance(value, str):
        value = type_from_text(name, value, types)
    return with_type(Field(name=name, type=value, is_input=is_input))


def type_from_text(name: str, text: str, types: Mapping[str, Any]) -> Any:
    """Return the type that a text names; its error names the field."""
    try:
        return read_type(text, types)
    except TypeReadError as error:
        raise SignatureError(f"field {name!r}: {error.message}", hint=error.hint) from None


def with_type(one: Field) -> Field:
    """Return the field with a type, and with what `Annotated[...]` carried set apart."""
    if one.type is MISSING:
        return replace(one, type=str, untyped=True)
    if get_origin(one.type) is Annotated:
        kind, *metadata = get_args(one.type)
        return replace(one, type=kind, metadata=(*metadata, *one.metadata))
    return one


def _refuse_repeats(fields: list[Field]) -> None:
    seen: set[str] = set()
    for one in fields:
        if one.name in seen:
            raise SignatureError(f"field {one.name!r} is declared twice", hint="inputs and outputs need distinct names")
        seen.add(one.name)


def check_type(one: Field) -> None:
    """Refuse what is no type, and classes that cannot cross a prompt, when the signature is made, not when it is called."""
    if not is_type(one.type):
        raise SignatureError(
            f"field {one.name!r}: {one.type!r} is not a type", hint="write a class or e.g. list[str], Literal['a', 'b']"
        )
    if all(getattr(leaf, "__module__", "") in ("builtins", "typing", "collections.abc") for leaf in leaves(one.type)):
        return
    from dspex_nb.signatures.codecs import type_adapter

    try:
        type_adapter(one.type)
    except Exception as error:  # noqa: BLE001 - pydantic raises several kinds; each says the class has no schema
        raise SignatureError(
            f"field {one.name!r}: values of {type_text(one.type)} cannot be written into a prompt ({type(error).__name__})",
            hint="use builtins, enums, dataclasses or pydantic models",
        ) from None
