"""Signatures from our values to DSPy's classes and back, without loss."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import dspy
from dspy.utils.constants import IS_TYPE_UNDEFINED
from pydantic import fields as pydantic_fields
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspex_nb.signatures import MISSING, Field, Signature
from dspex_nb.signatures.annotations import as_rules, facts_of
from dspex_nb.signatures.signature import rebuild

_KIND = "__dspy_field_type"


def dspy_module() -> Any:
    """Return the `dspy` module, for types written `dspy.Image` in a signature's text."""
    return dspy


def to_dspy(signature: Signature) -> type[dspy.Signature]:
    """Return a fresh `dspy.Signature` subclass with the same fields, instructions and name."""
    body: dict[str, Any] = {name: _info(one) for name, one in signature.fields.items()}
    body["__annotations__"] = {name: _annotation(one) for name, one in signature.fields.items()}
    said = signature.instructions
    # DSPy strips a docstring's indentation; below an empty first line it takes nothing from text that has none in common.
    body |= {"__doc__": said if inspect.cleandoc(said) == said else f"\n{said}", "__module__": __name__}
    made: type[dspy.Signature] = type(dspy.Signature)(signature.name, (dspy.Signature,), body)
    return made


def from_dspy(cls: type[dspy.Signature]) -> Signature:
    """Return the value that a `dspy.Signature` subclass stands for."""
    fields = [_field(name, info) for name, info in cls.fields.items()]
    return rebuild(Signature, fields, cls.instructions, cls.__name__)


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
    if one.marked is not None:
        extra[IS_TYPE_UNDEFINED] = one.marked
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
    prefix = kept.pop("prefix", None)
    rules, metadata = as_rules(info.metadata, facts_of(info))
    one = Field(
        name=name,
        type=info.annotation,
        is_input=given.get(_KIND) == "input",
        default=MISSING if info.default is PydanticUndefined else info.default,
        constraints=given.get("constraints", ""),
        rules=rules,
        metadata=metadata,
        extra=kept,
        factory=info.default_factory,  # type: ignore[arg-type]  # one that takes the validated data is not DSPy's
        untyped=bool(given.get(IS_TYPE_UNDEFINED)),
        marked=given.get(IS_TYPE_UNDEFINED),
    )
    one = one.described(given.get("desc", f"${{{name}}}"))
    return one if prefix is None else one.labelled(prefix)
