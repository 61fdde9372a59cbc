"""What every index by vectors must do, as tests: subclass `VectorRetrieverSuite`, give it an index, and run it with pytest.

```python
class TestMyStore(LastingVectorSuite):
    def make_retriever(self, index=None):
        return MyStore(index, embedder=HashEmbedder(), path=new_folder())

    def open_again(self, retriever):
        ...

    def known_as(self, retriever):  # how another process opens it, where dx.retriever knows its kind
        return "my-store", {"path": retriever.path}
```
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_nb.errors import MissingDependencyError, RetrieverError
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import PLANETS, AnyRetrieverSuite, Named, ids

_MANY = 10_000
_LENGTH = 64
_NEAR = 2e-3  # stores keep float32, some less


class VectorRetrieverSuite(AnyRetrieverSuite):
    """Tests of one kind of index that finds by vectors, made with a `HashEmbedder` of 64 numbers.

    Attributes:
        many: How many vectors the large test adds.
    """

    many = _MANY

    def make_retriever(self, index: Any = None) -> Any:
        """Return a new index that holds what is given."""
        raise NotImplementedError

    def record(self, figure: str, value: float) -> None:
        """Take note of a measured figure; a runner may override it."""

    def test_scores_are_on_one_scale(self) -> None:
        """A score is (1 + cosine) / 2, the highest first, and the store's own number is beside it."""
        query = "the hottest planet by the sun"
        found = self.make_retriever(PLANETS).search(query, k=5)
        embedder = HashEmbedder(_LENGTH)
        (asked,) = embedder.embed([query])
        assert len(found) == len(PLANETS)
        for one in found:
            expected = (1 + float(embedder.embed([one.text])[0] @ asked)) / 2
            assert abs(one.score - expected) < _NEAR, (one.id, one.score, expected)
            assert isinstance(one.raw_score, float)
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    def test_k_bounds_and_may_be_larger_than_all(self) -> None:
        """At most k, no error where there are fewer."""
        found = self.make_retriever(PLANETS)
        assert len(found.search("planet", k=2)) == 2  # noqa: PLR2004 - what was asked for
        assert set(ids(found.search("planet", k=1000))) == set(PLANETS)
        assert found.search("planet", k=0) == []

    def test_an_empty_index_and_an_empty_query_find_nothing(self) -> None:
        """Neither is an error."""
        found = self.make_retriever()
        assert (found.search("planet"), found.count(), found.delete("x"), found.add([])) == ([], 0, 0, [])
        assert found.batch(["planet", "sun"]) == [[], []]
        found.add(PLANETS)
        for nothing in ("", "  \n", [], [""]):
            assert found.search(nothing) == [], nothing
        assert found.delete(list(PLANETS)) == len(PLANETS)
        assert (found.search("planet"), found.count()) == ([], 0)

    def test_vectors_may_be_given(self) -> None:
        """A text is found by its own vector, of whatever length; of several with one id the last stays."""
        vectors = HashEmbedder(_LENGTH).embed([one["text"] for one in PLANETS.values()]) * 3  # type: ignore[misc]
        found = self.make_retriever()
        assert found.add([one["text"] for one in PLANETS.values()], ids=list(PLANETS), vectors=vectors.tolist()) == list(PLANETS)
        for name, vector in zip(PLANETS, vectors, strict=True):
            assert found.search(vector, k=1)[0].id == name
            assert found.search(vector.tolist(), k=1)[0].id == name
        assert found.add(["one", "two"], ids=["mars", "mars"], vectors=vectors[:2]) == ["mars"]
        assert found.count() == len(PLANETS)
        assert {one.id: one.text for one in found.search(vectors[1], k=2)}["mars"] == "two"

    def test_a_wrong_dimension_is_refused(self) -> None:
        """Clearly, and nothing is stored."""
        found = self.make_retriever(PLANETS)
        tries: tuple[Callable[[], Any], ...] = (
            lambda: found.search([0.5, 0.5, 0.5]),
            lambda: found.add(["short"], vectors=[[1.0, 2.0]]),
            lambda: found.add(["one", "two"], vectors=[[1.0] * _LENGTH]),
            lambda: found.add(["odd"], vectors=[[float("nan")] * _LENGTH]),
        )
        for bad in tries:
            try:
                bad()
            except RetrieverError as error:
                assert error.hint  # noqa: PT017 - users of the suite need no pytest
                assert "vector" in error.message  # noqa: PT017
            else:
                raise AssertionError("not refused")
        assert found.count() == len(PLANETS)

    def test_a_batch_is_its_queries_one_by_one(self) -> None:
        """Also with texts and vectors mixed, a filter, several texts in one query, and from a coroutine."""
        found = self.make_retriever(PLANETS)
        (vector,) = HashEmbedder(_LENGTH).embed(["rusty dust"])
        queries: list[Any] = ["bright rings of ice", "", "largest storm", vector]
        for given in (None, {"rocky": False}):
            single = [found.search(one, k=3, filter=given) for one in queries]
            assert [ids(one) for one in found.batch(queries, k=3, filter=given)] == [ids(one) for one in single]
            assert [ids(one) for one in asyncio.run(found.abatch(queries, k=3, filter=given))] == [ids(one) for one in single]
        assert [ids(one) for one in found.batch([["red dust", "rusty"], "rings"], k=1)] == [["mars"], ["saturn"]]

    def test_awaited_calls_do_what_the_others_do(self) -> None:
        """Adding, counting, searching and deleting."""
        found = self.make_retriever()

        async def use() -> tuple[Any, ...]:
            await found.aadd(PLANETS)
            both = await asyncio.gather(found.asearch("bright rings", k=1), found.asearch("red dust", k=1))
            return [ids(one) for one in both], await found.adelete(["mars"]), await found.acount()

        assert asyncio.run(use()) == ([["saturn"], ["mars"]], 1, len(PLANETS) - 1)

    def test_the_modes_it_has(self) -> None:
        """By words and by both where it says so; else refused."""
        found = self.make_retriever(PLANETS)
        assert found.modes[0] == "dense"
        for mode in ("sparse", "hybrid"):
            if mode in found.modes:
                assert found.search("bright rings", k=1, mode=mode)[0].id == "saturn"
                assert ids(found.search("planet", k=1, mode=mode, filter={"moons": 95})) == ["jupiter"]
            else:
                _refused(found, mode)
        if "sparse" in found.modes:
            assert ids(found.search("rusty", mode="sparse")) == ["mars"]
            found.delete("mars")
            found.add(["A comet is rusty too."], ids=["comet"])
            assert ids(found.search("rusty", mode="sparse")) == ["comet"]
            assert found.search('"" OR * -', mode="sparse") == []
        _refused(found, "dens")

    def test_many(self) -> None:
        """Ten thousand: each is found by its vector, filters and deletions hold."""
        import numpy as np

        vectors = np.random.default_rng(7).standard_normal((self.many, _LENGTH)).astype(np.float32)
        found = self.make_retriever()
        started = time.perf_counter()
        for start in range(0, self.many, 5000):
            numbers = range(start, min(start + 5000, self.many))
            found.add(
                [f"text {n}" for n in numbers],
                [{"n": n, "third": n % 3} for n in numbers],
                [f"id{n}" for n in numbers],
                vectors=vectors[start : start + 5000],
            )
        self.record("add_s", time.perf_counter() - started)
        assert found.count() == self.many
        picked = range(0, self.many, self.many // 25)
        found.search(vectors[0], k=10)  # a build-once index is built now
        started = time.perf_counter()
        first = [found.search(vectors[n], k=10) for n in picked]
        self.record("search_ms", (time.perf_counter() - started) / len(first) * 1000)
        right = sum(hits[0].id == f"id{n}" for n, hits in zip(picked, first, strict=True))
        self.record("recall_at_1", right / len(first))
        assert right >= 0.9 * len(first)
        assert all(len(hits) == 10 for hits in first)  # noqa: PLR2004 - k
        hits = found.search(vectors[30], k=10, filter={"third": 0})
        assert hits[0].id == "id30"
        assert len(hits) == 10  # noqa: PLR2004 - k
        assert all(one.metadata["third"] == 0 for one in hits)
        assert ids(found.search(vectors[1], k=10, filter={"n": self.many - 1})) == [f"id{self.many - 1}"]
        assert found.delete([f"id{n}" for n in range(0, 200, 2)]) == 100  # noqa: PLR2004 - every second of 200
        assert found.count() == self.many - 100
        assert "id100" not in ids(found.search(vectors[100], k=10))

    def test_many_readers_at_once(self) -> None:
        """Threads that share the index each get their own answer."""
        found = self.make_retriever(PLANETS)
        asked = {"bright rings of ice": "saturn", "rusty dust": "mars", "largest storm": "jupiter"}
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(lambda query: (query, found.search(query, k=1)[0].id), list(asked) * 10)
            assert all(asked[query] == name for query, name in answers)

    def test_without_an_embedder(self) -> None:
        """A text is refused with what to do; the description shows no secret and errors have hints."""
        found = self.make_retriever(PLANETS)
        found._embedder = None  # noqa: SLF001 - as if made without one
        try:
            found.search("planet")
        except (RetrieverError, MissingDependencyError) as error:  # the embedded one has another length, or is not installed
            assert "embedder" in error.hint  # noqa: PT017
        else:
            raise AssertionError("not refused")
        assert found.name in repr(found)


class LastingVectorSuite(Named, VectorRetrieverSuite):
    """Tests of an index by vectors that is there again after its process has ended.

    Attributes:
        shared: Whether two objects may have the same stored index open at once.
    """

    shared = False

    def open_again(self, retriever: Any) -> Any:
        """Return another object for the same stored index; where it is not `shared`, after closing the first."""
        raise NotImplementedError

    def test_it_lasts(self) -> None:
        """Opened again, in another process and in this one, it holds the same, in the same version, and can be changed."""
        first = self.make_retriever(PLANETS)
        version = first.version
        first.persist()
        if not self.shared:
            first.close()
        self.check_elsewhere(first, version, embeds=True)
        again = self.open_again(first)
        assert (again.count(), again.version) == (len(PLANETS), version)
        assert ids(again.search("bright rings", k=1)) == ["saturn"]
        assert ids(again.search("planet", k=9, filter={"moons": {"$gt": 2}})) in (["saturn", "jupiter"], ["jupiter", "saturn"])
        again.delete("saturn")
        again.add(["Pluto is a dwarf."], ids=["pluto"])
        assert ids(again.search("dwarf", k=1)) == ["pluto"]
        if self.shared:
            assert "saturn" not in ids(first.search("bright rings"))


def _refused(found: Any, mode: str) -> None:
    try:
        found.search("rings", mode=mode)
    except RetrieverError as error:
        assert "dense" in error.hint  # noqa: PT017
    else:
        raise AssertionError(f"mode={mode!r} was not refused")
