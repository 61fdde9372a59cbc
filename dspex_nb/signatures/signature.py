"""`Signature`: an immutable value that says what goes into a model call and what comes out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar

from dspex_nb.errors import SignatureError, did_you_mean
from dspex_nb.signatures.annotations import check_type, with_type
from dspex_nb.signatures.cells import read_cell
from dspex_nb.signatures.classes import read_body
from dspex_nb.signatures.digests import digest_of, stable_hash
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.forms import Form, read_form
from dspex_nb.signatures.grammar import Piece, check_name
from dspex_nb.signatures.names import Names
from dspex_nb.signatures.specs import read_spec
from dspex_nb.signatures.types import type_text


class SignatureMeta(type):
    """Makes `class S(Signature): ...` a Signature value; `as_class=True` makes a subclass instead."""

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], *, as_class: bool = False) -> Any:
        """Return a class for the library's own declarations, a value for a user's."""
        base = next((base for base in bases if isinstance(base, SignatureMeta)), None)
        if base is None or as_class:
            space.pop("__orig_bases__", None)
            return super().__new__(mcs, name, bases, space)
        frame = inspect.currentframe()
        return _declared(base, name, space, frame.f_back if frame else None)


class Signature(metaclass=SignatureMeta):
    """Named inputs and outputs with types, descriptions and instructions.

    Args:
        spec: DSPy's one-line form `question, context: list[str] -> answer: str`, or
            `{"inputs": {"question": str}, "outputs": {"answer": "int"}}` whose values are types, their text, or `Field`s,
            or DSPy's `{"question": (str, InputField())}`, or fields.
        instructions: What to do; DSPy's default wording if None or empty.
        name: What the signature is called; it appears in no prompt.
        types: What the names in types mean; None means what they mean where the signature is written, as in DSPy.

    A class body works as in DSPy and gives a value too; a subclass of a value inherits its fields::

        class Triage(Signature):
            '''Route a customer message to the right desk.'''
            message: str = InputField()
            desk: Literal["billing", "tech"] = OutputField()
    """

    __slots__ = ("__weakref__", "_digest", "_form", "_hash", "_instructions", "_name")
    _form: Form
    _instructions: str
    _name: str
    _digest: str
    _hash: int

    def __init__(
        self,
        spec: str | Mapping[str, Any] | Iterable[Field],
        instructions: str | None = None,
        *,
        name: str = "StringSignature",
        types: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(spec, str):
            form = read_form(spec, Names(types))
        elif isinstance(spec, Signature):
            form = spec._form  # noqa: SLF001 - of its own kind
        else:
            form = Form.of(read_spec(spec, Names(types)))
        # DSPy takes empty instructions for none; only a docstring or a saved state can leave them empty.
        _fill(self, form, inspect.cleandoc(instructions) if instructions else form.wording, name)

    @property
    def name(self) -> str:
        """What the signature is called."""
        return self._name

    @property
    def instructions(self) -> str:
        """What the model is told to do."""
        return self._instructions

    @property
    def fields(self) -> Mapping[str, Field]:
        """All fields by name, inputs first; read-only."""
        return self._form.fields

    @property
    def inputs(self) -> Mapping[str, Field]:
        """The input fields by name; read-only."""
        return self._form.inputs

    @property
    def outputs(self) -> Mapping[str, Field]:
        """The output fields by name; read-only."""
        return self._form.outputs

    @property
    def input_fields(self) -> Mapping[str, Field]:
        """DSPy's name for `inputs`."""
        return self.inputs

    @property
    def output_fields(self) -> Mapping[str, Field]:
        """DSPy's name for `outputs`."""
        return self.outputs

    @property
    def spec(self) -> str:
        """The one-line form, with types and literal defaults; descriptions are not part of it."""
        return f"{_side(self.inputs)} -> {_side(self.outputs)}".strip()

    @property
    def signature(self) -> str:
        """DSPy's short form: the names alone, `question, context -> answer`."""
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    @property
    def digest(self) -> str:
        """A hex hash of all that a prompt depends on: instructions, fields, types, descriptions, defaults."""
        try:
            return self._digest
        except AttributeError:
            _set(self, "_digest", digest_of(self._instructions, self.fields.values()))
            return self._digest

    def with_instructions(self, instructions: str | None) -> Self:
        """Return the same fields under other instructions; None gives the default wording."""
        return _made(self, self._form, instructions)

    def append_instructions(self, instructions: str) -> Self:
        """Return the same fields with `instructions` added after a blank line."""
        return self.with_instructions(f"{self._instructions}\n\n{instructions}")

    def with_name(self, name: str) -> Self:
        """Return the same signature under another name."""
        return _fill(type(self).__new__(type(self)), self._form, self._instructions, name)

    def append(self, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field last among its kind."""
        return self.insert(-1, name, field, type_)

    def prepend(self, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field first among its kind."""
        return self.insert(0, name, field, type_)

    def insert(self, index: int, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field at `index` among its kind; negative counts from the end, -1 appends.

        As in DSPy, the later of two fields of one name stays, in the earlier one's place.
        """
        if not isinstance(field, Field):
            raise SignatureError(f"cannot insert {name!r}, a {type(field).__name__}", hint="use InputField() or OutputField()")
        check_name(Piece(name, 0, len(name)))
        same = list((self.inputs if field.is_input else self.outputs).values())
        place = index + len(same) + 1 if index < 0 else index
        if not 0 <= place <= len(same):
            raise SignatureError(
                f"cannot insert {name!r} at {index}: there are {len(same)} such fields", hint=f"use 0 to {len(same)}, or -1"
            )
        kind = type_ if type_ is not None else (str if field.type is MISSING else field.type)
        same.insert(place, _checked(replace(field, name=name, type=kind)))
        both = [*same, *self.outputs.values()] if field.is_input else [*self.inputs.values(), *same]
        return _made(self, Form.of({one.name: one for one in both}.values()), self._instructions)

    def delete(self, name: str) -> Self:
        """Return a signature without the field; the same one if it has no such field."""
        return _made(self, Form.of(one for one in self.fields.values() if one.name != name), self._instructions)

    def with_updated_fields(self, name: str, type_: Any = None, **changes: Any) -> Self:
        """Return a signature whose field `name` has another type or description (`desc=`)."""
        if name not in self.fields:
            raise SignatureError(
                f"{self._name} has no field {name!r}", hint=f"{did_you_mean(name, self.fields)}fields: {', '.join(self.fields)}"
            )
        one = self.fields[name]
        desc = changes.pop("desc", None)
        constraints = changes.pop("constraints", one.constraints)
        one = replace(one, extra={**one.extra, **changes}, constraints=constraints)
        one = one if desc is None else one.described(str(desc))
        one = one if type_ is None else replace(one, type=type_, untyped=False)
        one = _checked(one)
        return _made(self, Form.of(one if old.name == name else old for old in self.fields.values()), self._instructions)

    def dump_state(self) -> dict[str, Any]:
        """Return DSPy's saved state: instructions, and each field's prefix and description."""
        fields = [{"prefix": one.prefix, "description": one.description} for one in self.fields.values()]
        return {"instructions": self._instructions, "fields": fields}

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Return this signature with a saved state's instructions, prefixes and descriptions."""
        fields = list(self.fields.values())
        for at, saved in enumerate(state["fields"][: len(fields)]):
            fields[at] = fields[at].described(saved["description"]).labelled(saved["prefix"])
        return rebuild(type(self), fields, inspect.cleandoc(state["instructions"]), self._name)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the outputs, with bounds and descriptions.

        Raises:
            SignatureError: An output's type has no JSON form.
        """
        from dspex_nb.signatures.schema import outputs_schema

        return outputs_schema(self._name, list(self.outputs.values()))

    def equals(self, other: object) -> bool:
        """DSPy's name for `==`."""
        return self == other

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        # `class T(S)` for a value S: its class takes the base's place, and `_declared` finds S in __orig_bases__.
        already = any(isinstance(base, SignatureMeta) for base in bases) or bases.index(self) > 0
        return () if already else (type(self),)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a signature is a value; use e.g. .with_instructions() for a changed copy of {self._name}")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Signature)
            and self._instructions == other._instructions
            and list(self.fields.values()) == list(other.fields.values())
        )

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            _set(self, "_hash", stable_hash(self._instructions, self.fields.values()))
            return self._hash

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (rebuild, (type(self), list(self.fields.values()), self._instructions, self._name))

    def __repr__(self) -> str:
        return f"Signature({self.spec!r}, instructions={self._instructions!r})"


_S = TypeVar("_S", bound=Signature)


def parse_cell(name: str, text: str, types: Mapping[str, Any] | None = None) -> Signature:
    """Return the signature that a `%%signature NAME` cell's body declares.

    Raises:
        SignatureSyntaxError: With line, caret and what was expected.
    """
    cell = read_cell(text, types or {})
    return Signature(cell.fields, cell.instructions, name=name)


def rebuild(kind: type[_S], fields: Iterable[Field], instructions: str, name: str) -> _S:
    """Return a signature with exactly these fields and instructions, empty ones included; nothing is checked again."""
    return _fill(kind.__new__(kind), Form.of(fields), instructions, name)


def recast(signature: Signature, kind: type[_S]) -> _S:
    """Return the signature as another class of signatures."""
    return _fill(kind.__new__(kind), signature._form, signature._instructions, signature._name)  # noqa: SLF001 - of its own kind


def _fill(signature: _S, form: Form, instructions: str, name: str) -> _S:
    _set(signature, "_form", form)
    _set(signature, "_instructions", instructions)
    _set(signature, "_name", name)
    return signature


_set = object.__setattr__


def _made(like: _S, form: Form, instructions: str | None) -> _S:
    said = inspect.cleandoc(instructions) if instructions else form.wording
    return _fill(type(like).__new__(type(like)), form, said, like.name)


def _checked(one: Field) -> Field:
    one = with_type(one)
    check_type(one)
    return one


def _side(fields: Mapping[str, Field]) -> str:
    return ", ".join(_field_text(one) for one in fields.values())


def _field_text(one: Field) -> str:
    text = one.name if one.untyped else f"{one.name}: {type_text(one.type)}"
    literal = isinstance(one.default, str | int | float | bool | list | dict | tuple | None)
    return f"{text} = {one.default!r}" if literal and one.default is not MISSING else text


def _declared(base: Any, name: str, space: dict[str, Any], frame: Any) -> Any:
    """Return the value that a class body declares."""
    parents = [parent for parent in reversed(space.get("__orig_bases__", ())) if isinstance(parent, Signature)]
    inherited = {key: one for parent in parents for key, one in parent.fields.items()}
    fields = read_body(name, space, list(inherited.values()), frame)
    form, doc = Form.of(fields), space.get("__doc__")
    if doc is None:
        said = next((parent.instructions for parent in parents if parent.instructions), form.wording)
    else:
        said = inspect.cleandoc(doc)  # an empty docstring is not the same as none
    return _fill(base.__new__(base), form, said, name)
