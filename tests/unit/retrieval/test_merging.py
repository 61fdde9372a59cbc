from __future__ import annotations

import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import merge


def ranking(*scored):
    return [Passage(f"text {name}", name, score) for name, score in scored]


A = ranking(("x", 9.0), ("y", 5.0), ("z", 1.0))
B = ranking(("y", 0.9), ("w", 0.8), ("x", 0.1))


def shown(passages):
    return [(one.id, one.score) for one in passages]


def test_union_keeps_the_best_score():
    assert shown(merge([A, B], "union")) == [("x", 9.0), ("y", 5.0), ("z", 1.0), ("w", 0.8)]


def test_rrf():
    expected = [("y", 1 / 62 + 1 / 61), ("x", 1 / 61 + 1 / 63), ("w", 1 / 62), ("z", 1 / 63)]
    assert shown(merge({"one": A, "two": B})) == expected
    assert shown(merge([A, B], "rrf", k=2)) == expected[:2]
    assert shown(merge([[*A, A[0]]])) == [("x", 1 / 61), ("y", 1 / 62), ("z", 1 / 63)]


def test_concat_leaves_nothing_out():
    assert merge([A, B], "concat") == [*A, *B]
    assert merge((A, B), "concat", k=4) == [*A, B[0]]


def test_a_function_of_ones_own():
    assert merge({"a": A, "b": B}, lambda rankings: [rankings[1][0], rankings[0][0]]) == [B[0], A[0]]
    assert merge([[1], [2]], sum_of := (lambda rankings: sum(map(sum, rankings)))) == 3
    assert callable(sum_of)


def test_other_items_than_passages():
    assert merge([["a", "b"], ["b", "c"]], "union") == ["a", "b", "c"]
    assert merge([["a", "b"], ["b", "c"]], "rrf") == ["b", "a", "c"]
    assert merge([[{"x": 1}], [{"x": 1}, {"x": 2}]], "union") == [{"x": 1}, {"x": 2}]
    assert merge([[1], [True, 1.0]], "union") == [1, True, 1.0]


def test_one_id_for_two_texts_is_two_passages():
    other = [Passage("something else", "x", 3.0)]
    assert len(merge([A, other], "union")) == len(merge([A, other], "rrf")) == 4


def test_nothing_and_a_skipped_branch():
    assert merge([], "rrf") == merge([[], []], "union") == merge({"a": None}, "concat") == []
    assert merge([None, A], "union") == A


@pytest.mark.parametrize(
    ("rankings", "method", "message"),
    [([A], "rfr", "unknown merge 'rfr'"), (["text"], "rrf", "found a str"), ([7], "union", "found a int")],
)
def test_what_is_refused(rankings, method, message):
    with pytest.raises(RetrieverError, match=message) as caught:
        merge(rankings, method)
    assert caught.value.hint


def test_rankings_count_as_their_weights_say():
    assert shown(merge([A, B], "rrf", weights=[3, 1]))[0] == ("x", 3 / 61 + 1 / 63)
    assert shown(merge({"one": A, "two": B}, "rrf", weights={"two": 0})) == [
        ("x", 1 / 61),
        ("y", 1 / 62),
        ("z", 1 / 63),
        ("w", 0),
    ]
    assert merge([A, None, B], "rrf", weights=[2, 9, 1]) == merge([A, B], "rrf", weights=[2, 1])


def test_scores_brought_to_one_scale_are_summed():
    found = dict(shown(merge([A, B], "weighted", weights=[2, 1])))
    assert found == pytest.approx({"x": 2 * 1 + 0, "y": 2 * 0.5 + 1, "w": 0.7 / 0.8, "z": 0})
    assert merge([["a", "b"], ["b", "c"]], "weighted") == ["b", "a", "c"]
    assert merge([ranking(("x", 1.0), ("y", 1.0))], "weighted", k=1)[0].score == 1
    assert merge([[], []], "weighted", weights=[1, 2]) == []


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, "2"], "ab", {"thre": 1}, [1, float("inf")], [1, True], 3])
def test_weights_that_do_not_fit(weights):
    with pytest.raises(RetrieverError, match="weight") as caught:
        merge({"one": A, "three": B}, "rrf", weights=weights)
    assert caught.value.hint
    with pytest.raises(RetrieverError, match="no use for weights"):
        merge([A, B], "union", weights=[1, 1])
