"""What crosses between adapters and clients: a request, a response, and what it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One chat message in OpenAI's form: `role`, `content` (text or a list of parts), and tool fields."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model.

    Attributes:
        messages: Chat messages in OpenAI's form.
        options: Model options under OpenAI's names (`temperature`, `max_tokens`, `response_format`, `tools`, `n`, …).
        rollout: Distinguishes otherwise identical sampled calls (DSPy's `rollout_id`); never sent, always in the cache key.
        candidate: Index of this candidate where one caller asks for several, each its own request.
    """

    messages: Sequence[Message]
    options: Mapping[str, Any] = field(default_factory=dict)
    rollout: int | None = None
    candidate: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls; `calls` counts requests sent, `cache_hits` those served without one.

    `cached_prompt_tokens`, `cache_write_tokens` and `audio_tokens` are parts of `prompt_tokens`: read from the provider's
    prompt cache, written to it, and heard. `reasoning_tokens` are a part of `completion_tokens`.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    calls: int = 0
    cache_hits: int = 0
    cache_write_tokens: int = 0
    audio_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.calls + other.calls,
            self.cache_hits + other.cache_hits,
            self.cache_write_tokens + other.cache_write_tokens,
            self.audio_tokens + other.audio_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer: text, the provider's own reasoning, or both."""

    text: str = ""
    reasoning: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning)


@dataclass(frozen=True, slots=True)
class Output:
    """One candidate answer: its text, and tool calls in OpenAI's form where the model made any."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered.

    Attributes:
        outputs: One entry a candidate.
        usage: Tokens the provider reported; `usage.calls` is 0 and `usage.cache_hits` 1 when served from the cache.
        model: The model string that was asked.
        cost: US dollars, or None where the price is unknown.
        cached: The tier that served it (`"memory"`, `"disk"`, `"flight"`), or None if a request was sent.
        raw: The provider's own JSON, or an empty mapping when served from the cache.
        elapsed_s: Seconds from asking to having it.
        saved: US dollars that it would have cost, had it not been served from the cache; None where that is unknown.
    """

    outputs: tuple[Output, ...]
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    cost: float | None = None
    cached: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    saved: float | None = 0.0

    @property
    def text(self) -> str:
        """The first candidate's text."""
        return self.outputs[0].text if self.outputs else ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model's server can do; prompts depend on it, as in DSPy.

    Attributes:
        response_schema: Takes `response_format` with a JSON schema.
        function_calling: Takes `tools`.
        reasoning: Returns native reasoning.
        params: Names of the request options it takes.
    """

    response_schema: bool = False
    function_calling: bool = False
    reasoning: bool = False
    params: frozenset[str] = frozenset()
