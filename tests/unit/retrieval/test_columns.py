"""What `add` is given goes to stores as columns: checked at once, and the same as if each was looked at alone."""

from __future__ import annotations

import asyncio
import math
import uuid

import numpy as np
import pytest

from dspex_nb.errors import DataError
from dspex_nb.retrieval import retriever
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.documents import columns_of, plain_metadata
from dspex_nb.retrieval.facts import facts_of
from dspex_nb.retrieval.fields import by_values, facts_beside, field_of
from dspex_nb.retrieval.filters import read_filter
from dspex_nb.retrieval.metadata import metadata_text, metadata_texts


@pytest.mark.parametrize(
    ("metadatas", "flat"),
    [
        ([{"a": "x", "n": 1, "b": True, "none": None, "f": 0.5}, {}], True),
        ([{"a": math.nan}, {"a": 1}], False),
        ([{"tags": ["x", "y"]}, {"n": np.int64(3)}], False),
        ([None, {"a": 1}], True),
    ],
)
def test_metadata_of_many_is_that_of_each(metadatas, flat):
    found = columns_of(["one", "two"], metadatas)
    assert found.metadatas == [plain_metadata(one or {}) for one in metadatas]
    assert found.flat is flat
    assert metadata_texts(found.metadatas, flat=found.flat) == list(map(metadata_text, found.metadatas))


@pytest.mark.parametrize("bad", [{"x": math.inf}, {1: "x"}, {"x": object()}, "text"])
def test_one_bad_among_many_is_told(bad):
    with pytest.raises(DataError, match="metadata"):
        columns_of(["one", "two", "three"], [{"a": 1}, bad, {"a": 2}])


def test_large_numbers_and_half_characters_are_written_one_by_one():
    given = [{"n": 2**70}, {"half": "\ud83d"}, {"n": 1}]
    assert metadata_texts(given, flat=True) == list(map(metadata_text, given))


def test_the_last_of_equal_ids_stays_where_the_first_stood():
    given = Columns(["a", "b", "a"], ["1", "2", "3"], [{}, {}, {"n": 1}])
    assert given.last_places() == [2, 1]
    assert given.at([2, 1]) == Columns(["a", "b"], ["3", "2"], [{"n": 1}, {}])
    assert given[1:].texts == ["2", "3"]
    assert Columns(["a"], ["1"], [{}]).last_places() is None


def test_what_is_kept_is_not_the_callers():
    told = {"n": 1}
    found = retriever("memory")
    found.add(["one"], [told], ["a"], vectors=[[1.0, 0.0]])
    told["n"] = 2
    assert found.search([1.0, 0.0])[0].metadata == {"n": 1}


def test_an_awaited_add_has_metadata_of_its_own():
    told = [{"n": 1} for _ in range(600)]
    found = retriever("sqlite")

    async def use():
        numbers = np.eye(600, dtype=np.float32)
        await found.aadd(["t"] * 600, told, range(600), vectors=numbers, on_progress=lambda _: told[550].update(n=2))
        return found.search(numbers[550], k=1)[0].metadata

    assert asyncio.run(use()) == {"n": 1}


def test_ids_given_are_not_changed():
    ids = ["a", "b"]
    found = retriever("memory").add(["one", "two"], ids=ids, vectors=np.eye(2))
    found.append("c")
    assert ids == ["a", "b"]


@pytest.mark.parametrize("given", ["", "a", "é", "日本", "x" * 500, "it's\x00"])
def test_a_key_is_pythons_uuid(given):
    assert key_of(given) == str(uuid.uuid5(uuid.UUID("6f0d1c1e-1d3a-4f0e-9b52-6d1f2f0a7c11"), given))


def test_a_block_has_columns_and_rows():
    vectors = np.eye(2, dtype=np.float32)
    block = Block(columns_of(["one", "two"], [{"n": 1}, {"n": [1, 2]}], ["a", "b"]), vectors, lambda given: given.tolist())
    assert len(block) == len(list(block)) == 2
    first, second = block
    assert (first.id, first.text, first.metadata, first.vector) == ("a", "one", metadata_text({"n": 1}), [1.0, 0.0])
    assert [first.facts, second.facts] == block.facts == [facts_of("a", {"n": 1}), facts_of("b", {"n": [1, 2]})]
    assert [first.key, second.key] == block.keys


class TestFields:
    KINDS = (str, bool, int)

    def test_what_can_be_asked_for(self):
        for key, value, found in (
            ("a", "x", "x"),
            ("a", 1.0, 1),
            ("a", True, True),
            ("a", 2**53 - 1, 2**53 - 1),
            ("a", 2**53, None),  # beside fractions it is no longer told from its neighbour
            ("a", 0.5, None),
            ("a", None, None),
            ("a.b", "x", None),
            ("", "x", None),
            ("ä", "x", None),
        ):
            assert field_of(key, value, self.KINDS) == found
        assert field_of("a", True, (str, int)) is None

    def test_all_else_are_facts(self):
        plain = {"a": "x", "n": 1, "b": True}
        assert facts_beside(plain, self.KINDS) == []
        odd = {"a": ["x", {"deep": 1}], "f": 1.0, "none": None, "k.d": "x", "nested": {"x": 1}}
        assert len(facts_beside({**plain, **odd}, self.KINDS)) == 4
        assert set(facts_beside(odd, self.KINDS)) <= set(facts_of("id", odd))
        assert len(facts_beside(plain, (str, int))) == 1

    def test_which_filters_look_for_values(self):
        for given, only in (
            ({"a": 1, "b": {"$in": [1, "x"]}}, True),
            ({"$or": [{"a": {"$ne": 1}}, {"$not": {"b": {"$nin": ["x"]}}}]}, True),
            ({"a": {"$in": []}}, False),
            ({"a": {"$exists": True}}, False),
            ({"$or": [{"a": 1}, {"b": {"$gt": 1}}]}, False),
        ):
            assert by_values(read_filter(given)) is only


def test_an_order_by_a_number_that_sqlite_has_not():
    found = retriever("sqlite")
    found.add(["small", "large"], [{"n": 1}, {"n": 2**80}], ["a", "b"], vectors=np.eye(2))
    assert [one.id for one in found.search([1.0, 0.0], filter={"n": {"$gt": 2**70}})] == ["b"]
    assert [one.id for one in found.search([1.0, 0.0], filter={"n": {"$lt": 2**70}})] == ["a"]


def test_vectors_are_cut_where_they_end():
    """More than one value's worth of them, and a last part that is shorter."""
    vectors = np.random.default_rng(3).standard_normal((2500, 64)).astype(np.float32)
    found = retriever("sqlite")
    found.add([f"t{n}" for n in range(2500)], ids=range(2500), vectors=vectors)
    for n in (0, 1023, 1024, 2047, 2048, 2499):
        assert found.search(vectors[n], k=1)[0].id == str(n)
    found.add(["new"] * 1500, ids=range(1000, 2500), vectors=-vectors[1000:])
    assert found.count() == 2500
    assert found.search(-vectors[2000], k=1)[0].id == "2000"
    assert found.search(vectors[500], k=1)[0].id == "500"
