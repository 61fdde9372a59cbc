"""The memory tier: a bounded LRU, safe in threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any


class MemoryTier:
    """Holds the `limit` entries used last; 0 holds none."""

    __slots__ = ("_entries", "_lock", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[str, tuple[Mapping[str, Any], float | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Return the value, or None if absent or expired."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            value, expires = found
            if expires is not None and expires <= time.time():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: Mapping[str, Any], expires: float | None) -> None:
        """Keep a value until `expires` (seconds since the epoch, None for ever)."""
        if self.limit <= 0:
            return
        with self._lock:
            self._entries[key] = (value, expires)
            self._entries.move_to_end(key)
            while len(self._entries) > self.limit:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
