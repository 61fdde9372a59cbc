"""What a field's annotation says: its type, what `Annotated[...]` carries beside it, and whether it can cross a prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import GenericAlias, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin

from dspex_nb.errors import SignatureError
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.types import is_type, leaves, type_text

_BOUNDS = frozenset((
    "gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of", "pattern", "allow_inf_nan", "max_digits", "decimal_places",
    "strict", "coerce_numbers_to_str", "union_mode", "fail_fast",
))  # fmt: skip
_FACTS = (
    "title", "description", "examples", "alias", "alias_priority", "validation_alias", "serialization_alias", "deprecated",
    "discriminator", "exclude", "exclude_if", "field_title_generator", "frozen", "init", "init_var", "kw_only", "repr",
    "validate_default",
)  # fmt: skip
_PLAIN = {
    id(kind) for kind in (str, int, float, bool, list, tuple, dict, set, frozenset, complex, bytes, bytearray, type(None), Any)
}


def with_type(one: Field) -> Field:
    """Return a field that has its name with a type, with what `Annotated[...]` carried set apart, without what is plain."""
    if one.desc == f"${{{one.name}}}":
        one = one.described(one.desc)
    if "prefix" in one.extra:
        one = one.labelled(one.prefix)
    if one.type is MISSING:
        return replace(one, type=str, untyped=True)
    if get_origin(one.type) is not Annotated:
        return one
    kind, *notes = get_args(one.type)
    given: list[Any] = []
    for note in notes:
        if is_pydantic_field(note):
            one, more = _merged(one, note)
            given.extend(more)
        else:
            given.append(note)
    rules, metadata = as_rules(given, one.rules)
    return replace(one, type=kind, rules=rules, metadata=(*one.metadata, *metadata))


def is_pydantic_field(value: Any) -> bool:
    """Whether `value` is pydantic's `FieldInfo`, told without importing pydantic."""
    return type(value).__name__ == "FieldInfo" and type(value).__module__.startswith("pydantic")


def _merged(one: Field, info: Any) -> tuple[Field, list[Any]]:
    """Return the field with what a `Field(...)` inside `Annotated` adds, as pydantic merges it, and its bounds."""
    default, factory = one.default, one.factory
    if one.required and not info.is_required():
        default, factory = (MISSING, info.default_factory) if info.default_factory else (info.default, None)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    rules = facts_of(info) | dict(one.rules)
    return replace(one, default=default, factory=factory, extra={**extra, **one.extra}, rules=rules), list(info.metadata)


def facts_of(info: Any) -> dict[str, Any]:
    """Return the options of a pydantic `FieldInfo` that are no bounds, as they were given."""
    blank = type(info)()
    found = {key: getattr(info, key) for key in _FACTS if getattr(info, key, None) != getattr(blank, key, None)}
    alias = found.get("alias")
    if alias is not None:  # pydantic fills these from the alias
        return {key: value for key, value in found.items() if (key, value) not in _FILLED and (key == "alias" or value != alias)}
    return found


_FILLED = [("alias_priority", 2)]


def as_rules(notes: Iterable[Any], rules: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return `rules` with the notes that state one bound each, by pydantic's keyword, and the notes that remain."""
    found, rest = dict(rules), []
    for note in notes:
        said = _said(note)
        if len(said) == 1 and said.keys() <= _BOUNDS and not said.keys() & found.keys():
            found |= said
        else:
            rest.append(note)
    return found, tuple(rest)


def _said(note: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(note) and not isinstance(note, type):
        said = {one.name: getattr(note, one.name) for one in dataclasses.fields(note)}
    else:
        said = dict(getattr(note, "__dict__", {}))
    return {key: value for key, value in said.items() if value is not None}


def resolved(annotation: Any, read: Callable[[str], Any]) -> Any:
    """Return the annotation with every type that is written as text, `Optional["Item"]`, read by `read`."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return read(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (None, Literal):
        return annotation
    texts = (str, ForwardRef) if origin is not Annotated else ForwardRef  # a text behind Annotated's type is a note
    new = tuple(resolved(arg, read) if is_type(arg) or isinstance(arg, texts) else arg for arg in args)
    if all(before is after for before, after in zip(args, new, strict=True)):
        return annotation
    if origin is Annotated:
        return Annotated[new]
    if origin in (Union, UnionType):
        return Union[new]  # noqa: UP007 - made from a tuple
    return GenericAlias(origin, new) if isinstance(annotation, GenericAlias) else annotation.copy_with(new)


def check_type(one: Field) -> None:
    """Refuse what is no type, what cannot cross a prompt, and bounds that do not fit: when it is made, not when it is called.

    Raises:
        SignatureError: Said of the field, by its name.
    """
    if not is_type(one.type):
        raise SignatureError(
            f"field {one.name!r}: {one.type!r} is not a type", hint="write a class or e.g. list[str], Literal['a', 'b']"
        )
    bounds = {key: value for key, value in one.rules.items() if key in _BOUNDS}
    if not bounds and not one.metadata and all(id(leaf) in _PLAIN for leaf in leaves(one.type)):
        return
    from dspex_nb.signatures.codecs import type_adapter

    try:
        type_adapter(one.type)
    except Exception as error:  # noqa: BLE001 - pydantic raises several kinds; each says the class has no schema
        raise SignatureError(
            f"field {one.name!r}: values of {type_text(one.type)} cannot be written into a prompt ({type(error).__name__})",
            hint="use builtins, enums, dataclasses or pydantic models",
        ) from None
    if bounds or one.metadata:
        _check_bounds(one, bounds)


def _check_bounds(one: Field, bounds: dict[str, Any]) -> None:
    import pydantic

    checked: Any = Annotated[(one.type, pydantic.Field(**bounds), *one.metadata)]
    try:
        pydantic.TypeAdapter(checked)
    except Exception as error:  # noqa: BLE001 - as above
        said = ", ".join([*(f"{key}={value!r}" for key, value in bounds.items()), *map(repr, one.metadata)])
        raise SignatureError(
            f"field {one.name!r}: {said} does not fit {type_text(one.type)} ({type(error).__name__})",
            hint=f"pydantic says: {str(error).splitlines()[0]}",
        ) from None
