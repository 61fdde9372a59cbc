from __future__ import annotations

import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import rerank

HITS = [
    Passage("loops repeat a block of code", "a", 9.0),
    Passage("loops repeat one block of code", "a2", 8.0),
    Passage("a generator yields values in loops", "b", 7.0),
    Passage("classes group data", "c", 6.0),
]


def ids(passages):
    return [one.id for one in passages]


def test_mmr_puts_the_unlike_before_the_double():
    found = rerank(HITS, "loops repeat code", "mmr", lambda_mult=0.5)
    assert ids(found)[0] in ("a", "a2")
    assert ids(found)[1] in ("b", "c")
    assert ids(found)[:2] != ids(rerank(HITS, "loops repeat code", "bm25"))[:2]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert sorted(ids(found)) == ["a", "a2", "b", "c"]


def test_mmr_at_its_ends():
    relevant = rerank(HITS, "loops repeat code", lambda_mult=1)
    assert ids(relevant)[:2] == ["a", "a2"]
    assert ids(rerank(HITS, "loops repeat code", lambda_mult=0, k=2))[1] == "c"
    assert ids(rerank(HITS, "zzz", k=1)) == ["a"]  # nothing shared: the order given counts
    assert ids(rerank(HITS, ["classes", "data"], k=1)) == ["c"]


def test_mmr_over_embeddings():
    vectors = {"a": [1, 0, 0], "a2": [1, 0.01, 0], "b": [0.6, 0.8, 0], "c": [0, 0, 1]}
    found = rerank(HITS, "", embeddings=vectors, query_embedding=[1, 0.1, 0], lambda_mult=0.5)
    assert ids(found)[:2] == ["a2", "b"]
    assert ids(rerank(HITS, "", embeddings=list(vectors.values()), query_embedding=[0, 0, 2], k=1)) == ["c"]
    with pytest.raises(RetrieverError, match="2 embeddings for 4 passages"):
        rerank(HITS, "", embeddings=[[1], [2]])


@pytest.mark.parametrize("method", ["bm25", "lexical", "trigram"])
def test_by_words(method):
    found = rerank(HITS, "generator values", method)
    assert ids(found)[0] == "b"
    assert sorted(ids(found)) == ["a", "a2", "b", "c"]
    assert len(rerank([*HITS, *HITS], "generator", method)) == 8
    if method != "trigram":
        assert [(one.id, one.score) for one in found[1:]] == [("a", 0.0), ("a2", 0.0), ("c", 0.0)]


def test_a_judge():
    seen = []

    def judge(query, passages):
        seen.append((query, ids(passages)))
        return [len(one.text) * -1.0 for one in passages]

    found = rerank(HITS, ["q1", "q2"], "lm", k=2, judge=judge)
    assert seen == [("q1\nq2", ["a", "a2", "b", "c"])]
    assert [(one.id, one.score) for one in found] == [("c", -18.0), ("a", -28.0)]


@pytest.mark.parametrize("answer", [[1, 2], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, 4, 5]])
def test_a_judge_whose_answer_does_not_fit(answer):
    with pytest.raises(RetrieverError, match="numbers for 4 passages"):
        rerank(HITS, "q", "lm", judge=lambda query, passages: answer)


def test_a_function_of_ones_own():
    assert ids(rerank(HITS, "q", lambda query, passages: passages[::-1], k=2)) == ["c", "b"]


def test_plain_texts_and_nothing():
    assert [str(one) for one in rerank(["red apple", "green pear"], "pear", "bm25")] == ["green pear", "red apple"]
    for method in ("mmr", "bm25", "lm"):
        assert rerank(None, "q", method) == rerank([], "q", method) == []


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"method": "mrm"}, "no rerank method 'mrm'", "did you mean 'mmr'"),
        ({"method": "cross-encoder"}, "no cross-encoder is named", "model=a folder"),
        ({"method": "listwise", "window": 1}, "window=1", "window=20"),
        ({"method": "listwise"}, "needs a language model", "dx.configure"),
        ({"method": "rrf", "methods": "bm25"}, "methods='bm25'", "write e.g."),
        ({"method": "mmr", "lamda_mult": 1}, "'mmr' has no option 'lamda_mult'", "did you mean 'lambda_mult'"),
        ({"method": "mmr", "lambda_mult": 2}, "lambda_mult=2", "0.7"),
        ({"method": "lm"}, "needs judge=", "a number for each"),
        ({"method": lambda query, passages: 3}, "found a int", "pass what"),
        ({"method": "bm25", "k": -1}, "k=-1", "k=5"),
    ],
)
def test_what_is_refused(given, message, hint):
    with pytest.raises(RetrieverError) as caught:
        rerank(HITS, "q", **given)
    assert message in caught.value.message
    assert hint in caught.value.hint
