"""The shortest prompt that works: a line of instructions, the inputs, and a JSON schema that bounds the answer.

Small models do not follow DSPy's format notes, and each word of them costs accuracy and time; constrained decoding makes
the form certain, so the prompt need only say the task. The wording was chosen by measuring: `tests/benchmarks/bench_compact.py`.
"""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import Demo, answer_readers, complete, foreign, read_field, sort_demos
from dspex_nb.adapters.bounds import Shape, answer_shape, field_limits, from_answer, to_answer
from dspex_nb.adapters.json_format import read_object
from dspex_nb.errors import AdapterError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures.codecs import jsonable, type_name
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature

_shapes: dict[str, Shape] = {}


class CompactAdapter:
    """Short prompts with bounded, schema-constrained answers; what small local models need."""

    name = "compact"

    def messages(self, signature: Signature, demos: Sequence[Demo], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return system, demo and user messages."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": system_text(signature)}]
        for group in sort_demos(signature, demos):
            for demo in group:
                messages.append({"role": "user", "content": user_text(signature, demo)})
                messages.append({"role": "assistant", "content": answer_text(signature, demo)})
        messages.append({"role": "user", "content": user_text(signature, inputs)})
        return messages

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:
        """Return the bounded schema where the server takes one (else JSON mode, else nothing), and `max_tokens` that fits it."""
        shape = shape_of(signature)
        options: dict[str, Any] = {"max_tokens": shape.tokens}
        if capabilities.response_schema:
            schema = {"name": "answer", "schema": shape.schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif "response_format" in capabilities.params:
            options["response_format"] = {"type": "json_object"}
        return options

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return the object's fields, typed."""
        readers = answer_readers(signature)
        found: dict[str, Any] = {}
        for name, value in _object(text).items():
            if name in readers:
                field, reader = readers[name]
                found[name] = read_field(field, reader, from_answer(field.type, value), adapter=self.name, answer=text)
        return complete(signature, found, adapter=self.name, answer=text)

    def unsupported(self, signature: Signature) -> str | None:
        """Return why DSPy must serve the signature, or None."""
        reason = foreign(signature)
        if reason is None:
            try:
                shape_of(signature)
            except AdapterError as error:
                return f"{error.message[:1].upper()}{error.message[1:]}."
        return reason


def shape_of(signature: Signature) -> Shape:
    """Return the bounded answer's shape, worked out once a signature.

    Raises:
        AdapterError: An output's type has no bounded form.
    """
    shape = _shapes.get(signature.digest)
    if shape is None:
        shape = answer_shape(signature.outputs.values())
        if len(_shapes) > 1024:  # noqa: PLR2004 - a bound on memory; an optimizer makes hundreds of signatures
            _shapes.clear()
        _shapes[signature.digest] = shape
    return shape


def system_text(signature: Signature) -> str:
    """Return the instructions (unless they are DSPy's default, which says nothing) and what to answer."""
    default = signature.with_instructions(None).instructions
    task = [] if signature.instructions in ("", default) else [signature.instructions.strip()]
    given = [f"{_label(field)}: {field.desc}" for field in signature.inputs.values() if field.desc]
    wanted = ", ".join(_wanted(field) for field in signature.outputs.values())
    return "\n".join([*task, *given, f"Answer in JSON: {wanted}"])


def user_text(signature: Signature, values: Mapping[str, Any]) -> str:
    """Return the inputs that `values` has, one a line."""
    return "\n".join(
        f"{_label(field)}: {wording.value_text(field, values[name])}"
        for name, field in signature.inputs.items()
        if name in values
    )


def answer_text(signature: Signature, demo: Demo) -> str:
    """Return a demo's outputs as the JSON a model is to write; those it lacks are left out."""
    values = {
        name: to_answer(field.type, jsonable(demo[name]))
        for name, field in signature.outputs.items()
        if demo.get(name) is not None
    }
    return json.dumps(values, ensure_ascii=False)


def _label(field: Field) -> str:
    return field.prefix.removesuffix(":")


def _wanted(field: Field) -> str:
    about = "; ".join(part for part in (_values(field), field.desc) if part)
    return f"{field.name} ({about})" if about else field.name


def _values(field: Field) -> str:
    """Return the words for what a field may hold; text needs none."""
    kind = field.type
    if get_origin(kind) is Literal:
        return _either([str(value) for value in get_args(kind)])
    if inspect.isclass(kind) and get_origin(kind) is None and issubclass(kind, enum.Enum):
        return _either([str(jsonable(member.value)) for member in kind])
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        limits = field_limits(field)
        bounds = f"{limits.low} to {limits.high}" if limits.low is not None and limits.high is not None else "number"
        return "" if field.desc and bounds != "number" and not field.constraints else bounds
    return "" if kind is str else f"{type_name(kind)}{f', {field.constraints}' if field.constraints else ''}"


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else read_object(text, adapter="compact")
