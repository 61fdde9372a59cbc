"""Signatures from our values to DSPy's classes and back, without loss."""

from __future__ import annotations

from typing import Annotated, Any

import dspy
from dspy.utils.constants import IS_TYPE_UNDEFINED
from pydantic import fields as pydantic_fields
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspex_nb.signatures import MISSING, Field, Signature

_KIND = "__dspy_field_type"
_BOUNDS = (
    "gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of", "pattern", "allow_inf_nan", "max_digits", "decimal_places",
    "strict",
)  # fmt: skip
_FACTS = (
    "title", "description", "examples", "alias", "validation_alias", "serialization_alias", "deprecated", "discriminator",
    "frozen",
)  # fmt: skip


def to_dspy(signature: Signature) -> type[dspy.Signature]:
    """Return a fresh `dspy.Signature` subclass with the same fields, instructions and name."""
    fields = {name: (_annotation(one), _info(one)) for name, one in signature.fields.items()}
    made: type[dspy.Signature] = dspy.Signature(fields, signature.instructions, signature_name=signature.name)
    return made


def from_dspy(cls: type[dspy.Signature]) -> Signature:
    """Return the value that a `dspy.Signature` subclass stands for."""
    fields = [_field(name, info) for name, info in cls.fields.items()]
    return Signature(fields, cls.instructions, name=cls.__name__)


def _annotation(one: Field) -> Any:
    return Annotated[(one.type, *one.metadata)] if one.metadata else one.type


def _info(one: Field) -> FieldInfo:
    extra: dict[str, Any] = {
        **{key: value for key, value in one.extra.items() if key != "desc"},
        "desc": one.description,
        "prefix": one.prefix,
        _KIND: "input" if one.is_input else "output",
    }
    if one.constraints:
        extra["constraints"] = one.constraints
    if one.untyped:
        extra[IS_TYPE_UNDEFINED] = True
    given: dict[str, Any] = {**one.rules, "json_schema_extra": extra}
    if one.factory is not None:
        given["default_factory"] = one.factory
    elif one.default is not MISSING:
        given["default"] = one.default
    info: FieldInfo = pydantic_fields.Field(**given)
    return info


def _field(name: str, info: FieldInfo) -> Field:
    given: Any = info.json_schema_extra or {}
    kept = {key: value for key, value in given.items() if key not in {"desc", "constraints", _KIND, IS_TYPE_UNDEFINED}}
    if given.get(IS_TYPE_UNDEFINED) is False:  # DSPy's string form says so, its class form does not
        kept[IS_TYPE_UNDEFINED] = False
    prefix = kept.pop("prefix", None)
    rules, metadata = _rules(info)
    one = Field(
        name=name,
        type=info.annotation,
        is_input=given.get(_KIND) == "input",
        default=MISSING if info.default is PydanticUndefined else info.default,
        constraints=given.get("constraints", ""),
        rules=rules,
        metadata=metadata,
        extra=kept if prefix is None or prefix == Field(name=name).prefix else {**kept, "prefix": prefix},
        factory=info.default_factory,  # type: ignore[arg-type]  # one that takes the validated data is not DSPy's
        untyped=bool(given.get(IS_TYPE_UNDEFINED)),
    )
    return one.described(given.get("desc", f"${{{name}}}"))


def _rules(info: FieldInfo) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Read pydantic's bounds back into the keywords they were given as; what is none of them came from `Annotated`."""
    rules: dict[str, Any] = {}
    metadata: list[Any] = []
    for item in info.metadata:
        found = {key: getattr(item, key) for key in _BOUNDS if getattr(item, key, None) is not None}
        if found:
            rules |= found
        else:
            metadata.append(item)
    facts = {key: value for key in _FACTS if (value := getattr(info, key, None)) is not None}
    return rules | facts, tuple(metadata)
