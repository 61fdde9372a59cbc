"""A mean with its 95% confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    low, high = _normal_bounds(scores)
    bounded = min(scores) >= 0 and max(scores) <= 1
    return Interval(mean, max(0.0, low) if bounded else low, min(1.0, high) if bounded else high, n)


def _normal_bounds(values: Sequence[float]) -> tuple[float, float]:
    mean, n = statistics.fmean(values), len(values)
    half = _Z * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.inf
    return mean - half, mean + half


def paired_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the mean change and its 95% interval; scores are paired by example.

    Scores that are all 0 or 1 get Bonett and Price's adjusted interval (2012), which does not take one lucky example
    for proof; others the normal approximation.
    """
    changes = [new - old for old, new in zip(before, after, strict=True)]
    n = len(changes)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    if not all(score in (0, 1) for score in (*before, *after)):
        return Interval(statistics.fmean(changes), *_normal_bounds(changes), n)
    up, down = ((sum(change == sign for change in changes) + 1) / (n + 2) for sign in (1, -1))
    half = _Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Interval(statistics.fmean(changes), max(-1.0, up - down - half), min(1.0, up - down + half), n)


def bootstrap_interval(n: int, statistic: Callable[[Any], float], *, resamples: int = 1000, seed: int = 0) -> Interval:
    """Return a statistic of `n` rows and its 95% percentile interval over samples drawn from them with replacement.

    The same seed draws the same samples (Efron 1979, "Bootstrap Methods: Another Look at the Jackknife").

    Args:
        n: The number of rows.
        statistic: Takes an array of row numbers, in which one may occur more than once.
        resamples: How many samples.
        seed: Of the draws.
    """
    import numpy as np

    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    draw = np.random.default_rng(seed)
    values = [statistic(draw.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(statistic(np.arange(n))), float(low), float(high), n)
