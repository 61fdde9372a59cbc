from __future__ import annotations

import datetime as dt
import pickle

import numpy as np
import pandas as pd
import pytest

from dspex_nb import Example
from dspex_nb.errors import DataError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import passages_of


class Document:
    """As LangChain's: text, metadata, id."""

    def __init__(self, page_content, metadata, name):
        self.page_content, self.metadata, self.id = page_content, metadata, name


def shape(passages):
    return [(one.id, one.text, one.metadata) for one in passages]


def test_what_may_be_given():
    import dspy

    rows = [{"id": 1, "text": "a", "n": 1}, {"id": 2, "text": "b", "n": 2}]
    expected = [("1", "a", {"n": 1}), ("2", "b", {"n": 2})]
    for given in (
        rows,
        (row for row in rows),
        pd.DataFrame(rows),
        {1: {"text": "a", "n": 1}, 2: {"text": "b", "n": 2}},
        [Passage("a", "1", 0.7, {"n": 1}), Passage("b", "2", 0.1, {"n": 2})],
        [Document("a", {"n": 1}, "1"), Document("b", {"n": 2}, "2")],
        [dspy.Example(**row) for row in rows],
        [{"id": 1, "content": "a", "metadata": {"n": 1}}, {"id": 2, "only_text": "b", "n": 2}],
    ):
        assert shape(passages_of(given)) == expected
    assert shape(passages_of({"x": "a", "y": "b"})) == [("x", "a", {}), ("y", "b", {})]
    assert shape(passages_of(rows, text_field="text")) == expected
    assert shape(passages_of([Example({"question": "q", "answer": "a"})], text_field="answer"))[0][1:] == ("a", {"question": "q"})
    assert [one.score for one in passages_of([Passage("a", "1", 0.7)])] == [0.0]


def test_metadata_and_ids_beside_the_texts():
    found = passages_of(["a", {"text": "b", "n": 1}], [{"x": 1}, {"n": 2}], ["i", 7])
    assert shape(found) == [("i", "a", {"x": 1}), ("7", "b", {"n": 2})]
    assert shape(passages_of(["old", "new"], ids=["i", "i"])) == [("i", "new", {})]
    assert passages_of(["a"], [None])[0].metadata == {}


def test_ids_are_made_from_content():
    one, same, other = (passages_of(["a"], [metadata])[0].id for metadata in ({"x": 1, "y": 2}, {"y": 2, "x": 1}, {"x": 2}))
    assert one == same != other
    assert len(one) == 16
    assert Passage("a", metadata={"x": 1, "y": 2}).id == one


def test_metadata_becomes_json():
    (found,) = passages_of(
        [{"text": "t", "day": dt.date(2026, 11, 22), "n": np.int64(3), "f": np.float32(0.5), "nan": float("nan"), "nat": pd.NaT, "tags": ("a", "b"), "set": {"b", "a"}, "vector": np.array([1, 2])}]
    )  # fmt: skip
    assert found.metadata == {"day": "2026-11-22", "n": 3, "f": 0.5, "tags": ["a", "b"], "set": ["a", "b"], "vector": [1, 2]}


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("one text", "expected texts, found a str", "list of texts"),
        (7, "expected texts, found a int", "list of texts"),
        ([7], "item 0 is a int, which has no text", "list of texts"),
        ([{"question": "q", "answer": "a"}], "question, answer: which one is the text", "text_field"),
        ([{}], "item 0 has the fields none", "text_field"),
        ([{"text": 5}], "item 0: 'text' is a int, expected a text", "text_field"),
        ({"a": 5}, "the text of 'a' is a int", "id to text"),
        ([{"text": "t", "id": 1.5}], "an id is 1.5", "leave ids out"),
        ([{"text": "t", "x": float("inf")}], "the metadata 'x' is inf", "str(value)"),
        ([{"text": "t", "metadata": {1: 2}}], "the metadata key 1 is a int", "text keys"),
    ],
)
def test_what_may_not(given, message, hint):
    with pytest.raises(DataError) as caught:
        passages_of(given)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("beside", [{"ids": ["a"]}, {"ids": "ab"}, {"metadatas": [{}]}, {"metadatas": {"a": 1}}])
def test_lists_of_different_lengths(beside):
    with pytest.raises(DataError, match="for 2 texts"):
        passages_of(["a", "b"], **beside)


def test_a_missing_text_field_names_what_is_there():
    with pytest.raises(DataError) as caught:
        passages_of([{"body_text": "b", "n": 1}], text_field="bodytext")
    assert "missing among body_text, n" in caught.value.message
    assert "did you mean 'body_text'" in caught.value.hint


def test_a_passage():
    one = Passage("the text", "i", 0.5, {"title": "T", "source": "S", "n": 1})
    assert (str(one), one.title, one.source) == ("the text", "T", "S")
    assert Passage(**one.as_dict()) == one
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({one, Passage("the text", "i", 0.5, {"title": "T"})}) == 2
    assert (Passage("x").title, Passage("x").source) == ("", "")
    with pytest.raises(AttributeError):
        one.text = "other"
