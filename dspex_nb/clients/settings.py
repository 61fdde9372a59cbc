"""How a client is set: what reaches the model, what governs the calls, and what must stay secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import LMNotConfiguredError

_SECRET_NAME = re.compile(
    r"(?i)(api_?key|secret|password|credential|authorization|access_key|^token$|[a-z]_token$|^(extra_)?headers$)"
)
_ANSWER_LENGTHS = {"max_token", "max_completion_token"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What governs the calls of a client and never reaches the model.

    Attributes:
        cache: Use the cache a call brings; False asks anew every time.
        ttl_s: How long answers are kept; None leaves it to the cache.
        num_retries: Further attempts after a failed one that may succeed.
        timeout_s: Limit of one attempt.
        max_concurrency: Calls in flight at once.
        rpm: Requests a minute, None for no limit.
        tpm: Tokens a minute, None for no limit.
    """

    cache: bool = True
    ttl_s: float | None = None
    num_retries: int = 3
    timeout_s: float = 120.0
    max_concurrency: int = 64
    rpm: int | None = None
    tpm: int | None = None

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


def is_secret(name: str) -> bool:
    """Say whether an option of this name holds something that must not be shown, stored or part of a key."""
    return name not in _ANSWER_LENGTHS and bool(_SECRET_NAME.search(name))


def without_secrets(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those that may be shown and those that may not; unset ones (None) are dropped."""
    shown = {name: value for name, value in options.items() if value is not None and not is_secret(name)}
    hidden = {name: value for name, value in options.items() if value is not None and is_secret(name)}
    return shown, hidden
