"""What DSPy's chat and JSON formats share: the messages, and the parts of a request that stand for fields (tools, reasoning)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_origin

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import Demo, Prompt, Server, answer_readers, foreign, sort_demos
from dspex_nb.adapters.features import TOOL_OPTIONS, Features, features, filled, native_view, role
from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.adapters.markers import user_message
from dspex_nb.adapters.turns import Turn
from dspex_nb.errors import AdapterError, AdapterParseError
from dspex_nb.messages import Capabilities, Output
from dspex_nb.signatures.codecs import codec_for
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature

OPENING = "All interactions will be structured in the following way, with the appropriate values filled in."
_PARTIAL = "This is an example of the task, though some input or output fields are not supplied."
_LACKING = ("Not supplied for this particular example. ", "Not supplied for this conversation history message. ")
_RESULTS = Field(name="tool_call_results")
_UNCHANGING = (str, int, float, bool)
_SHORT = 2000


@dataclass(frozen=True, slots=True)
class Words:
    """The parts of a prompt that a signature alone decides.

    Attributes:
        system: The system message.
        request: What closes the last user message.
        inputs: The input fields; demos show them all.
        asked: Those that user turns hold: all but the history, which becomes turns itself.
        outputs: The output fields.
        history: The field that holds the conversation so far, or None.
    """

    system: str
    request: str
    inputs: Mapping[str, Field]
    asked: Mapping[str, Field]
    outputs: Mapping[str, Field]
    history: Field | None


class Format(ABC):
    """One of DSPy's text formats.

    Args:
        use_native_function_calling: Send tools as the request's `tools` where the server takes them, not as text.
        parallel_tool_calls: What to send under this name beside the tools; None sends nothing.
    """

    name = ""

    def __init__(self, *, use_native_function_calling: bool = False, parallel_tool_calls: bool | None = None) -> None:
        self.use_native_function_calling = use_native_function_calling
        self.parallel_tool_calls = parallel_tool_calls

    @property
    def fallback(self) -> Format | None:
        """The adapter that asks again when an answer cannot be read, or None."""
        return None

    @abstractmethod
    def words(self, signature: Signature) -> Words:
        """Return what the signature alone decides."""

    @abstractmethod
    def answer(self, fields: Mapping[str, Field], values: Mapping[str, Any], lacking: Any) -> str:
        """Return an answer that holds `values`, with `lacking` for those that are not there."""

    @abstractmethod
    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:
        """Return the request options the format itself needs."""

    @abstractmethod
    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return every output field, typed."""

    def messages(self, signature: Signature, demos: Sequence[Demo], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages: system, demos (those lacking fields first), the conversation so far, the inputs."""
        words = self.words(signature)
        messages: list[dict[str, Any]] = [{"role": "system", "content": words.system}]
        if demos:
            messages.extend(self._shown(signature, words, demos))
        if words.history is not None and words.history.name in inputs:
            codec = codec_for(words.history.type)
            for turn in codec.give(inputs[words.history.name]) if codec and codec.give else ():
                messages.extend(self._turn(words, turn))
        messages.append(user_message(user_text(words.asked, inputs, request=words.request)))
        return messages

    def prepare(
        self,
        signature: Signature,
        demos: Sequence[Demo],
        inputs: Mapping[str, Any],
        server: Server,
        options: Mapping[str, Any],
    ) -> Prompt:
        """Return the prompt of one call; what the format needs goes before the caller's own options, as in DSPy.

        Raises:
            AdapterError: Tool calls are asked for and no input holds tools.
        """
        sent = {**options, **self.options(signature, server.capabilities)}
        found = features(signature)
        if not self.use_native_function_calling:
            for name in TOOL_OPTIONS:
                sent.pop(name, None)
        elif found is not None and found.calls is not None:
            self._add_tools(found, inputs, server.capabilities, sent)
        shown = signature
        if found is not None:
            tools = self.use_native_function_calling and server.capabilities.function_calling
            shown = native_view(signature, found, server, sent, tools=tools)
        if sent.get("parallel_tool_calls") is not None:
            sent.setdefault("tool_choice", "auto")
        return Prompt(self.messages(shown, demos, inputs), sent, shown)

    def read(self, signature: Signature, prompt: Prompt, output: Output) -> dict[str, Any]:
        """Return every field of `signature`: read from the text, and from what the provider returned beside it.

        Raises:
            AdapterParseError: The answer does not hold them.
            AdapterError: A tool call cannot be read.
        """
        found = features(signature)
        called = bool(output.tool_calls) and found is not None and found.calls is not None
        if not output.text and not called:
            raise AdapterParseError("the answer is empty", hint="run again, or raise max_tokens", adapter=self.name)
        values: dict[str, Any] = {}
        try:
            if output.text and (not called or answer_readers(prompt.signature)):
                values = self._values(prompt.signature, output.text)
        except AdapterParseError:
            if not called:
                raise
        return values if found is None else filled(signature, found, values, output)

    def _values(self, signature: Signature, text: str) -> dict[str, Any]:
        # Cached answers come again and again; values that nobody can change are read once.
        return (
            {**_read_before(self, signature, text)} if len(text) <= _SHORT and _plain(signature) else self.parse(signature, text)
        )

    def unsupported(self, signature: Signature) -> str | None:
        """Return why DSPy must serve the signature, or None."""
        return foreign(signature, served=True)

    def _add_tools(self, found: Features, inputs: Mapping[str, Any], capabilities: Capabilities, sent: dict[str, Any]) -> None:
        if found.tools is None:
            raise AdapterError(
                f"field {found.calls!r} is to hold tool calls, and no input holds tools",
                hint="add an input field of type list[dspy.Tool]",
            )
        if not capabilities.function_calling:
            for name in TOOL_OPTIONS:
                sent.pop(name, None)
            return
        given = inputs[found.tools]
        sent["tools"] = [found.declare(tool) for tool in (given if isinstance(given, list) else [given])]
        if self.parallel_tool_calls is not None and sent.get("parallel_tool_calls") is None:
            sent["parallel_tool_calls"] = self.parallel_tool_calls

    def _shown(self, signature: Signature, words: Words, demos: Sequence[Demo]) -> Iterator[dict[str, Any]]:
        for group, lead, lacking in zip(sort_demos(signature, demos), (_PARTIAL, ""), _LACKING, strict=True):
            for demo in group:
                yield user_message(user_text(words.inputs, demo, before=lead))
                yield {"role": "assistant", "content": self.answer(words.outputs, demo, lacking)}

    def _turn(self, words: Words, turn: Turn) -> Iterator[dict[str, Any]]:
        """Yield the messages of one turn; the request stands in each that asked something, so that prompt caches hold."""
        request = words.request if any(name in turn.values for name in words.asked) else ""
        asked = user_text(words.asked, turn.values, request=request)
        if asked:
            yield user_message(asked)
        if turn.called and self.use_native_function_calling:
            yield from self._called_turn(words, turn)
            return
        yield {"role": "assistant", "content": self.answer(words.outputs, turn.answer, None)}
        if turn.results is not None:
            yield user_message(user_text({_RESULTS.name: _RESULTS}, {_RESULTS.name: turn.results}))

    def _called_turn(self, words: Words, turn: Turn) -> Iterator[dict[str, Any]]:
        fields = {
            name: field
            for name, field in words.outputs.items()
            if turn.values.get(name) is not None and role(field.type) != "tool_calls"
        }
        content = self.answer(fields, turn.values, None) if fields else ""
        if not content and not turn.matched:
            return
        message: dict[str, Any] = {"role": "assistant", "content": content or None}
        if turn.matched:
            message["tool_calls"] = [dict(call) for call in turn.calls]
        yield message
        yield from (dict(reply) for reply in turn.replies)


@functools.lru_cache(maxsize=2048)
def _read_before(written: Format, signature: Signature, text: str) -> dict[str, Any]:
    return written.parse(signature, text)


@once_per_signature
def _plain(signature: Signature) -> bool:
    """Return whether every output's values are such that nobody can change; a default may be anything, whatever the type says."""
    return all(
        field.required and (field.type in _UNCHANGING or get_origin(field.type) is Literal)
        for field in signature.outputs.values()
    )


def words_of(signature: Signature, system: str, request: str) -> Words:
    """Return a signature's words, its fields sorted by what they are for."""
    inputs = signature.inputs
    found = features(signature)
    history = inputs[found.history] if found is not None and found.history is not None else None
    asked = {name: field for name, field in inputs.items() if field is not history}
    return Words(system, request, inputs, asked, signature.outputs, history)


def section(name: str, text: str) -> str:
    """Return one field under its header."""
    return f"[[ ## {name} ## ]]\n{text}"


def structure(fields: Mapping[str, Field]) -> str:
    """Return the fields under their headers, placeholders for values."""
    return "\n\n".join(section(name, wording.placeholder(field)) for name, field in fields.items()).strip()


def user_text(fields: Mapping[str, Field], values: Mapping[str, Any], *, before: str = "", request: str = "") -> str:
    """Return a user turn: the fields that `values` has, then the closing request."""
    sections = [
        f"[[ ## {name} ## ]]\n{wording.value_text(field, values[name])}" for name, field in fields.items() if name in values
    ]
    return "\n\n".join([before, *sections, request]).strip()


def given(demo: Demo, name: str, lacking: Any) -> Any:
    """Return a demo's value, or the words for its lack."""
    return demo[name] if name in demo else lacking  # noqa: SIM401 - a dspy.Example's get differs in versions
