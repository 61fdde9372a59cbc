"""What a cache gives back: a hit, and its own statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """A value found, and the tier that had it: `"memory"` or `"disk"`. The value is shared: read it, do not change it."""

    value: Mapping[str, Any]
    tier: str


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since this cache was opened in this process; `entries` and `bytes` are the disk's, all processes together.

    Attributes:
        faults: Entries skipped because unreadable, and writes that failed.
        saved_cost: US dollars that the hits would have cost, as far as prices were known.
        saved_tokens: Tokens that the hits would have used.
        memory_entries: Entries held in memory.
        directory: Where the disk tier lives, None without one.
        size_bytes: The disk tier's limit.
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

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that hit, 0 if there were none."""
        asked = self.hits_memory + self.hits_disk + self.misses
        return (self.hits_memory + self.hits_disk) / asked if asked else 0.0
