"""Conversations: what a `History` type hands to the adapters, turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of an earlier conversation.

    Attributes:
        values: The signature's fields as the turn holds them.
        answer: The same without the results of tools, which text modes show in a message of their own.
        called: Whether the turn holds tool calls.
        matched: Whether it holds a result for each, under the same ids; only then can they be sent as calls.
        calls: The calls, as an assistant message carries them in OpenAI's form.
        replies: The messages of role `tool` that answer them.
        results: The results as one value for text modes, or None if there are none.
    """

    values: Mapping[str, Any]
    answer: Mapping[str, Any]
    called: bool = False
    matched: bool = False
    calls: Sequence[Mapping[str, Any]] = ()
    replies: Sequence[Mapping[str, Any]] = ()
    results: Any = None
