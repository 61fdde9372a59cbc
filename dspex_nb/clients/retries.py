"""When to ask again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass

from dspex_nb.errors import LMError

BASE_S = 0.25
CEILING_S = 20.0
LONGEST_RETRY_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Jittered exponential waits; a server's Retry-After is honoured up to two minutes.

    Attributes:
        num_retries: Further attempts after the first.
    """

    num_retries: int = 3

    def wait_s(self, error: LMError, attempt: int) -> float | None:
        """Return the seconds to wait before attempt `attempt + 1` (the first is 0), or None to give up."""
        if not error.retryable or attempt >= self.num_retries:
            return None
        if error.retry_after_s is not None:
            # A little more than asked, and not the same for all, so that the waiting do not return as one.
            wait_s = error.retry_after_s + random.uniform(0, 0.1)  # noqa: S311 - no secret depends on it
            return wait_s if error.retry_after_s <= LONGEST_RETRY_AFTER_S else None
        full = min(CEILING_S, BASE_S * 2**attempt)
        return random.uniform(full / 2, full)  # noqa: S311 - no secret depends on it
