"""The LM calls of one row: each prompt exactly as it was sent, the raw answer, and what it took."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.messages import Exchange, Message

_LARGEST = 20_000  # characters of one content part that are kept: a picture's bytes tell a reader nothing


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call to a model as it was sent and answered.

    Attributes:
        model: The model string.
        messages: The prompt, in OpenAI's form; rows share the messages they have in common.
        answers: The raw text of each candidate, with its tool calls as JSON where it made any.
        step: The pipeline step that asked, or `"metric …"` for a judge's call.
        key: The cache key.
        options: What was sent beside the messages.
        cached: The cache tier that answered, or None if a request was sent.
        cost: US dollars, None where the price is unknown.
        error: What failed, empty if nothing did.
    """

    model: str
    messages: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    step: str = ""
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: str | None = None
    cost: float | None = None
    elapsed_s: float = 0.0
    error: str = ""


class Messages:
    """The different messages of many calls, each kept once; safe from threads."""

    def __init__(self) -> None:
        self._known: dict[str, Message] = {}
        self._lock = threading.Lock()

    def keep(self, message: Message) -> tuple[str, Message, bool]:
        """Return a message's name, the one copy of it, and whether it is new."""
        short = {name: _shortened(value) for name, value in message.items()}
        text = json.dumps(short, sort_keys=True, default=str, ensure_ascii=False)
        name = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
        with self._lock:
            is_new = name not in self._known
            return name, self._known.setdefault(name, short), is_new

    def get(self, name: str) -> Message:
        """Return the message of a name; one that says so where it is lost."""
        return self._known.get(name) or {"role": "?", "content": "(this message was not kept)"}

    def put(self, name: str, message: Message) -> None:
        """Take a message as a file has it."""
        self._known[name] = message


class Tracer:
    """Takes the exchanges of one row, from any thread; what comes after `close` belongs to nobody."""

    def __init__(self, messages: Messages) -> None:
        self._messages, self._calls, self._open = messages, list[TracedCall](), True

    def take(self, exchange: Exchange) -> None:
        """Keep a call."""
        if self._open:
            self._calls.append(traced(exchange, self._messages))

    def close(self) -> tuple[TracedCall, ...]:
        """Return the calls so far and take no more."""
        self._open = False
        return tuple(self._calls)


def traced(exchange: Exchange, messages: Messages) -> TracedCall:
    """Return a call as it is kept."""
    response = exchange.response
    answers = [] if response is None else [_answer(output) for output in response.outputs]
    usage = response.usage if response is not None else None
    return TracedCall(
        model=exchange.model,
        messages=tuple(messages.keep(message)[1] for message in exchange.request.messages),
        answers=tuple(answers),
        step=exchange.step,
        key=exchange.key,
        options={name: _shortened(value) for name, value in exchange.request.options.items()},
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        cached=response.cached if response is not None else None,
        cost=response.cost if response is not None else None,
        elapsed_s=exchange.elapsed_s,
        error=exchange.error,
    )


def _answer(output: Any) -> str:
    calls = "\n".join(json.dumps(call.get("function", call), default=str, ensure_ascii=False) for call in output.tool_calls)
    return "\n".join(part for part in (output.text, calls) if part)


def _shortened(value: Any) -> Any:
    """Return the value with the bytes of pictures, sounds and files told by their size."""
    if isinstance(value, str):
        is_data = value.startswith("data:") or (len(value) > _LARGEST and " " not in value[:_LARGEST])
        return f"{value[:40]}… ({len(value):,} characters)" if is_data and len(value) > 200 else value  # noqa: PLR2004 - a line's worth
    if isinstance(value, Mapping):
        return {str(name): _shortened(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_shortened(item) for item in value]
    return value
