"""What an LM call adds to a view's sums."""

from __future__ import annotations

from typing import Any, Protocol

from dspex_nb.events import LMCalled


class Counted(Protocol):
    """A step, trial or run whose LM calls are counted."""

    @property
    def calls(self) -> int:
        """Requests sent."""

    @property
    def cache_hits(self) -> int:
        """Requests served from the cache."""


class Charged(Counted, Protocol):
    """A run whose LM calls are paid for."""

    @property
    def cost(self) -> float | None:
        """US dollars, None if any price is unknown."""


def counts(item: Counted, event: LMCalled) -> dict[str, Any]:
    """Return the item's counts with the call among them."""
    hit = int(event.cached is not None)
    return {"calls": item.calls + 1 - hit, "cache_hits": item.cache_hits + hit}


def charges(info: Charged, event: LMCalled) -> dict[str, Any]:
    """Return the run's counts and cost with the call among them."""
    # A failed request is free of charge as far as anyone can tell; a served one always is.
    cost = 0.0 if event.cached is not None or event.error else event.cost
    return {**counts(info, event), "cost": None if info.cost is None or cost is None else info.cost + cost}
