"""What a store found becomes passages: scores on one scale, the highest first, equal ones by id."""

from __future__ import annotations

import math

import pytest

from dspex_nb.passages import Passage, found_passage, passage_id
from dspex_nb.retrieval.hits import ranked
from dspex_nb.retrieval.scales import SCALES, score_of


def test_equal_scores_are_by_id_whatever_order_the_store_has():
    hits = [("b", "x", {}, 0.5), ("a", "y", {"n": 1}, 0.5), ("c", "z", {}, 0.75)]
    found = ranked(hits, SCALES["cosine"])
    assert [(one.id, one.text, one.score, one.raw_score) for one in found] == [
        ("c", "z", 0.875, 0.75), ("a", "y", 0.75, 0.5), ("b", "x", 0.75, 0.5)
    ]  # fmt: skip
    assert found[1].metadata == {"n": 1}


@pytest.mark.parametrize(("raw", "score"), [(1.0000001, 1.0), (-1.5, 0.0), (math.nan, 0.5), (0.0, 0.5)])
def test_numbers_past_the_scale(raw, score):
    assert score_of(raw) == score
    assert [one.score for one in ranked([("a", "x", {}, raw)], SCALES["cosine"])] == [score]


def test_a_found_passage_is_like_any_other():
    found = found_passage("a", "x", {"n": 1}, 0.5, 0.1)
    assert found == Passage("x", "a", 0.5, {"n": 1}, 0.1)
    assert found.raw_score == 0.1
    assert found_passage("", "x", {}, 0.5, 0.1).id == passage_id("x", {})
