"""Tables beside the passages, facts and words, take up what is new when they are first asked: SQLite's, and DuckDB's facts."""

import pytest

from dspex_nb.retrieval import retriever
from dspex_nb.testing.embedding import HashEmbedder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "passages.db"


@pytest.fixture(params=["sqlite", "duckdb"])
def kind(request):
    return request.param if request.param == "sqlite" else pytest.importorskip(request.param).__name__


@pytest.fixture
def fruit(kind, path):
    made = retriever(kind, path=path, embedder=HashEmbedder())
    made.add(["red apple", "green pear", "blue plum"], [{"hue": "red"}, {"hue": "green"}, {"hue": "blue"}], ["a", "p", "b"])
    assert names(made, "pear", mode="sparse") == ["p"]
    assert names(made, "fruit", filter={"hue": "green"}) == ["p"]
    yield made
    made.close()


def names(found, query, **how):
    return sorted(one.id for one in found.search(query, k=9, **how))


def test_a_replaced_passage_is_found_by_its_new_words_and_metadata_alone(fruit):
    fruit.add(["yellow banana", "kiwi"], [{"hue": "yellow"}, {"hue": "green"}], ids=["p", "k"])
    assert names(fruit, "pear", mode="sparse") == []
    assert names(fruit, "banana", mode="sparse") == ["p"]
    assert names(fruit, "fruit", filter={"hue": "green"}) == ["k"]
    assert names(fruit, "fruit", filter={"hue": {"$ne": "yellow"}}) == ["a", "b", "k"]
    assert names(fruit, "kiwi banana", mode="sparse", filter={"hue": {"$ne": "yellow"}}) == ["k"]
    assert fruit.count() == 4


def test_a_new_passage_does_not_inherit_from_a_deleted_one(fruit):
    assert fruit.delete("b") == 1
    fruit.add(["white lychee"], [{"hue": "white"}], ids=["w"])  # it gets the number that was free again
    assert names(fruit, "plum", mode="sparse") == []
    assert names(fruit, "lychee", mode="sparse") == ["w"]
    assert names(fruit, "fruit", filter={"hue": "blue"}) == []
    assert names(fruit, "fruit", filter={"$not": {"hue": "red"}}) == ["p", "w"]


def test_what_another_connection_added_is_found(fruit, kind, path):
    other = retriever(kind, path=path, embedder=HashEmbedder())
    other.add(["dark grape"], [{"hue": "dark"}], ids=["g"])
    other.close()
    assert names(fruit, "grape", mode="sparse") == ["g"]
    assert names(fruit, "fruit", filter={"hue": {"$in": ["dark", "red"]}}) == ["a", "g"]
