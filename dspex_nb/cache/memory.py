"""The memory tier: a bounded LRU, safe in threads, that counts its hits and what they saved."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from dspex_nb.cache.records import Hit, Savings

_Entry = tuple[Hit, float | None, float | None, int]


class MemoryTier:
    """Holds the `limit` entries used last; 0 holds none.

    Attributes:
        hits: Look-ups that found something.
        saved: What they saved.
    """

    __slots__ = ("_entries", "_lock", "_saved_cost", "_saved_tokens", "_unpriced", "hits", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hits = self._unpriced = self._saved_tokens = 0
        self._saved_cost = 0.0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Hit | None:
        """Return the hit, or None if absent or expired."""
        entries = self._entries
        with self._lock:  # one lock for look-up, order and counts: a memory hit is to cost about a microsecond
            found = entries.get(key)
            if found is None:
                return None
            hit, expires, cost, tokens = found
            if expires is not None and expires <= time.time():
                del entries[key]
                return None
            entries.move_to_end(key)
            self.hits += 1
            self._saved_tokens += tokens
            if cost is None:
                self._unpriced += 1
            else:
                self._saved_cost += cost
        return hit

    def peek(self, key: str) -> Mapping[str, Any] | None:
        """Return the value, or None if absent or expired; counts nothing and changes no order."""
        with self._lock:
            found = self._entries.get(key)
        return None if found is None or (found[1] is not None and found[1] <= time.time()) else found[0].value

    def put(self, key: str, value: Mapping[str, Any], expires: float | None) -> None:
        """Keep a value until `expires` (seconds since the epoch, None for ever)."""
        if self.limit <= 0:
            return
        worth = Savings.of(value)
        entry = (Hit(value, "memory"), expires, None if worth.unpriced else worth.cost, worth.tokens)
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self.limit:
                self._entries.popitem(last=False)

    @property
    def saved(self) -> Savings:
        """What the hits saved."""
        return Savings(self._saved_cost, self._saved_tokens, self._unpriced)

    def trim(self) -> int:
        """Delete what expired; return how many."""
        now = time.time()
        with self._lock:
            gone = [key for key, (_, expires, _, _) in self._entries.items() if expires is not None and expires <= now]
            for key in gone:
                del self._entries[key]
        return len(gone)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
