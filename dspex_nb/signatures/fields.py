"""`Field`: one input or output of a signature, and the constructors `InputField` and `OutputField` that class bodies use."""

from __future__ import annotations

import copy
import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dspex_nb.errors import SignatureError, did_you_mean


class Missing(enum.Enum):
    """The type of `MISSING`; an enum, so that it stays one object in every process."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Literal[Missing.MISSING] = Missing.MISSING
"""Stands where no default was written; None is a default like any other."""

_WORDING = {
    "gt": "greater than: ",
    "ge": "greater than or equal to: ",
    "lt": "less than: ",
    "le": "less than or equal to: ",
    "min_length": "minimum length: ",
    "max_length": "maximum length: ",
    "multiple_of": "a multiple of the given number: ",
    "allow_inf_nan": "allow 'inf', '-inf', 'nan' values: ",
}
_EXTRA = ("desc", "prefix", "format", "parser")
_OTHER = """
    alias alias_priority coerce_numbers_to_str decimal_places deprecated description discriminator examples exclude exclude_if
    fail_fast
    field_title_generator frozen init init_var kw_only max_digits pattern repr serialization_alias strict title union_mode
    validate_default validation_alias
"""
_PYDANTIC = frozenset({*_WORDING, *_OTHER.split()})


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field of a signature.

    Attributes:
        name: A Python identifier; empty only between `InputField()` and the signature that takes it.
        type: The annotation; `str` where none was written.
        desc: The description, or an empty string.
        is_input: Whether the caller gives it.
        default: The value where none is given, or `MISSING`.
        constraints: The bounds in DSPy's wording (`greater than or equal to: 1`), or an empty string.
        rules: Keyword arguments of pydantic's `Field` (`ge`, `max_length`, `pattern`, …), as given.
        metadata: What `Annotated[...]` carried beside the type.
        extra: Further keys of DSPy's `json_schema_extra` (`prefix`, `format`, `parser`; `desc` if it was given and empty).
        factory: Makes the default, or None.
        untyped: No annotation was written; such a field equals one written `str`, since every prompt is the same.
        marked: What DSPy notes of this (`IS_TYPE_UNDEFINED`), or None where it notes nothing; equality ignores it too.
    """

    name: str = ""
    type: Any = MISSING
    desc: str = ""
    is_input: bool = True
    default: Any = MISSING
    constraints: str = ""
    rules: Mapping[str, Any] = field(default_factory=dict)
    metadata: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    factory: Callable[[], Any] | None = None
    untyped: bool = False
    marked: bool | None = None

    @property
    def required(self) -> bool:
        """Whether the field has no default."""
        return self.default is MISSING and self.factory is None

    @property
    def description(self) -> str:
        """The description as DSPy keeps it: `${name}` where none was written."""
        return self.desc or str(self.extra.get("desc", f"${{{self.name}}}"))

    @property
    def prefix(self) -> str:
        """The label that DSPy's saved state holds, made from the name unless one was given."""
        return str(self.extra.get("prefix", f"{infer_prefix(self.name)}:"))

    def default_value(self) -> Any:
        """Return a fresh copy of the default, so that a list given as default is never shared; `MISSING` if there is none."""
        return self.factory() if self.factory is not None else copy.deepcopy(self.default)

    def described(self, desc: str) -> Field:
        """Return the field with DSPy's description `desc`, where `${name}` means none."""
        extra = {key: value for key, value in self.extra.items() if key != "desc"}
        if desc == f"${{{self.name}}}":
            desc = ""
        elif not desc:
            extra["desc"] = ""  # DSPy tells a description given empty from none, and its saved state shows it
        return replace(self, desc=desc, extra=extra)

    def labelled(self, prefix: str) -> Field:
        """Return the field with DSPy's prefix; the one made from the name needs no keeping."""
        extra = {key: value for key, value in self.extra.items() if key != "prefix"}
        plain = prefix == f"{infer_prefix(self.name)}:"
        return replace(self, extra=extra if plain else {**extra, "prefix": prefix})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Field):
            return NotImplemented
        if self is other:
            return True
        # `Union[int, str] == Union[str, int]` and `True == 1`, but they read and show differently: texts and classes tell.
        return (
            _content(self) == _content(other)
            and (self.type is other.type or str(self.type) == str(other.type))
            and type(self.default) is type(other.default)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.desc, self.is_input, self.constraints))  # types and defaults need not be hashable


def _content(one: Field) -> tuple[Any, ...]:
    options = (one.constraints, one.rules, one.metadata, one.extra, one.factory)
    return (one.name, one.is_input, one.desc, one.type, one.default, *options)


def InputField(**options: Any) -> Field:  # noqa: N802 - DSPy's name
    """Declare an input: `desc=`, `default=`, and pydantic's bounds (`ge`, `le`, `max_length`, …)."""
    return _declare(options, is_input=True)


def OutputField(**options: Any) -> Field:  # noqa: N802 - DSPy's name
    """Declare an output: `desc=`, `default=`, and pydantic's bounds (`ge`, `le`, `max_length`, …)."""
    return _declare(options, is_input=False)


def _declare(options: dict[str, Any], *, is_input: bool) -> Field:
    known = {*_PYDANTIC, *_EXTRA, "default", "default_factory", "annotation", "json_schema_extra"}
    for word in options:
        if word not in known:
            function = "InputField" if is_input else "OutputField"
            raise SignatureError(
                f"{function}() takes no option {word!r}",
                hint=f"{did_you_mean(word, known)}common ones: desc, default, ge, le, max_length",
            )
    extra = {key: options[key] for key in _EXTRA[1:] if key in options} | dict(options.get("json_schema_extra") or {})
    desc = options.get("desc", options.get("description", extra.pop("desc", None)))
    if desc == "":
        extra["desc"] = ""
    return Field(
        type=options.get("annotation", MISSING),
        desc=str(desc or ""),
        is_input=is_input,
        default=MISSING if options.get("default", ...) is ... else options["default"],
        constraints=wording(options),
        rules={key: value for key, value in options.items() if key in _PYDANTIC},
        extra=extra,
        factory=options.get("default_factory"),
    )


def wording(rules: Mapping[str, Any]) -> str:
    """Return bounds in DSPy's words, in the order given."""
    return ", ".join(f"{_WORDING[key]}{value}" for key, value in rules.items() if key in _WORDING)


def infer_prefix(name: str) -> str:
    """Return the label DSPy derives from a field's name: `HTMLText2` becomes `HTML Text 2`."""
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", split)
    split = re.sub(r"([a-zA-Z])(\d)", r"\1_\2", split)
    split = re.sub(r"(\d)([a-zA-Z])", r"\1_\2", split)
    return " ".join(word if word.isupper() else word.capitalize() for word in split.split("_"))
