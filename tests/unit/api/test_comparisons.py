"""Two evaluations beside each other: wins, losses, regressions, a named test, and sets that differ."""

import pytest

import dspex_nb as dx
from dspex_nb.errors import DataError

ROWS = [{"text": str(at), "label": "ab"[at % 2]} for at in range(20)]


def always(label):
    return lambda text: {"label": label}


@pytest.fixture
def pair(fresh):
    before = dx.evaluate(always("a"), ROWS, ["exact_match:label", "macro_f1:label"], name="before")
    after = dx.evaluate(
        lambda text: {"label": "a" if text == "2" else "b"}, ROWS, ["exact_match:label", "macro_f1:label"], name="after"
    )
    return before, after


def test_wins_losses_and_regressions(pair):
    change = dx.compare(*pair)
    assert list(change.wins["text"]) == [str(at) for at in range(1, 20, 2)]
    assert sorted(change.losses["text"], key=int) == [str(at) for at in range(0, 20, 2) if at != 2]
    assert len(change.regressions) == 9
    row = change.losses.iloc[0]
    assert (row["before_label"], row["label"], row["before"], row["change"]) == ("a", "b", 1.0, -1.0)
    assert (change.info().won, change.info().lost) == (10, 9)
    assert change.test.name == "exact McNemar test"
    assert change.test.p_value == pytest.approx(1.0)
    assert "Exact McNemar test: p = 1.000" in repr(change)
    assert repr(pair[1].compare(pair[0])) == repr(change)


def test_by_another_metric(pair):
    change = dx.compare(*pair, metric="macro_f1:label")
    assert change.test.name == "approximate randomization"
    assert change.difference.mean == pytest.approx(pair[1].scores["macro_f1:label"] - pair[0].scores["macro_f1:label"])
    with pytest.raises(DataError, match="not evaluated by 'f1'"):
        dx.compare(*pair, metric="f1")
    with pytest.raises(DataError, match=r"'before' was not evaluated by 'f1:label'"):
        dx.compare(pair[0], dx.evaluate(always("a"), ROWS, "f1:label"))


def test_sets_that_differ(pair):
    before, _ = pair
    after = dx.evaluate(always("b"), [*reversed(ROWS[5:]), {"text": "new", "label": "b"}], "exact_match:label")
    change = dx.compare(before, after)
    assert change.left_out == (5, 1)
    assert len(change.changes) == 15
    assert change.info().before.score == pytest.approx(7 / 15)
    assert "The sets differ: 15 examples in common are compared, 5 only before and 1 only after left out." in repr(change)
    twice = dx.evaluate(always("a"), [ROWS[0], ROWS[0], ROWS[1]], "exact_match:label")
    assert dx.compare(twice, twice).left_out == (0, 0)
    relabelled = dx.evaluate(always("a"), [{"text": "0", "label": "z"}, ROWS[1]], "exact_match:label")
    assert dx.compare(before, relabelled).left_out == (19, 1)


def test_a_stopped_evaluation_is_compared_by_what_it_has(pair):
    before, after = pair
    partial = dx.Evaluation(
        "half", dx.api.evaluating.scorecard(after.card.rows[:8], after.card.metrics, 1.0, "x"), "cancelled", 20
    )
    change = dx.compare(before, partial)
    assert change.left_out == (12, 0)
    assert len(change.frame) == 7


def test_scores_that_are_no_yes_or_no(fresh):
    rows = [{"text": "a b c d", "label": "a b c d"}] * 6
    change = dx.compare(dx.evaluate(always("a"), rows, "f1:label"), dx.evaluate(always("a b"), rows, "f1:label"))
    assert change.test.name == "paired permutation test"
    assert change.test.p_value == pytest.approx(2 / 64)
    assert len(change.regressions) == 0
