"""Dialects: how a provider's HTTP API says what OpenAI's chat completions say.

Requests come in as OpenAI-shaped chat bodies, answers and chunks leave OpenAI-shaped. A dialect is pure: it opens no socket, and
what it remembers of a stream lives in the `Reader` of that stream. `posting.HTTPWire` does the rest, the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_nb.errors import LMInvalidRequestError

RAW = "dspex_raw"
"""Where a translated answer keeps the provider's own JSON."""


@dataclass(frozen=True, slots=True)
class Written:
    """A request in the provider's words: what follows the base URL, the JSON, and headers this request needs."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one stream. `done` says that the answer is whole, `over` that nothing more is to be read."""

    done: bool
    over: bool

    def read(self, event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Turn one server-sent event's JSON into OpenAI-shaped chunks, none or more."""
        ...


class Dialect(Protocol):
    """One API's way of saying it."""

    name: str
    """For errors: "OpenAI's chat completions"."""
    form: str
    """What an answer is, for errors: "a chat completion"."""
    native_n: bool
    """The API takes `n` itself; otherwise the client asks once a candidate."""

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a chat body.

        Raises:
            LMInvalidRequestError: It holds an option or a part that this API has no form for; nothing is dropped silently.
        """
        ...

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the headers that carry the key; it never stands in a URL."""
        ...

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read a whole answer.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is not one of this API's.
        """
        ...

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Return the HTTP status that an answer or event stands for where it reports an error, else None."""
        ...

    def refused(self, status: int, text: str) -> int:
        """Return the status that an error answer should have had, by HTTP's own meaning."""
        ...

    def reader(self) -> Reader:
        """Return the reader of one stream."""
        ...


def no_form(api: str, what: str, hint: str) -> LMInvalidRequestError:
    """Return the error of something an API cannot be told."""
    return LMInvalidRequestError(f"{api} takes no {what}", hint=hint)


def refuse_unknown(api: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse options an API has no form for; one that is off means nothing and passes.

    Raises:
        LMInvalidRequestError: It names the first of them.
    """
    for name, value in options.items():
        if value is not None and value is not False:
            taken = ", ".join(sorted(known))
            raise no_form(
                api, f"{name!r}", f"leave {name} out, or send it all the same with extra_body={{…}}; {api} takes {taken}"
            )


def text_of(content: Any) -> str:
    """Return a message's content as one text."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def parts_of(content: Any) -> Sequence[Mapping[str, Any]]:
    """Return a message's content as parts, without empty texts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [part for part in content or () if part.get("type") != "text" or part.get("text")]


def stop_list(stop: Any) -> list[str]:
    """Return OpenAI's `stop`, one text or several, as a list."""
    return [stop] if isinstance(stop, str) else list(stop or ())


def schema_of(wanted: Any) -> Mapping[str, Any] | None:
    """Return the JSON schema that a `response_format` asks for, an empty one for any JSON, None for plain text."""
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_schema":
        schema: Mapping[str, Any] = wanted["json_schema"]["schema"]
        return schema
    if kind == "json_object":
        return {}
    if wanted is None or kind == "text":
        return None
    raise LMInvalidRequestError(
        f"response_format={wanted!r} is none of OpenAI's",
        hint="give {'type': 'json_schema', 'json_schema': {…}} or a pydantic class",
    )


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool call's arguments as JSON.

    Raises:
        LMInvalidRequestError: They are none.
    """
    given = call["function"].get("arguments") or "{}"
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LMInvalidRequestError(
            f"the arguments of the tool call {call['function'].get('name')!r} are no JSON object: {str(given)[:80]!r}",
            hint="give the assistant's tool_calls as the model made them",
        )
    return found


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """Return a tool call in OpenAI's form; `arguments` is JSON or its text."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def chunk(delta: Mapping[str, Any], finish: str | None = None, usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a piece of a stream in OpenAI's form."""
    made: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return {**made, "usage": usage} if usage else made


def usage_of(
    prompt: int, completion: int, *, cached: int = 0, written: int = 0, reasoning: int = 0, audio: int = 0
) -> dict[str, Any]:
    """Return token counts in OpenAI's form; `cached`, `written`, `audio` are parts of `prompt`, `reasoning` of `completion`."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_creation_tokens": written, "audio_tokens": audio},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
