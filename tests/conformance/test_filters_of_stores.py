"""Random filters over random metadata: each store finds exactly what `matches` says, also after passages were replaced."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.retrieval.filters import matches, read_filter

FILES = ("sqlite", "sqlite-vec", "libsql", "turso", "duckdb", "milvus", "cozo", "ladybug")
STORES = ["memory", *FILES, "chroma", "lancedb", "qdrant", "qdrant-edge", "zvec"]
KEYS = ["x", "y", "a b", "x.y", "ä", "_z"]
SCALARS = [
    None,
    True,
    False,
    0,
    1,
    2,
    -3,
    1.0,
    0.5,
    -0.0,
    1e300,
    2.0**53,
    2**53 + 1,
    2**62,
    2**70,
    "",
    "a",
    "1",
    "True",
    "ä'\"",
    "\\",
    "b\n",
]


def value(chance):
    kind = chance.random()
    if kind < 0.2:
        return [chance.choice(SCALARS) for _ in range(chance.randrange(4))]
    return {"x": chance.choice(SCALARS)} if kind < 0.25 else chance.choice(SCALARS)


def metadata(chance):
    return {key: value(chance) for key in chance.sample(KEYS, chance.randrange(5))}


def asked(chance, depth=0):
    if depth < 2 and chance.random() < 0.4:
        join = chance.choice(["$and", "$or", "$not"])
        return {join: asked(chance, depth + 1) if join == "$not" else [asked(chance, depth + 1) for _ in range(2)]}
    word = chance.choice(["$eq", "$ne", "$in", "$nin", "$exists", "$gt", "$gte", "$lt", "$lte"])
    scalars = [one for one in SCALARS if type(one) in (int, float, str)] if word[1] in "gl" else SCALARS
    several = [chance.choice(SCALARS) for _ in range(chance.randrange(4))]
    given = {"$exists": chance.random() < 0.5, "$in": several, "$nin": several}.get(word, chance.choice(scalars))
    return {chance.choice(KEYS): {word: given}}


@pytest.mark.services
@pytest.mark.parametrize("store", STORES)
def test_filters_mean_the_same(store, tmp_path):
    if not KINDS[store].installed:
        pytest.skip(f"pip install 'dspex_nb[{KINDS[store].extra}]'")
    chance = random.Random(11)
    found = retriever(store, path=tmp_path / ("kept.db" if store in FILES else "kept"))
    ids = [f"id{n}" for n in range(30)]
    vectors = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
    for _ in range(6):  # the same ids again, with other metadata
        held = [metadata(chance) for _ in ids]
        if store == "turso":  # an order in metadata that holds a larger number than its JSON reads is an error
            held = [{key: one for key, one in told.items() if str(2**70) not in str(one)} for told in held]
        found.add(["text"] * len(ids), held, ids, vectors=vectors)
        for given in [asked(chance) for _ in range(25)]:
            wanted = {name for name, one in zip(ids, held, strict=True) if matches(read_filter(given), one)}
            assert {one.id for one in found.search(vectors[0], k=100, filter=given)} == wanted, given
        assert {one.id: one.metadata for one in found.search(vectors[0], k=100)} == dict(zip(ids, held, strict=True))
    found.close()


@pytest.mark.services
@pytest.mark.parametrize("store", ["chroma", "qdrant-edge"])
def test_whole_numbers_that_no_fraction_can_tell_apart(store, tmp_path):
    if not KINDS[store].installed:
        pytest.skip(f"pip install 'dspex_nb[{KINDS[store].extra}]'")
    found = retriever(store, path=tmp_path / "kept")
    found.add(["text"] * 3, [{"n": 2.0**53}, {"n": 2**53 + 1}, {"n": 2**62}], ["a", "b", "c"], vectors=np.eye(3))
    for given, wanted in (
        ({"n": 2**53}, "a"),
        ({"n": 2**53 + 1}, "b"),
        ({"n": {"$nin": [2**53 + 1]}}, "ac"),
        ({"n": 2.0**62}, "c"),
    ):
        assert {one.id for one in found.search(np.eye(3)[0], k=9, filter=given)} == set(wanted), given
    found.close()


@pytest.mark.services
@pytest.mark.parametrize("store", STORES)
def test_an_order_that_thousands_satisfy(store, tmp_path):
    if not KINDS[store].installed:
        pytest.skip(f"pip install 'dspex_nb[{KINDS[store].extra}]'")
    vectors = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    found = retriever(store, path=tmp_path / ("kept.db" if store in FILES else "kept"))
    found.add(["text"] * 2000, [{"n": n} for n in range(2000)], range(2000), vectors=vectors)
    hits = found.search(vectors[7], k=2000, filter={"n": {"$lt": 1500}})
    assert (hits[0].id, {one.metadata["n"] for one in hits}) == ("7", set(range(1500)))
    found.close()
