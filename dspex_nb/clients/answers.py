"""Answers: from a provider's OpenAI-shaped JSON or its stream to a `Response`, to what the cache keeps of one, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.messages import Output, Response, Usage


def read_answer(answer: Mapping[str, Any], model: str, cost: float | None) -> Response:
    """Read a chat completion.

    Raises:
        KeyError, TypeError, AttributeError: It has another shape.
    """
    outputs = tuple(_output(choice) for choice in answer["choices"])
    return Response(outputs, read_usage(answer.get("usage")), model, cost, None, answer)


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """Read what one sent request used; missing counts are 0."""
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    return Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0, details.get("cached_tokens") or 0, calls=1)


def _output(choice: Mapping[str, Any]) -> Output:
    message = choice["message"]
    text = message.get("content")
    if isinstance(text, list):  # content parts
        text = "".join(part.get("text", "") for part in text)
    return Output(
        text or "",
        tuple(message.get("tool_calls") or ()),
        choice.get("finish_reason"),
        message.get("reasoning_content") or message.get("reasoning"),
    )


def to_record(response: Response) -> dict[str, Any]:
    """Return what the cache keeps of a response: no request, no headers, nothing secret."""
    return {
        "outputs": [
            {"text": o.text, "tool_calls": list(o.tool_calls), "finish_reason": o.finish_reason, "reasoning": o.reasoning}
            for o in response.outputs
        ],
        "usage": {"prompt_tokens": response.usage.prompt_tokens, "completion_tokens": response.usage.completion_tokens},
        "cost": response.cost,
    }


def from_record(record: Mapping[str, Any], model: str, tier: str) -> Response:
    """Rebuild a response; it used no tokens and cost nothing this time.

    Raises:
        KeyError, TypeError: The record is not one of ours.
    """
    outputs = tuple(
        Output(str(o["text"]), tuple(o.get("tool_calls") or ()), o.get("finish_reason"), o.get("reasoning"))
        for o in record["outputs"]
    )
    return Response(outputs, Usage(cache_hits=1), model, 0.0, tier)


class Gathered:
    """The pieces of a streamed answer, put together."""

    __slots__ = ("_finish", "_pieces", "_usage", "begun")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self.begun = False

    def add(self, chunk: Mapping[str, Any]) -> str:
        """Take a chunk and return the text it brought."""
        self._usage = chunk.get("usage") or self._usage
        text = ""
        for choice in chunk.get("choices") or ():
            text += (choice.get("delta") or {}).get("content") or ""
            self._finish = choice.get("finish_reason") or self._finish
        if text:
            self._pieces.append(text)
            self.begun = True
        return text

    def response(self, model: str, cost: float | None) -> Response:
        """Return the whole answer."""
        return Response((Output("".join(self._pieces), finish_reason=self._finish),), read_usage(self._usage), model, cost)


def as_shared(response: Response) -> Response:
    """Return the same answer for one who waited for another's request: nothing was sent for it."""
    return replace(response, usage=Usage(cache_hits=1), cost=0.0, cached="flight", raw={})


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
