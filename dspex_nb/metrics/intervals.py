"""A mean with its 95% confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054  # the normal distribution's 97.5% point


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of `n` scores, and the ends of its 95% confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(scores: Sequence[float]) -> Interval:
    """Return the mean and its 95% interval, within 0 and 1 where all scores are.

    Scores that are all 0 or 1 get Wilson's interval, which stays sensible near the ends and for few examples
    (Wilson 1927); others the normal approximation. No scores give NaN.
    """
    n = len(scores)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = statistics.fmean(scores)
    if all(score in (0, 1) for score in scores):
        centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n * n))
        return Interval(mean, max(0.0, centre - half), min(1.0, centre + half), n)
    half = _Z * statistics.stdev(scores) / math.sqrt(n) if n > 1 else math.inf
    bounded = min(scores) >= 0 and max(scores) <= 1
    low, high = mean - half, mean + half
    return Interval(mean, max(0.0, low) if bounded else low, min(1.0, high) if bounded else high, n)
