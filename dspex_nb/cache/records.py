"""What a cache gives back: a hit, and its own statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(slots=True)
class Hit:
    """A value found, and the tier that had it: `"memory"`, `"disk"` or `"redis"`. The value is shared: do not change it.

    `read` is for whoever reads the value: what it made of it, which a later hit in memory finds again.
    """

    value: Mapping[str, Any]
    tier: str
    read: Any = None


@dataclass(frozen=True, slots=True)
class Savings:
    """What hits made needless: US dollars as far as prices were known, tokens, and how many hits had no known price."""

    cost: float = 0.0
    tokens: int = 0
    unpriced: int = 0

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Return what one hit on `value` saves."""
        usage, cost = value.get("usage"), value.get("cost")
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")] if isinstance(usage, dict) else []
        tokens = sum(count for count in counts if isinstance(count, int))
        return cls(cost, tokens) if isinstance(cost, int | float) else cls(0.0, tokens, 1)

    def __add__(self, other: Savings) -> Savings:
        return Savings(self.cost + other.cost, self.tokens + other.tokens, self.unpriced + other.unpriced)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since this cache was opened in this process; `entries` and `bytes` are the disk's, all processes together.

    Without a directory `entries` are the shared server's, without that those in memory.

    Attributes:
        faults: Entries skipped because unreadable, and writes that failed.
        saved_cost: US dollars that the hits would have cost, as far as prices were known.
        saved_tokens: Tokens that the hits would have used.
        unpriced_hits: Hits on answers of unknown price, which `saved_cost` leaves out.
        memory_entries: Entries held in memory.
        directory: Where the disk tier lives, None without one.
        size_bytes: The disk tier's limit.
        redis: The shared server without its password, None without one.
        redis_entries: Answers on it, those of other machines included.
        redis_down: Why it does not answer, empty while it does.
    """

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0
    faults: int = 0
    saved_cost: float = 0.0
    saved_tokens: int = 0
    memory_entries: int = 0
    directory: str | None = None
    size_bytes: int = 0
    unpriced_hits: int = 0
    hits_redis: int = 0
    redis: str | None = None
    redis_entries: int = 0
    redis_down: str = ""

    @property
    def hits(self) -> int:
        """Look-ups that hit, in any tier."""
        return self.hits_memory + self.hits_disk + self.hits_redis

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that hit, 0 if there were none."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
