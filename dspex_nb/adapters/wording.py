"""How DSPy's chat and JSON formats word a signature: field lists, type notes, values."""

from __future__ import annotations

import enum
import inspect
import itertools
import json
import textwrap
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from dspex_nb.signatures.codecs import codec_for, jsonable, type_adapter, type_name
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature
from dspex_nb.signatures.types import leaves


def field_lists(signature: Signature) -> str:
    """Return the two numbered lists of fields that open the system message."""
    return f"Your input fields are:\n{_numbered(signature.inputs)}\nYour output fields are:\n{_numbered(signature.outputs)}"


def _numbered(fields: Mapping[str, Field]) -> str:
    lines = []
    for number, (name, field) in enumerate(fields.items(), start=1):
        bounds = f"\nConstraints: {field.constraints}" if field.constraints else ""
        lines.append(f"{number}. `{name}` ({type_name(field.type)}): {field.desc}{_about(field)}{bounds}")
    return "\n".join(lines).strip()


def _about(field: Field) -> str:
    """Return what the types inside a field's annotation say of themselves, one a line."""
    said = []
    for kind in itertools.chain(leaves(field.type), field.metadata):
        codec = codec_for(kind)
        about = codec.about(kind) if codec and codec.about else ""
        if about:
            said.append(f"\n    Type description of {type_name(kind)}: {about}")
    return "".join(said)


def objective(signature: Signature) -> str:
    """Return the last part of the system message: the instructions, indented."""
    lines = "".join(f"\n{' ' * 8}{line}" for line in textwrap.dedent(signature.instructions).splitlines())
    return f"In adhering to this structure, your objective is: {lines}"


def placeholder(field: Field) -> str:
    """Return what stands for a field's value in the description of the structure, with a note on its type."""
    note = "" if field.is_input else _note(field.type)
    return f"{{{field.name}}}" + (f"{' ' * 8}# note: the value you produce {note}" if note else "")


def _note(kind: Any) -> str:  # noqa: PLR0911 - one return a kind of type reads best
    codec = codec_for(kind)
    if codec and codec.note is not None:
        return codec.note
    if kind is str:
        return ""
    if kind is bool:
        return "must be True or False"
    if kind in (int, float):
        return f"must be a single {kind.__name__} value"
    if inspect.isclass(kind) and get_origin(kind) is None and issubclass(kind, enum.Enum):
        return f"must be one of: {'; '.join(str(member.value) for member in kind)}"
    if get_origin(kind) is Literal:
        return f"must exactly match (no extra characters) one of: {'; '.join(str(value) for value in get_args(kind))}"
    schema = _type_first(type_adapter(kind).json_schema())
    return f"must adhere to the JSON schema: {json.dumps(schema, ensure_ascii=False)}"


def _type_first(part: Any) -> Any:
    """Return a schema with sorted keys, `type` before all."""
    if isinstance(part, Mapping):
        return {key: _type_first(part[key]) for key in sorted(part, key=lambda key: (key != "type", key))}
    return [_type_first(item) for item in part] if isinstance(part, list) else part


def type_reminder(field: Field) -> str:
    """Return the note behind an output's name in the closing request."""
    codec = codec_for(field.type)
    if codec and codec.reminder is not None:
        return codec.reminder
    return "" if field.type is str else f" (must be formatted as a valid Python {type_name(field.type)})"


def value_text(field: Field, value: Any) -> str:
    """Return a value as prompts show it: text as it is, lists given for text numbered, everything else as JSON."""
    if type(value) is str:
        return value
    if isinstance(value, list) and field.type is str:
        return _enumerated([item if type(item) is str else _plain_text(item) for item in value])
    return _plain_text(value)


def _plain_text(value: Any) -> str:
    plain = jsonable(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else str(plain)


def _enumerated(items: list[str]) -> str:
    if not items:
        return "N/A"
    if len(items) == 1:
        return _guillemets(items[0])
    return "\n".join(f"[{number}] {_guillemets(item)}" for number, item in enumerate(items, start=1))


def _guillemets(text: str) -> str:
    if any(mark in text for mark in "\n«»"):
        indented = text.replace("\n", "\n    ")
        return f"«««\n    {indented}\n»»»"
    return f"«{text}»"
