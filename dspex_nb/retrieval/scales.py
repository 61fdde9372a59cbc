"""One scale of scores: what a store's own number says about the cosine of two vectors of unit length, and back."""

from __future__ import annotations

import math
from collections.abc import Callable

# What a store's number is called, and how it gives the cosine.
SCALES: dict[str, Callable[[float], float]] = {
    "cosine": lambda raw: raw,
    "cosine distance": lambda raw: 1 - raw,
    "negative cosine": lambda raw: -raw,
    "distance": lambda raw: 1 - raw * raw / 2,
    "squared distance": lambda raw: 1 - raw / 2,
    "unit score": lambda raw: 2 * raw - 1,
    "exp of cosine distance": lambda raw: 1 + math.log(raw) if raw > 0 else -1.0,
    "exp of squared distance": lambda raw: 1 + math.log(raw) / 2 if raw > 0 else -1.0,
    "inverse distance": lambda raw: 2 - 1 / raw if raw else -1.0,  # 1 / (1 + cosine distance)
}
_RAWS: dict[str, Callable[[float], float]] = {"cosine": lambda cosine: cosine, "cosine distance": lambda cosine: 1 - cosine}


def scaled(scale: str, raw: float) -> float:
    """Return a store's number as a score from 0 to 1."""
    return score_of(SCALES[scale](raw))


def score_of(cosine: float) -> float:
    """Return (1 + cosine) / 2; not-a-number, which vectors of zeros give, as if at a right angle."""
    score = (1 + cosine) / 2
    if 0 <= score <= 1:
        return score
    return 0.5 if math.isnan(score) else float(score > 0)


def raw_of(scale: str, cosine: float) -> float:
    """Return what a library's number would be; for the scales that libraries in memory have."""
    return _RAWS[scale](cosine)
