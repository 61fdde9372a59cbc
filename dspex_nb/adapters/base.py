"""The `Adapter` port: signature, demos and inputs become messages; a model's text becomes typed fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities, Output
from dspex_nb.signatures.codecs import foreign_types, read_value
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature
from dspex_nb.signatures.types import allows_none, type_text

Demo = Mapping[str, Any]
"""An example: values by field name, inputs and outputs together; it may lack some."""


@runtime_checkable
class Adapter(Protocol):
    """How a signature is put to a model. Implementations are stateless and safe in threads."""

    @property
    def name(self) -> str:
        """The name users write: `adapter="chat"`."""

    def messages(self, signature: Signature, demos: Sequence[Demo], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the chat messages; inputs that are absent are left out."""

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:
        """Return the request options the format needs (`response_format`, `max_tokens`), by what the server can do."""

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return every output field, typed.

        Raises:
            AdapterParseError: The text does not hold them.
        """

    def unsupported(self, signature: Signature) -> str | None:
        """Return why this adapter cannot serve the signature exactly as DSPy would, as a sentence; None if it can."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent for one call, and what its answer is read by.

    Attributes:
        messages: Chat messages in OpenAI's form.
        options: Request options the format needs (`response_format`, `tools`, `max_tokens`, …).
        signature: What the text is read by: without the fields that the provider's own features fill.
    """

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    signature: Signature


def prepare(
    adapter: Adapter,
    signature: Signature,
    demos: Sequence[Demo],
    inputs: Mapping[str, Any],
    capabilities: Capabilities,
    lm_options: Mapping[str, Any],
) -> Prompt:
    """Return the prompt of one call, by what the server can do and by the caller's own model options."""
    return Prompt(adapter.messages(signature, demos, inputs), adapter.options(signature, capabilities), signature)


def read(adapter: Adapter, signature: Signature, prompt: Prompt, output: Output) -> dict[str, Any]:
    """Return every field of `signature` that an answer holds, typed.

    Raises:
        AdapterParseError: The answer does not hold them.
    """
    return adapter.parse(signature, output.text)


def foreign(signature: Signature) -> str | None:
    """Return why a signature needs DSPy: a field whose type DSPy handles in its own way; None if it has none."""
    for field in signature.fields.values():
        found = foreign_types(field.type)
        if found:
            return f"field {field.name!r} is a {type_text(field.type)}, and DSPy has its own way with {found[0].__name__}."
    return None


def read_field(field: Field, value: Any, *, adapter: str, answer: str) -> Any:
    """Return one field's value as its type.

    Raises:
        AdapterParseError: It is not of the type.
    """
    try:
        return read_value(value, field.type)
    except Exception as error:  # besides ValueError, a model's text can drive literal_eval into TypeError or RecursionError
        shown = str(value) if len(str(value)) <= 80 else f"{str(value)[:77]}..."  # noqa: PLR2004 - a line of a cell
        raise AdapterParseError(
            f"the answer's {field.name!r} is {shown!r}, not a {type_text(field.type)}",
            hint="run again, raise max_tokens, or use adapter='compact' where the server takes a JSON schema",
            adapter=adapter,
            answer=answer,
        ) from error


def complete(signature: Signature, found: Mapping[str, Any], *, adapter: str, answer: str) -> dict[str, Any]:
    """Return all outputs in order: what was found, else the default, else None where the type allows it.

    Raises:
        AdapterParseError: A field without fallback is missing.
    """
    outputs: dict[str, Any] = {}
    for name, field in signature.outputs.items():
        if name in found:
            outputs[name] = found[name]
        elif not field.required:
            outputs[name] = field.default_value()
        elif allows_none(field.type):
            outputs[name] = None
    missing = [name for name in signature.outputs if name not in outputs]
    if missing:
        raise AdapterParseError(
            f"the answer lacks {', '.join(map(repr, missing))} (found: {', '.join(outputs) or 'nothing'})",
            hint="raise max_tokens if it was cut off, or use adapter='compact' where the server takes a JSON schema",
            adapter=adapter,
            answer=answer,
        )
    return outputs


def sort_demos(signature: Signature, demos: Sequence[Demo]) -> tuple[list[Demo], list[Demo]]:
    """Return the demos that lack a field, then those that have all; ones without any input or output are dropped."""
    partial: list[Demo] = []
    whole: list[Demo] = []
    for demo in demos:
        if all(name in demo and demo[name] is not None for name in signature.fields):
            whole.append(demo)
        elif any(name in demo for name in signature.inputs) and any(name in demo for name in signature.outputs):
            partial.append(demo)
    return partial, whole
