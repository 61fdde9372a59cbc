"""Fields that a provider's own features fill: tools, tool calls, reasoning; and the field that holds the conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from dspex_nb.adapters.base import Server, fallback_value
from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.messages import Output
from dspex_nb.signatures.codecs import codec_for
from dspex_nb.signatures.fields import MISSING
from dspex_nb.signatures.signature import Signature

TOOL_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls")
_EFFORT = "reasoning_effort"


@dataclass(frozen=True, slots=True)
class Features:
    """The fields of a signature that are more than text, by name.

    Attributes:
        history: The input that holds the conversation so far.
        tools: The input that holds a tool or a list of tools.
        calls: The output that holds tool calls.
        reasoning: The outputs that a reasoning model's own reasoning fills.
        declare: Makes a tool's declaration in OpenAI's form.
    """

    history: str | None
    tools: str | None
    calls: str | None
    reasoning: tuple[str, ...]
    declare: Callable[[Any], Any]


def role(kind: Any) -> str:
    """Return what adapters do with a field of the type, or an empty string."""
    codec = codec_for(kind)
    return codec.role if codec else ""


@once_per_signature
def features(signature: Signature) -> Features | None:
    """Return which fields are more than text, or None if none is."""
    inputs, outputs = signature.inputs, signature.outputs
    tools = {name: kind for name, field in inputs.items() if role(kind := _one(field.type)) == "tool"}
    reasoning = tuple(name for name, field in outputs.items() if role(field.type) == "reasoning")
    history = next((name for name, field in inputs.items() if role(field.type) == "history"), None)
    calls = next((name for name, field in outputs.items() if role(field.type) == "tool_calls"), None)
    if not (tools or reasoning or history or calls):
        return None
    codec = codec_for(next(iter(tools.values()), None))
    return Features(history, next(iter(tools), None), calls, reasoning, (codec.give if codec else None) or dict)


def _one(kind: Any) -> Any:
    """Return the type of a list's items, and any other type as it is."""
    return next(iter(get_args(kind)), kind) if get_origin(kind) is list else kind


@once_per_signature
def without(signature: Signature, *names: str) -> Signature:
    """Return the signature without these fields: the same one each time, so that what is kept of it is found again."""
    for name in names:
        signature = signature.delete(name)
    return signature


def native_view(signature: Signature, found: Features, server: Server, sent: dict[str, Any], *, tools: bool) -> Signature:
    """Return the signature that is put into words: without what the provider serves; `sent` gets the reasoning effort."""
    gone: list[str] = []
    if tools and found.calls and found.tools:
        gone += [found.calls, found.tools]
    if found.reasoning and server.capabilities.reasoning:
        effort = sent[_EFFORT] if _EFFORT in sent else server.options.get(_EFFORT, "low")
        # GPT-5's reasoning does not come back over chat completions, so DSPy asks for it in words.
        lost = "gpt-5" in server.model and server.model_type == "chat"
        if effort is not None and not lost:
            sent[_EFFORT] = effort
            gone += found.reasoning
    return without(signature, *gone) if gone else signature


def filled(signature: Signature, found: Features, values: dict[str, Any], output: Output) -> dict[str, Any]:
    """Return all outputs: what was read, else the default, else None; then what the provider returned beside the text."""
    outputs = signature.outputs
    whole: dict[str, Any] = {}
    for name, field in outputs.items():
        value = values[name] if name in values else fallback_value(field)
        if value is not MISSING:
            whole[name] = value
    for name in outputs:
        whole.setdefault(name, None)
    if output.tool_calls and found.calls:
        whole[found.calls] = _taken(outputs, found.calls, output.tool_calls)
    if output.reasoning:
        whole |= {name: _taken(outputs, name, output.reasoning) for name in found.reasoning}
    return whole


def _taken(outputs: Mapping[str, Any], name: str, returned: Any) -> Any:
    codec = codec_for(outputs[name].type)
    return codec.take(returned) if codec and codec.take else returned
