"""The `Adapter` port: signature, demos and inputs become messages; a model's text becomes typed fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities, Output
from dspex_nb.signatures.codecs import codec_for, foreign_types, reader_for
from dspex_nb.signatures.fields import MISSING, Field
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


class Server(Protocol):
    """Who is asked: a client, as far as prompts depend on it."""

    @property
    def model(self) -> str:
        """The model string."""

    @property
    def model_type(self) -> str:
        """`"chat"` or `"responses"`: the API it is asked through."""

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The model options sent with every call."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent for one call, and what its answer is read by.

    Attributes:
        messages: Chat messages in OpenAI's form.
        options: The call's request options, the caller's own included; a value of None is not sent.
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
    server: Server,
    options: Mapping[str, Any],
) -> Prompt:
    """Return the prompt of one call.

    Args:
        adapter: Its own `prepare` decides, if it has one; else its `options` stand behind the caller's.
        signature: What is asked.
        demos: Examples.
        inputs: Values by name; those that are absent are left out.
        server: Who is asked.
        options: The call's own model options.

    Raises:
        AdapterError: The prompt cannot be written.
    """
    own = getattr(adapter, "prepare", None)
    if own is not None:
        prompt: Prompt = own(signature, demos, inputs, server, options)
        return prompt
    needed = adapter.options(signature, server.capabilities)
    return Prompt(adapter.messages(signature, demos, inputs), {**needed, **options}, signature)


def read(adapter: Adapter, signature: Signature, prompt: Prompt, output: Output) -> dict[str, Any]:
    """Return every field of `signature` that an answer holds, typed.

    Raises:
        AdapterParseError: The answer does not hold them.
    """
    own = getattr(adapter, "read", None)
    if own is not None:
        values: dict[str, Any] = own(signature, prompt, output)
        return values
    return adapter.parse(signature, output.text)


@once_per_signature
def foreign(signature: Signature, *, served: bool = False) -> str | None:
    """Return why a signature needs DSPy: a field whose type DSPy handles in its own way; None if it has none.

    Args:
        signature: Where to look.
        served: Whether the asking adapter serves DSPy's types by their codecs.
    """
    for field in signature.fields.values():
        for kind in (field.type, *field.metadata):
            found = foreign_types(kind, codec_for) if served else foreign_types(kind)
            if found:
                return f"field {field.name!r} is a {type_text(field.type)}, and DSPy has its own way with {found[0].__name__}."
    return None


Reader = Callable[[Any], Any]


@once_per_signature
def answer_readers(signature: Signature) -> Mapping[str, tuple[Field, Reader]]:
    """Return each output field with what reads it, in order."""
    return {name: (field, reader_for(field.type)) for name, field in signature.outputs.items()}


def read_field(field: Field, read_one: Reader, value: Any, *, adapter: str, answer: str) -> Any:
    """Return one field's value as its type.

    Raises:
        AdapterParseError: It is not of the type.
    """
    try:
        return read_one(value)
    except Exception as error:  # besides ValueError, a model's text can drive literal_eval into TypeError or RecursionError
        shown = str(value) if len(str(value)) <= 80 else f"{str(value)[:77]}..."  # noqa: PLR2004 - a line of a cell
        raise AdapterParseError(
            f"the answer's {field.name!r} is {shown!r}, not a {type_text(field.type)}",
            hint="run again, raise max_tokens, or use adapter='compact' where the server takes a JSON schema",
            adapter=adapter,
            answer=answer,
        ) from error


def fallback_value(field: Field) -> Any:
    """Return what stands for an output that an answer lacks: its default, else None where the type allows it, else `MISSING`."""
    if not field.required:
        return field.default_value()
    return None if allows_none(field.type) else MISSING


def complete(signature: Signature, found: Mapping[str, Any], *, adapter: str, answer: str) -> dict[str, Any]:
    """Return all outputs in order: what was found, else what stands for it.

    Raises:
        AdapterParseError: A field that nothing stands for is missing.
    """
    outputs: dict[str, Any] = {}
    missing: list[str] = []
    for name, (field, _) in answer_readers(signature).items():
        value = found[name] if name in found else fallback_value(field)
        if value is MISSING:
            missing.append(name)
        else:
            outputs[name] = value
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
