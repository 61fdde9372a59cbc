"""From a provider's OpenAI-shaped JSON to a `Response`, and between a `Response` and what the cache keeps."""

from __future__ import annotations

from collections.abc import Mapping
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
