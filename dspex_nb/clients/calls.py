"""A call on its way to a model: what is asked, by which key it is kept, and how long its prompt is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dspex_nb.cache import Cache
from dspex_nb.errors import LMInvalidRequestError
from dspex_nb.messages import Request

_PAGE = 4000  # characters


@dataclass(slots=True)  # not frozen: that would triple what making one costs, at every call
class Call:
    """One request on its way: merged with the client's options, with its key, and the cache if it may be used.

    A study's call keeps its prompt beside the answer, for its dashboard to show.
    """

    request: Request
    key: str
    cache: Cache | None
    ttl_s: float | None
    started: float
    keeps_prompt: bool = False


def checked_ttl(ttl_s: Any) -> float:
    """Return how long an answer is to be kept, as a call says it itself."""
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not ttl_s > 0:
        raise LMInvalidRequestError(f"ttl_s={ttl_s!r} is no time to keep an answer", hint="give seconds above 0, e.g. ttl_s=3600")
    return float(ttl_s)


def tokens_written(request: Request) -> int:
    """Tokens of a request's messages, at four characters each."""
    return sum(_length(message.get("content")) for message in request.messages) // 4


def _length(content: Any) -> int:
    """Characters of a message; an image, sound or file counts as a page of text, whatever its bytes."""
    if isinstance(content, str):
        return len(content)
    return sum(len(part["text"]) if isinstance(part.get("text"), str) else _PAGE for part in content or ())
