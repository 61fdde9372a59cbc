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
        saved: US dollars that cache hits would have cost, as far as that is known.
        unpriced_hits: Cache hits of which it is not.
    """

    __slots__ = (
        "_lock", "cache_hits", "calls", "completion_tokens", "cost", "prompt_tokens", "saved", "unknown", "unpriced_hits",
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.cache_hits = self.prompt_tokens = self.completion_tokens = self.unknown = self.unpriced_hits = 0
        self.cost = self.saved = 0.0

    def take(self, event: Event) -> None:
        """Count an event if it is an LM call that was answered."""
        if not isinstance(event, LMCalled) or event.error is not None:
            return
        with self._lock:
            if event.cached is not None:
                self.cache_hits += 1
                self.saved += event.saved or 0.0
                self.unpriced_hits += event.saved is None
                return
            self.calls += 1
            self.prompt_tokens += event.prompt_tokens
            self.completion_tokens += event.completion_tokens
            self.cost += event.cost or 0.0
            self.unknown += event.cost is None

    def __repr__(self) -> str:
        unknown = f", {self.unknown} calls of unknown price" if self.unknown else ""
        return f"<Ledger {self.calls} calls paid ${self.cost:.4g}{unknown}; {self.cache_hits} hits saved ${self.saved:.4g}>"
