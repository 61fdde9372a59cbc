"""Answers: from a provider's OpenAI-shaped JSON or its stream to a `Response`, to what the cache keeps of one, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.clients.dialects import RAW
from dspex_nb.messages import Delta, Message, Output, Response, Usage

Price = Callable[[Usage, Mapping[str, Any]], float | None]
"""What an answer cost, by what it used and the rest of what it says; None if unknown."""


def read_answer(answer: Mapping[str, Any], model: str, price: Price) -> Response:
    """Read a chat completion.

    Raises:
        KeyError, TypeError, AttributeError: It has another shape.
    """
    outputs = tuple(_output(choice) for choice in answer["choices"])
    usage = read_usage(answer.get("usage"))
    return Response(outputs, usage, model, price(usage, answer), None, answer.get(RAW, answer))


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """Read what one sent request used; missing counts are 0."""
    if not usage:
        return Usage(calls=1)
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    # Where a provider leaves reasoning out of the completion's count it is in the total, and is billed.
    completion = max(completion, (usage.get("total_tokens") or 0) - prompt)
    details, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    reasoning = (made or {}).get("reasoning_tokens") or 0
    if not details:
        return Usage(prompt, completion, calls=1, reasoning_tokens=reasoning)
    written = details.get("cache_creation_tokens") or details.get("cache_write_tokens") or 0
    cached, heard = details.get("cached_tokens") or 0, details.get("audio_tokens") or 0
    return Usage(prompt, completion, cached, 1, 0, written, heard, reasoning)


def _output(choice: Mapping[str, Any]) -> Output:
    message = choice["message"]
    text = message.get("content")
    if isinstance(text, list):  # content parts
        text = "".join(part.get("text", "") for part in text)
    if text and not isinstance(text, str):
        raise TypeError(text)
    refusal = message.get("refusal")  # OpenAI's reason to stop stays "stop" then
    return Output(
        text or refusal or "",
        tuple(message.get("tool_calls") or ()),
        "content_filter" if refusal else choice.get("finish_reason"),
        message.get("reasoning_content") or message.get("reasoning"),
    )


def to_record(response: Response, messages: Sequence[Message] = ()) -> dict[str, Any]:
    """Return what the cache keeps of a response: no headers, nothing secret; of the request only `messages`, if given.

    A study's dashboard shows them. Pictures and sounds are left out: they are large, and it does not show them.
    """
    kept = [message for message in messages if isinstance(message.get("content"), str)]
    return {
        **({"messages": kept} if kept else {}),
        "outputs": [
            {"text": o.text, "tool_calls": list(o.tool_calls), "finish_reason": o.finish_reason, "reasoning": o.reasoning}
            for o in response.outputs
        ],
        "usage": {"prompt_tokens": response.usage.prompt_tokens, "completion_tokens": response.usage.completion_tokens},
        "cost": response.cost,
    }


def from_record(record: Mapping[str, Any], model: str, tier: str, elapsed_s: float) -> Response:
    """Rebuild a response; it used no tokens and cost nothing this time.

    Raises:
        KeyError, TypeError: The record is not one of ours.
    """
    outputs = [
        Output(str(o["text"]), tuple(o.get("tool_calls") or ()), o.get("finish_reason"), o.get("reasoning"))
        for o in record["outputs"]
    ]
    cost = record.get("cost")
    saved = cost if isinstance(cost, int | float) else None
    return Response(tuple(outputs), _NOTHING_SENT, model, 0.0, tier, {}, elapsed_s, saved)


_NOTHING_SENT = Usage(cache_hits=1)


class Gathered:
    """The pieces of a streamed answer, put together.

    Attributes:
        begun: Something to show has come.
        usage: What the server last said of tokens.
    """

    __slots__ = ("_finish", "_reasoned", "_texts", "_tier", "_tools", "begun", "usage")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoned: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self._tier: str | None = None
        self.begun = False

    def add(self, chunk: Mapping[str, Any]) -> Delta:
        """Take a chunk and return what it brought to show.

        Raises:
            TypeError, AttributeError, ValueError: It has another shape.
        """
        self.usage = chunk.get("usage") or self.usage
        self._tier = chunk.get("service_tier") or self._tier
        text = reasoning = ""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            for part in delta.get("tool_calls") or ():
                self._add_tool(part)
            self._finish = choice.get("finish_reason") or self._finish
        self._texts.append(text)
        self._reasoned.append(reasoning)
        self.begun = self.begun or bool(text or reasoning)
        return Delta(text, reasoning)

    def _add_tool(self, part: Mapping[str, Any]) -> None:
        # The first piece of a call brings its id and name, the later ones more of its arguments.
        call = self._tools.setdefault(
            int(part.get("index") or 0), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = part.get("id") or call["id"]
        if part.get("extra_content"):  # Google's signature, to be handed back with the call
            call["extra_content"] = part["extra_content"]
        function = part.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def response(self, model: str, price: Price) -> Response:
        """Return the whole answer."""
        tools = tuple(self._tools[index] for index in sorted(self._tools))
        output = Output("".join(self._texts), tools, self._finish, "".join(self._reasoned) or None)
        usage = read_usage(self.usage)
        return Response((output,), usage, model, price(usage, {"usage": self.usage, "service_tier": self._tier}))


def as_shared(response: Response) -> Response:
    """Return the same answer for one who waited for another's request: nothing was sent for it."""
    saved = response.cost if response.cached is None else response.saved
    return replace(response, usage=_NOTHING_SENT, cost=0.0, cached="flight", raw={}, elapsed_s=0.0, saved=saved)


def merged(responses: Sequence[Response]) -> Response:
    """Return one response of several candidates, each its own request."""
    first = responses[0]
    costs = [response.cost for response in responses]
    known = [cost for cost in costs if cost is not None]
    return replace(
        first,
        outputs=tuple(output for response in responses for output in response.outputs),
        usage=sum((response.usage for response in responses), Usage()),
        cost=sum(known) if len(known) == len(costs) else None,
        cached=first.cached if all(response.cached for response in responses) else None,
        elapsed_s=sum(response.elapsed_s for response in responses),
    )
