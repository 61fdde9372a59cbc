"""What LM calls have cost so far, counted from their events."""

from __future__ import annotations

import threading

from dspex_nb.events.records import Event, LMCalled


class Ledger:
    """Counts LM calls, tokens and cost; a subscriber of a bus. Cache hits are counted apart and cost nothing.

    Attributes:
        calls: Requests that were answered.
        cache_hits: Requests served from the cache.
        prompt_tokens: Tokens in, of requests sent.
        completion_tokens: Tokens out, of requests sent.
        cost: US dollars of the requests whose price is known.
        unknown: Requests whose price is unknown.
    """

    __slots__ = ("_lock", "cache_hits", "calls", "completion_tokens", "cost", "prompt_tokens", "unknown")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.cache_hits = self.prompt_tokens = self.completion_tokens = self.unknown = 0
        self.cost = 0.0

    def take(self, event: Event) -> None:
        """Count an event if it is an LM call that was answered."""
        if not isinstance(event, LMCalled) or event.error is not None:
            return
        with self._lock:
            if event.cached is not None:
                self.cache_hits += 1
                return
            self.calls += 1
            self.prompt_tokens += event.prompt_tokens
            self.completion_tokens += event.completion_tokens
            self.cost += event.cost or 0.0
            self.unknown += event.cost is None
