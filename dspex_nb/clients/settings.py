"""How a client is set: what reaches the model, what governs the calls, and what must stay secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote, urlsplit

from dspex_nb.errors import LMNotConfiguredError

_SECRET_NAME = re.compile(
    r"(?i)(api_?key|secret|password|credential|authorization|access_key|^token$|[a-z]_token$|^(extra_)?headers$)"
)
_ANSWER_LENGTHS = {"max_token", "max_completion_token"}
_SHORTEST = 8  # a shorter word is no key, and would blank out ordinary text
_PRICES = {"input", "output", "cached_input", "cache_write"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What governs the calls of a client and never reaches the model.

    Attributes:
        cache: Use the cache a call brings; False asks anew every time.
        ttl_s: How long answers are kept; None leaves it to the cache.
        num_retries: Further attempts after a failed one that may succeed.
        timeout_s: Limit of one attempt.
        max_concurrency: Calls in flight at once.
        across_processes: Whether `max_concurrency` holds over all processes of this home together, as a limit of the server's;
            otherwise over this process. None: it does where the user gave it.
        rpm: Requests a minute, over all processes of this home together; None for no limit.
        tpm: Tokens a minute, likewise.
        price: US dollars a million tokens (`input`, `output`; also `cached_input`, `cache_write`), where the user knows better
            than the price table or the table cannot know: a server of one's own.
    """

    cache: bool = True
    ttl_s: float | None = None
    num_retries: int = 3
    timeout_s: float = 120.0
    max_concurrency: int = 64
    across_processes: bool | None = None
    rpm: int | None = None
    tpm: int | None = None
    price: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("num_retries", 0),
            ("timeout_s", 0.001),
            ("max_concurrency", 1),
            ("rpm", 1),
            ("tpm", 1),
            ("ttl_s", 0.001),
        ):
            value = getattr(self, name)
            if value is None and name in {"rpm", "tpm", "ttl_s"}:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
                raise LMNotConfiguredError(f"{name}={value!r} is no limit", hint=f"give {name} a number of at least {least:g}")
        if self.price is not None:
            _check_price(self.price)


def _check_price(price: Any) -> None:
    fits = isinstance(price, Mapping) and {"input", "output"} <= set(price) <= _PRICES
    if not fits or not all(
        isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p < float("inf") for p in price.values()
    ):
        raise LMNotConfiguredError(
            f"price={price!r} is no price",
            hint="give US dollars a million tokens, e.g. price={'input': 0.15, 'output': 0.6, 'cached_input': 0.075}",
        )


_NUMBERS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "seed", "presence_penalty", "frequency_penalty")
_OPTIONS = (*_NUMBERS, "stop", "reasoning_effort", "response_format", "tools", "tool_choice", "rollout_id", "logprobs")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what can only be a slip: a number that is none, a name that is nearly a known one. Other names are the provider's.

    Raises:
        LMNotConfiguredError: There is one; the hint names what was meant.
    """
    known = (*_OPTIONS, *Settings.__dataclass_fields__, "api_key", "api_base", "headers", "capabilities", "path", "threads")
    for name, value in options.items():
        if name in _NUMBERS and value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise LMNotConfiguredError(f"{name}={value!r:.80} is no number", hint=f"give {name} a number, or leave it out")
        near = get_close_matches(name, known, 1, 0.85) if name not in known else []
        if near and len(near[0]) > 3 and abs(len(near[0]) - len(name)) < 3:  # noqa: PLR2004 - a letter or two, in a word
            raise LMNotConfiguredError(f"no option is called {name!r}", hint=f"did you mean {near[0]!r}?")


def is_secret(name: str) -> bool:
    """Say whether an option of this name holds something that must not be shown, stored or part of a key."""
    return name not in _ANSWER_LENGTHS and bool(_SECRET_NAME.search(name))


def secret_words(*given: Any) -> tuple[str, ...]:
    """Return what a text must not show of secrets: a key, the token after "Bearer", each header's value, a URL's password."""
    found: list[str] = []
    for one in given:
        if isinstance(one, Mapping):
            found += secret_words(*one.values())
        elif isinstance(one, str):
            parts = urlsplit(one) if "://" in one and "@" in one else None
            words = (parts.netloc.rpartition("@")[0], parts.password or "") if parts else one.split()
            found += [word for spelled in words for word in {spelled, unquote(spelled)} if len(word) >= _SHORTEST]
    return tuple(sorted(found, key=len, reverse=True))  # a part of one must not spoil the longer


def without_secrets(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those that may be shown and those that may not; unset ones (None) are dropped."""
    shown = {name: value for name, value in options.items() if value is not None and not is_secret(name)}
    hidden = {name: value for name, value in options.items() if value is not None and is_secret(name)}
    return shown, hidden
