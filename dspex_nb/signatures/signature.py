"""`Signature`: an immutable value that says what goes into a model call and what comes out."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import FrameType, MappingProxyType
from typing import Any, Self, TypeVar

from dspex_nb.errors import SignatureError, did_you_mean
from dspex_nb.signatures.cells import read_cell
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.grammar import Piece, check_name
from dspex_nb.signatures.specs import check_type, read_spec, type_from_text, with_type
from dspex_nb.signatures.types import leaves, type_text


class SignatureMeta(type):
    """Makes `class S(Signature): ...` a Signature value; `as_class=True` makes a subclass instead."""

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], *, as_class: bool = False) -> Any:
        """Return a class for the library's own declarations, a value for a user's."""
        base = next((base for base in bases if isinstance(base, SignatureMeta)), None)
        if base is None or as_class:
            space.pop("__orig_bases__", None)
            return super().__new__(mcs, name, bases, space)
        return _declared(base, name, space, inspect.currentframe())


class Signature(metaclass=SignatureMeta):
    """Named inputs and outputs with types, descriptions and instructions.

    Args:
        spec: DSPy's one-line form `question, context: list[str] -> answer: str`, or
            `{"inputs": {"question": str}, "outputs": {"answer": "int"}}` whose values are types, their text, or `Field`s,
            or fields.
        instructions: What to do; DSPy's default wording if None or empty.
        name: What the signature is called; it appears in no prompt.
        types: What the names in types mean beyond builtins and typing.

    A class body works as in DSPy and gives a value too; a subclass of a value inherits its fields::

        class Triage(Signature):
            '''Route a customer message to the right desk.'''
            message: str = InputField()
            desk: Literal["billing", "tech"] = OutputField()
    """

    __slots__ = ("__weakref__", "_digest", "_fields", "_instructions", "_name")
    _fields: Mapping[str, Field]
    _instructions: str
    _name: str
    _digest: str

    def __init__(
        self,
        spec: str | Mapping[str, Any] | Iterable[Field],
        instructions: str | None = None,
        *,
        name: str = "StringSignature",
        types: Mapping[str, Any] | None = None,
    ) -> None:
        fields = read_spec(spec.fields.values() if isinstance(spec, Signature) else spec, types or {})
        for one in fields:
            check_type(one)
        ordered = {one.name: one for one in sorted(fields, key=lambda one: not one.is_input)}
        _set(self, "_fields", MappingProxyType(ordered))
        _set(self, "_name", name)
        # DSPy takes empty instructions for none; only a docstring or a saved state can leave them empty.
        _set(self, "_instructions", inspect.cleandoc(instructions) if instructions else _default_instructions(self))

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
        """All fields by name, inputs first."""
        return self._fields

    @property
    def inputs(self) -> Mapping[str, Field]:
        """The input fields by name."""
        return {name: one for name, one in self._fields.items() if one.is_input}

    @property
    def outputs(self) -> Mapping[str, Field]:
        """The output fields by name."""
        return {name: one for name, one in self._fields.items() if not one.is_input}

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
    def digest(self) -> str:
        """A hex hash of all that a prompt depends on: instructions, fields, types, descriptions, defaults."""
        try:
            return self._digest
        except AttributeError:
            content = [self._instructions, [_identity(one) for one in self._fields.values()]]
            _set(self, "_digest", hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:32])
            return self._digest

    def with_instructions(self, instructions: str | None) -> Self:
        """Return the same fields under other instructions; None gives the default wording."""
        return self._made(self._fields.values(), instructions)

    def with_name(self, name: str) -> Self:
        """Return the same signature under another name."""
        return _rebuild(type(self), list(self._fields.values()), self._instructions, name)

    def append(self, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field last among its kind."""
        return self.insert(-1, name, field, type_)

    def prepend(self, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field first among its kind."""
        return self.insert(0, name, field, type_)

    def insert(self, index: int, name: str, field: Field, type_: Any = None) -> Self:
        """Return a signature with the field at `index` among its kind; negative counts from the end, -1 appends."""
        kind = type_ if type_ is not None else (str if field.type is MISSING else field.type)
        rest = [one for one in self._fields.values() if one.name != name]
        same = [one for one in rest if one.is_input == field.is_input]
        place = index + len(same) + 1 if index < 0 else index
        if not 0 <= place <= len(same):
            raise SignatureError(
                f"cannot insert {name!r} at {index}: there are {len(same)} such fields", hint=f"use 0 to {len(same)}, or -1"
            )
        same.insert(place, replace(field, name=name, type=kind))
        return self._made([*same, *(one for one in rest if one.is_input != field.is_input)], self._instructions)

    def delete(self, name: str) -> Self:
        """Return a signature without the field; the same one if it has no such field."""
        return self._made([one for one in self._fields.values() if one.name != name], self._instructions)

    def with_updated_fields(self, name: str, type_: Any = None, **changes: Any) -> Self:
        """Return a signature whose field `name` has another type or description (`desc=`)."""
        if name not in self._fields:
            raise SignatureError(
                f"{self._name} has no field {name!r}", hint=f"{did_you_mean(name, self._fields)}fields: {', '.join(self._fields)}"
            )
        one = self._fields[name]
        desc = changes.pop("desc", None)
        constraints = changes.pop("constraints", one.constraints)
        one = replace(one, extra={**one.extra, **changes}, constraints=constraints)
        one = one if desc is None else one.described(str(desc))
        one = one if type_ is None else replace(one, type=type_, untyped=False)
        return self._made([one if old.name == name else old for old in self._fields.values()], self._instructions)

    def dump_state(self) -> dict[str, Any]:
        """Return DSPy's saved state: instructions, and each field's prefix and description."""
        fields = [{"prefix": one.prefix, "description": one.description} for one in self._fields.values()]
        return {"instructions": self._instructions, "fields": fields}

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Return this signature with a saved state's instructions, prefixes and descriptions."""
        fields = list(self._fields.values())
        for at, saved in enumerate(state["fields"][: len(fields)]):
            one = fields[at].described(saved["description"])
            if saved["prefix"] != one.prefix:
                one = replace(one, extra={**one.extra, "prefix": saved["prefix"]})
            fields[at] = one
        return _rebuild(type(self), fields, inspect.cleandoc(state["instructions"]), self._name)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the outputs, with bounds and descriptions.

        Raises:
            SignatureError: An output's type has no JSON form.
        """
        from dspex_nb.signatures.schema import outputs_schema

        return outputs_schema(self._name, list(self.outputs.values()))

    def _made(self, fields: Iterable[Field], instructions: str | None) -> Self:
        return type(self)(list(fields), instructions, name=self._name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        # `class T(S)` for a value S: its class takes the base's place, and `_declared` finds S in __orig_bases__.
        already = any(isinstance(base, SignatureMeta) for base in bases) or bases.index(self) > 0
        return () if already else (type(self),)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a signature is a value; use e.g. .with_instructions() for a changed copy of {self._name}")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Signature)
            and self._instructions == other._instructions
            and list(self._fields.items()) == list(other._fields.items())
        )

    def __hash__(self) -> int:
        return hash((self._instructions, tuple(self._fields)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), list(self._fields.values()), self._instructions, self._name))

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


def _set(signature: Signature, name: str, value: Any) -> None:
    object.__setattr__(signature, name, value)


def _rebuild(kind: type[_S], fields: list[Field], instructions: str, name: str) -> _S:
    """Return a signature with exactly these instructions, empty ones included."""
    signature = kind(fields, instructions, name=name)
    _set(signature, "_instructions", instructions)
    return signature


def _default_instructions(signature: Signature) -> str:
    inputs = ", ".join(f"`{name}`" for name in signature.inputs)
    outputs = ", ".join(f"`{name}`" for name in signature.outputs)
    return f"Given the fields {inputs}, produce the fields {outputs}."


def _side(fields: Mapping[str, Field]) -> str:
    return ", ".join(_field_text(one) for one in fields.values())


def _field_text(one: Field) -> str:
    text = one.name if one.untyped else f"{one.name}: {type_text(one.type)}"
    literal = isinstance(one.default, str | int | float | bool | list | dict | tuple | None)
    return f"{text} = {one.default!r}" if literal and one.default is not MISSING else text


def _identity(one: Field) -> list[Any]:
    shapes = [_shape(leaf) for leaf in leaves(one.type)]
    extras = sorted((key, repr(value)) for key, value in {**one.rules, **one.extra}.items())
    said = [one.name, one.is_input, one.desc, one.constraints, repr(one.default), extras]
    return [*said, type_text(one.type), shapes, [repr(item) for item in one.metadata]]


def _shape(leaf: Any) -> Any:
    """Return what tells two classes of one name apart: an enum's members, a model's schema."""
    members = getattr(leaf, "__members__", None)
    if members is not None:
        return [[name, repr(member.value)] for name, member in members.items()]
    if hasattr(leaf, "model_json_schema"):
        try:
            return leaf.model_json_schema()
        except Exception:  # noqa: BLE001 - a model without JSON form is told apart by its name alone
            return repr(leaf)
    return getattr(leaf, "__module__", "")


def _declared(base: SignatureMeta, name: str, space: dict[str, Any], frame: FrameType | None) -> Any:
    """Return the value that a class body declares."""
    parents = [parent for parent in space.get("__orig_bases__", ()) if isinstance(parent, Signature)]
    fields: dict[str, Field] = {}
    for parent in reversed(parents):
        fields.update(parent.fields)
    annotations = _annotations(space)
    for key, value in space.items():
        if isinstance(value, Field):
            check_name(Piece(key, 0, len(key)))
            kind = annotations.pop(key, value.type)
            kind = _resolve(key, kind, space, frame)
            fields[key] = with_type(replace(value, name=key, type=kind, untyped=kind is MISSING))
    if annotations:
        stray = next(iter(annotations))
        raise SignatureError(
            f"field {stray!r} of {name} is neither input nor output", hint=f"write {stray}: ... = InputField() or OutputField()"
        )
    doc = space.get("__doc__")
    if doc is None:
        doc = next((parent.instructions for parent in reversed(parents) if parent.instructions), None)
    made = base(list(fields.values()), doc, name=name)
    if doc == "":  # an empty docstring is not the same as none
        _set(made, "_instructions", "")
    return made


def _annotations(space: dict[str, Any]) -> dict[str, Any]:
    if "__annotations__" not in space and sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(space)
        if annotate:
            return dict(annotationlib.call_annotate_function(annotate, format=annotationlib.Format.FORWARDREF))
    return dict(space.get("__annotations__", {}))


def _resolve(field: str, kind: Any, space: Mapping[str, Any], frame: FrameType | None) -> Any:
    """Return a written-as-text annotation (`from __future__ import annotations`) as the type it names in its module."""
    if not isinstance(kind, str):
        return kind
    names = dict(vars(sys.modules[space["__module__"]])) if space.get("__module__") in sys.modules else {}
    caller = frame.f_back if frame else None
    if caller is not None:
        names.update(caller.f_globals)
        names.update(caller.f_locals)
    return type_from_text(field, kind, names)
