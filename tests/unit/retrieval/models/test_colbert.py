from __future__ import annotations

import asyncio
import pickle
import socket
import threading

import numpy as np
import pytest

import dspex_nb as dx
from dspex_nb.errors import FilterError, RetrieverError
from dspex_nb.retrieval import embedding_local, rerank
from dspex_nb.retrieval.late_interaction import LateInteraction, encoder_of, max_sim

TEXTS = {"Loops": "loops repeat code", "Classes": "classes group data", "Cats": "cats sleep all day"}


@pytest.fixture
def colbert(server):
    server.passages = TEXTS
    return server


@pytest.mark.parametrize("post", [False, True])
def test_the_protocol_of_dspy(colbert, post):
    """Both ways give whole passages; DSPy's own POST loses `long_text`, shown beside it."""
    import dspy

    index = dx.retriever("colbertv2", url=f"{colbert.url}/api/search", post=post, k=2)
    found = index.search("group data")
    assert [one.text for one in found] == ["Classes | classes group data", "Loops | loops repeat code"]
    assert (found[0].title, found[0].score, found[0].metadata["prob"]) == ("Classes", 30.0, 0.5)
    method = colbert.requests[-1][2] if post else colbert.requests[-1][0]
    assert method == ({"query": "group data", "k": 2} if post else "/api/search?query=group+data&k=2")
    theirs = dspy.ColBERTv2(url=f"{colbert.url}/api/search", post_requests=post)("group data", k=2)
    assert [one.get("long_text", one["text"]) for one in theirs] == [one.text for one in found]
    assert [one.text for one in asyncio.run(index.asearch("cats", 1))] == ["Cats | cats sleep all day"]
    assert len(index.search(["cats", "loops"], k=2)) == 2


@pytest.mark.parametrize("post", [False, True])
def test_awaited_searches_wait_together(colbert, post):
    index = dx.retriever("colbertv2", url=f"{colbert.url}/api/search", post=post, k=1)
    colbert.meeting = threading.Barrier(40)  # more than any pool of threads that asyncio has

    async def searches():
        return await asyncio.gather(
            *(index.asearch("cats") for _ in range(20)), *(index.abatch(["cats", "loops"]) for _ in range(10))
        )

    *singly, last = asyncio.run(searches())
    assert [one.text for one in singly[0]] == ["Cats | cats sleep all day"]
    assert [hits[0].title for hits in last] == ["Cats", "Loops"]


def test_several_queries_may_ask_for_as_many_as_one(colbert):
    index = dx.colbertv2(url=f"{colbert.url}/api/search")
    found = index.search(["cats", "loops"], k=60)
    assert {one.title for one in found} == set(TEXTS)
    assert asyncio.run(index.asearch(["cats", "loops"], k=60)) == found
    assert asyncio.run(index.asearch("cats", k=0)) == asyncio.run(index.asearch(" ")) == []


def test_the_table_tells_that_it_takes_no_filter():
    table = dx.retrievers().set_index("name")["features"]
    assert table["colbertv2"] == "dense, on a server, async"


def test_what_is_needed_is_said():
    with pytest.raises(RetrieverError, match="'colbertv2' needs url="):
        dx.retriever("colbertv2")


def test_what_the_protocol_cannot_do(colbert):
    index = dx.colbertv2(url=f"{colbert.url}/api/search")
    for call, said in (
        (lambda: index.add(["x"]), "nobody can add to"), (lambda: index.delete("1"), "nobody can delete from"),
        (index.count, "does not say how many"), (lambda: index.search("x", 101), "at most 100"),
    ):  # fmt: skip
        with pytest.raises(RetrieverError, match=said):
            call()
    with pytest.raises(FilterError, match="takes no filter"):
        index.search("x", filter={"year": 1})
    with pytest.raises(FilterError, match="takes no filter"):
        asyncio.run(index.asearch("x", filter={"year": 1}))
    assert index.version != index.version  # the server's index may have changed: nothing of it is cached
    with pytest.raises(RetrieverError, match="is no address"):
        dx.retriever("colbertv2", url="host:1")


