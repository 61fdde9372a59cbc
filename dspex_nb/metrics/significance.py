"""Whether a paired difference is more than chance: three tests, each with its name, its p-value, and where it fits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_EXACT = 14  # changed pairs of which all 2^n signs are gone through
_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A test's name, and how likely so large a difference is where there is none (two-sided)."""

    name: str
    p_value: float


def paired_test(before: Sequence[float], after: Sequence[float]) -> PairedTest:
    """Return the test that fits: McNemar's for scores that are all 0 or 1, else the sign-flip permutation test."""
    if all(score in (0, 1) for score in (*before, *after)):
        wins = sum(new > old for old, new in zip(before, after, strict=True))
        losses = sum(new < old for old, new in zip(before, after, strict=True))
        return PairedTest("exact McNemar test", mcnemar(wins, losses))
    return PairedTest("paired permutation test", sign_flip([new - old for old, new in zip(before, after, strict=True)]))


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided p-value of so uneven a split of the pairs that changed, each as likely to be a win as a loss.

    Source: McNemar 1947 (doi:10.1007/BF02295996), in its exact form: a binomial test of the changed pairs.
    """
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def sign_flip(changes: Sequence[float], *, draws: int = _DRAWS, seed: int = 0) -> float:
    """Return how often the mean of the changes, each with its sign drawn anew, is as far from 0 as it is.

    All signs are gone through for up to 14 changes other than 0; beyond, `draws` of them, the same for the same seed.

    Source: Fisher 1935, "The Design of Experiments", 21; the correction for draws: Phipson and Smyth 2010
    (doi:10.2202/1544-6115.1585).
    """
    import numpy as np

    moved = np.array([change for change in changes if change != 0], dtype=float)
    if not len(moved):
        return 1.0
    found = abs(moved.sum()) * (1 - 1e-12)  # sums in another order differ in their last bits
    if len(moved) <= _EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=len(moved))))
        return float((abs(signs @ moved) >= found).mean())
    draw = np.random.default_rng(seed)
    far = 0
    for start in range(0, draws, 500):  # in parts: ten thousand rows times all draws would be a gigabyte
        signs = draw.integers(0, 2, (min(500, draws - start), len(moved)), dtype=np.int8) * 2 - 1
        far += int((abs(signs @ moved) >= found).sum())
    return (far + 1) / (draws + 1)


def approximate_randomization(n: int, value: Callable[[Any], float], *, draws: int = 1000, seed: int = 0) -> float:
    """Return how often two systems differ as much on a whole set when their answers to each example are swapped at random.

    Args:
        n: The number of examples.
        value: The metric over row numbers of both systems' rows, one behind the other: the second's begin at `n`.
        draws: How many swaps.
        seed: Of the swaps.

    Source: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh 2000 (aclanthology.org/C00-2137).
    """
    import numpy as np

    rows = np.arange(n)
    found = abs(value(rows + n) - value(rows)) * (1 - 1e-12)
    if not n or not found:
        return 1.0
    draw, far = np.random.default_rng(seed), 0
    for _ in range(draws):
        swapped = draw.integers(0, 2, n) * n
        far += abs(value(rows + n - swapped) - value(rows + swapped)) >= found
    return (far + 1) / (draws + 1)
