"""The paired tests against their definitions, gone through case by case in fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_nb import metrics as ours
from dspex_nb.metrics.significance import _EXACT

checked = settings(max_examples=80, deadline=None)


@checked
@given(st.integers(0, 10), st.integers(0, 10))
def test_mcnemars_is_the_binomial_test_of_the_changed_pairs(wins, losses):
    n = wins + losses
    if n <= 12:  # every way the changed pairs may fall, each as likely
        splits = [sum(fell) for fell in itertools.product((0, 1), repeat=n)]
        as_far = sum(abs(2 * wins_there - n) >= abs(wins - losses) for wins_there in splits)
        assert ours.mcnemar(wins, losses) == pytest.approx(float(Fraction(as_far, len(splits))))
    assert ours.mcnemar(wins, losses) == ours.mcnemar(losses, wins)


@checked
@given(st.lists(st.integers(-8, 8).map(lambda x: x / 8), max_size=9))
def test_all_signs_are_gone_through_where_there_are_few(changes):
    exact = [Fraction(change) for change in changes]
    sums = [
        abs(sum(sign * change for sign, change in zip(signs, exact, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(exact))
    ]
    expected = sum(each >= abs(sum(exact)) for each in sums) / len(sums)
    assert ours.sign_flip(changes) == pytest.approx(expected)


def test_drawn_signs_come_near_all_signs():
    changes = [0.3, -0.1, 0.2, 0.25, -0.05, 0.15, 0.1, 0.4, -0.2, 0.05, 0.35, -0.15]
    exact = ours.sign_flip(changes)
    doubled = [*changes, 1e-9, -1e-9, 1e-9]
    assert len(changes) <= _EXACT < len(doubled)
    assert ours.sign_flip(doubled) == pytest.approx(exact, abs=0.02)
    assert ours.sign_flip(doubled) == ours.sign_flip(doubled)


def test_swapped_answers_come_near_all_swaps():
    labels = list("aabbccab")
    before, after = list("abbacabb"), list("aabbccaa")
    total = ours.BUILTIN["macro_f1"].of_rows([*zip(before, labels, strict=True), *zip(after, labels, strict=True)])
    rows, n = np.arange(len(labels)), len(labels)
    found = abs(total(rows + n) - total(rows))
    ways = [np.array(swap) * n for swap in itertools.product((0, 1), repeat=n)]
    exact = np.mean([abs(total(rows + n - way) - total(rows + way)) >= found * (1 - 1e-12) for way in ways])
    assert ours.approximate_randomization(n, total, draws=4000) == pytest.approx(exact, abs=0.03)


def test_the_test_that_fits():
    assert ours.paired_test([0, 1, 0], [1, 1, 1]) == ours.PairedTest("exact McNemar test", 0.5)
    assert ours.paired_test([0.5, 1, 0], [1, 1, 1]).name == "paired permutation test"
    assert ours.paired_test([], []).p_value == 1.0
    assert ours.sign_flip([0.0, 0.0]) == 1.0
    assert not math.isnan(ours.approximate_randomization(3, lambda rows: 1.0))