def test_a_server_that_answers_otherwise(colbert):
    index = dx.retriever("colbertv2", url=f"{colbert.url}/api/search")
    for broken, said in (
        ({"topk": [{"pid": 1}]}, "not ColBERTv2's"), ({"topk": [{"text": None}]}, "not ColBERTv2's"), ({"results": []}, "not ColBERTv2's"), ({"error": True, "message": "busy"}, "busy"),
    ):  # fmt: skip
        colbert.broken = broken
        with pytest.raises(RetrieverError, match=said):
            index.search("x")
        with pytest.raises(RetrieverError, match=said):
            asyncio.run(index.asearch("x"))
    colbert.broken = None
    with pytest.raises(RetrieverError, match="answered 404"):
        dx.retriever("colbertv2", url=f"{colbert.url}/elsewhere").search("x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        with pytest.raises(RetrieverError, match="no answer from"):
            dx.retriever("colbertv2", url=f"http://127.0.0.1:{taken.getsockname()[1]}/api/search").search("x")


def test_in_a_pipeline_cell(colbert):
    pipe = dx.Pipeline("p", hits=dx.colbertv2(url=f"{colbert.url}/api/search", k=1, query=dx.field("query")))
    assert pipe(query="cats").hits[0].title == "Cats"
    assert "colbertv2" in pipe.to_python()


def letters(text):
    """A vector a word, by its first letters: words that begin alike are alike."""
    rows = [[0.1 + word.count(letter) for letter in "abcdelostg"] for word in text.lower().split()]
    return np.array(rows) if rows else np.empty((0, 10))


def test_a_local_index():
    index = dx.retriever(
        "late-interaction", encoder=letters, index=[{"text": text, "title": name} for name, text in TEXTS.items()]
    )
    found = index.search("cats all", k=3)
    assert found[0].title == "Cats"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert all(one.score <= 1 + 1e-6 for one in found)
    for one in found:  # one at a time gives the same as all at once
        assert one.score == pytest.approx(max_sim(letters("cats all"), letters(one.text)), abs=1e-5)
    assert [one.title for one in index.search("cats all", filter={"title": "Loops"})] == ["Loops"]
    again = pickle.loads(pickle.dumps(index))
    assert again.version == index.version
    assert [one.id for one in again.search("data")] == [one.id for one in index.search("data")]
    assert index.delete(found[0].id) == 1
    assert "Cats" not in [one.title for one in index.search("cats", k=3)]
    assert again.version != index.version
    assert index.index([]).gone == 0
    assert [one.text for one in rerank(list(TEXTS.values()), "classes", "late_interaction", encoder=letters, k=1)] == [
        TEXTS["Classes"]
    ]


def test_encoders_that_do_not_fit():
    with pytest.raises(RetrieverError, match=r"shape \(3,\)"):
        LateInteraction(["x"], encoder=lambda text: [1, 2, 3])
    with pytest.raises(RetrieverError, match="different lengths"):
        LateInteraction(["x"], encoder=lambda text: [[1.0], [1.0, 2.0]])
    with pytest.raises(RetrieverError, match="no vectors of tokens"):
        encoder_of(dx.Embedder(lambda texts: [[1.0]] * len(texts)))
    sizes = iter([2, 3])
    index = LateInteraction(["x"], encoder=lambda text: [[1.0] * next(sizes)])
    with pytest.raises(RetrieverError, match="vectors of 3 numbers, the index holds 2"):
        index.search("y")
    assert LateInteraction(encoder=letters).search("x") == []


@pytest.mark.skipif(not embedding_local.available(), reason=f"not installed: {embedding_local._INSTALL}")
@pytest.mark.model
def test_over_the_embedded_models_tokens():
    index = dx.retriever("late-interaction", index=list(TEXTS.values()))
    assert index.search("kittens asleep", k=1)[0].text == TEXTS["Cats"]
    assert embedding_local.MODEL_SHA256[:16] in repr(index)
