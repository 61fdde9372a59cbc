"""What every retriever must do, as tests: subclass `RetrieverSuite` and give it an index.

```python
class TestMyIndex(RetrieverSuite):
    def make_retriever(self, index=None):
        return MyIndex(index)
```
An index that outlives its process subclasses `LastingRetrieverSuite` and says how it is opened again.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_nb.errors import DataError, FilterError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import Retriever
from dspex_nb.testing.restart import found_elsewhere

PLANETS = {
    "mercury": {
        "text": "Mercury is the smallest planet and the closest to the sun.",
        "moons": 0,
        "rocky": True,
        "tags": ["inner"],
    },
    "venus": {
        "text": "Venus is the hottest planet because of its dense atmosphere.",
        "moons": 0,
        "rocky": True,
        "tags": ["inner"],
    },
    "mars": {
        "text": "Mars is called the red planet for its rusty dust.",
        "moons": 2,
        "rocky": True,
        "tags": ["inner", "visited"],
    },
    "jupiter": {"text": "Jupiter is the largest planet, with a great storm.", "moons": 95, "rocky": False, "tags": ["outer"]},
    "saturn": {"text": "Saturn has bright rings made of ice.", "moons": 146, "rocky": False, "tags": ["outer"], "year": 1655.5},
}


def ids(passages: list[Passage]) -> list[str]:
    """Return the ids in order."""
    return [one.id for one in passages]


class AnyRetrieverSuite:
    """What holds whether an index finds by words or by vectors.

    Attributes:
        may_refuse_filters: Whether a filter that the store cannot keep may be refused. Ignoring one never passes.
    """

    may_refuse_filters = False

    def make_retriever(self, index: Any = None) -> Retriever:
        """Return a new index that holds what is given."""
        raise NotImplementedError

    def test_it_is_a_retriever(self) -> None:
        """It has the protocol's members, and a name."""
        found = self.make_retriever()
        assert isinstance(found, Retriever)
        assert found.name

    def test_the_right_one_is_first(self) -> None:
        """A query finds the passage it describes."""
        found = self.make_retriever(PLANETS)
        for query, wanted in {"bright rings of ice": "saturn", "red dust": "mars", "largest storm": "jupiter"}.items():
            first = found.search(query)[0]
            assert (first.id, first.text) == (wanted, PLANETS[wanted]["text"])

    def test_metadata_comes_back(self) -> None:
        """What was stored with a passage is found with it, types kept."""
        (found,) = self.make_retriever(PLANETS).search("bright rings", k=1)
        assert found.metadata == {"moons": 146, "rocky": False, "tags": ["outer"], "year": 1655.5}
        assert type(found.metadata["rocky"]) is bool

    def test_a_filter_filters(self) -> None:
        """Every word of the filter language means the same in every index."""
        found = self.make_retriever(PLANETS)
        everything = "planet rings"
        expected: list[tuple[dict[str, Any], set[str]]] = [
            ({"moons": 0}, {"mercury", "venus"}),
            ({"moons": 0.0, "rocky": True}, {"mercury", "venus"}),
            ({"moons": {"$gt": 0, "$lte": 95}}, {"mars", "jupiter"}),
            ({"moons": {"$gte": 95}}, {"jupiter", "saturn"}),
            ({"moons": {"$lt": 2}}, {"mercury", "venus"}),
            ({"moons": {"$in": [2, 146, "95"]}}, {"mars", "saturn"}),
            ({"moons": {"$in": []}}, set()),
            ({"moons": {"$nin": [0, 2]}}, {"jupiter", "saturn"}),
            ({"rocky": False}, {"jupiter", "saturn"}),
            ({"rocky": 0}, set()),
            ({"moons": "0"}, set()),
            ({"moons": {"$gt": "0"}}, set()),
            ({"tags": "inner"}, {"mercury", "venus", "mars"}),
            ({"tags": {"$eq": "visited"}}, {"mars"}),
            ({"tags": {"$ne": "inner"}}, {"jupiter", "saturn"}),
            ({"year": {"$exists": True}}, {"saturn"}),
            ({"year": {"$exists": False}, "rocky": False}, {"jupiter"}),
            ({"year": {"$ne": 1655.5}}, {"mercury", "venus", "mars", "jupiter"}),
            ({"$or": [{"moons": 2}, {"year": {"$gt": 1600}}]}, {"mars", "saturn"}),
            ({"$and": [{"rocky": True}, {"$not": {"moons": 0}}]}, {"mars"}),
            ({"$not": {"nowhere": 1}, "tags": "outer"}, {"jupiter", "saturn"}),
            ({"nowhere": "x"}, set()),
            ({"no'where\") --": "' OR true --"}, set()),
            ({}, set(PLANETS)),
        ]
        for given, wanted in expected:
            try:
                hits = found.search(everything, k=10, filter=given)
            except FilterError:
                assert self.may_refuse_filters, given
            else:
                assert set(ids(hits)) == wanted, given

    def test_a_filter_comes_before_k(self) -> None:
        """The best k of those that satisfy it, not those of the best k that do."""
        found = self.make_retriever([{"text": "the same words", "n": n} for n in range(50)])
        assert [one.metadata["n"] for one in found.search("same words", k=1, filter={"n": 49})] == [49]

    def test_an_unknown_filter_is_refused(self) -> None:
        """No word of a filter is ever ignored."""
        found = self.make_retriever(PLANETS)
        refused: tuple[Any, ...] = (
            {"moons": {"$regex": "x"}},
            {"$xor": [{"moons": 1}]},
            {"moons": {"gt": 1}},
            {"moons": [0, 2]},
            "moons=0",
            {"$or": []},
        )
        for bad in refused:
            try:
                found.search("planet", filter=bad)
            except FilterError as error:
                assert error.hint  # noqa: PT017 - users of the suite need no pytest
            else:
                raise AssertionError(f"{bad!r} was not refused")

    def test_delete_deletes(self) -> None:
        """What was deleted is not found, and counted out; an unknown id is no error."""
        found = self.make_retriever(PLANETS)
        assert found.delete(["mars", "pluto"]) == 1
        assert found.delete("mars") == 0
        assert found.count() == len(PLANETS) - 1
        assert "mars" not in ids(found.search("red planet", k=10))

    def test_add_with_a_known_id_updates(self) -> None:
        """The old text and metadata are gone."""
        found = self.make_retriever(PLANETS)
        assert found.add(["Mars has two potato moons."], [{"moons": 3}], ["mars"]) == ["mars"]
        assert found.count() == len(PLANETS)
        assert not [one for one in found.search("rusty dust", k=10) if "rusty" in one.text]
        mars = found.search("potato")[0]
        assert (mars.id, mars.text, mars.metadata) == ("mars", "Mars has two potato moons.", {"moons": 3})

    def test_ids_made_from_content_are_stable(self) -> None:
        """Adding the same again changes nothing."""
        found = self.make_retriever()
        first = found.add(["one text", "another text"], [{"n": 1}, {"n": 2}])
        version = found.version
        assert found.add(["one text", "another text"], [{"n": 1}, {"n": 2}]) == first
        assert len(set(first)) == found.count() == len(first)
        assert found.version == version

    def test_the_version_follows_the_content(self) -> None:
        """Each change gives another version; the same content, in whatever order it came, the same."""
        found = self.make_retriever(PLANETS)
        versions = [found.version]
        found.add(["Pluto is a dwarf."], None, ["pluto"])
        versions.append(found.version)
        found.add(["Pluto is a dwarf."], [{"moons": 5}], ["pluto"])
        versions.append(found.version)
        assert len(set(versions)) == len(versions)
        found.delete("pluto")
        assert found.version == versions[0]
        assert self.make_retriever(dict(reversed(PLANETS.items()))).version == versions[0]

    def test_text_of_any_script(self) -> None:
        """Queries, texts, ids and metadata are Unicode, and what looks like syntax is only text."""
        texts = {
            "ß": "Grüße aus Köln",
            "москва": "Столица России",
            "🙂": "naïve café",
            "'; DROP TABLE x; --": "100% of %s {0} \\ 'quoted\"",
        }
        found = self.make_retriever({name: {"text": text, "Größe": "ä'\""} for name, text in texts.items()})
        for query, wanted in {
            "GRÜSSE köln": "ß",
            "столица": "москва",
            "café": "🙂",
            "quoted' 100%": "'; DROP TABLE x; --",
        }.items():
            first = found.search(query, k=1, filter={"Größe": "ä'\""})[0]
            assert (first.id, first.text) == (wanted, texts[wanted])
        for odd in ("'", '"', "a & | ! ( b", ":*", "\\", "%s", "<->", "{}", "-", "not:a:query", "a\x00b"):
            assert isinstance(found.search(odd), list), odd

    def test_several_queries_are_fused(self) -> None:
        """A passage that several find is first, and none is there twice."""
        found = self.make_retriever(PLANETS)
        fused = found.search(["Mercury closest sun", "Mercury smallest", "bright rings, Mercury"], k=5)
        assert fused[0].id == "mercury"
        assert "saturn" in ids(fused)
        assert len(set(ids(fused))) == len(fused)
        assert ids(found.search(["Mercury closest sun", "Mercury smallest", "bright rings, Mercury"], k=2)) == ids(fused)[:2]
        assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
        assert ids(found.search(["rings of ice"])) == ids(found.search("rings of ice"))

    def test_bad_input_is_told(self) -> None:
        """What is no query, no number and no text is refused, and nothing is stored."""
        found = self.make_retriever(PLANETS)
        for bad in ({"query": 7}, {"query": "x", "k": -1}, {"query": "x", "k": 2.5}, {"query": [1]}, {"query": None}):
            try:
                found.search(**bad)
            except RetrieverError as error:
                assert error.hint  # noqa: PT017
            else:
                raise AssertionError(f"{bad!r} was not refused")
        for texts, metadatas in (([7], None), (["a"], [{"x": object()}]), (["a", "b"], [{}]), ("a text", None)):
            try:
                found.add(texts, metadatas)
            except DataError as error:
                assert error.hint  # noqa: PT017
            else:
                raise AssertionError(f"{texts!r} was not refused")
        assert found.count() == len(PLANETS)

    def test_a_search_can_be_awaited(self) -> None:
        """The same, without blocking the loop."""
        found = self.make_retriever(PLANETS)

        async def both() -> tuple[list[Passage], list[Passage]]:
            return await asyncio.gather(found.asearch("bright rings", k=1), found.asearch("red dust", k=1, filter={"moons": 2}))

        assert [ids(each) for each in asyncio.run(both())] == [["saturn"], ["mars"]]

    def test_readers_and_a_writer_at_once(self) -> None:
        """A reader sees a passage whole or not at all, before, while and after it is written."""
        found = self.make_retriever(PLANETS)
        done = threading.Event()

        def write() -> None:
            try:
                for number in range(20):
                    found.add([f"comet number {number}"], [{"n": number}], [f"comet{number % 5}"])
                    found.delete(f"comet{(number + 3) % 5}")
            finally:
                done.set()

        def read(query: str) -> int:
            searches = 0
            while not done.is_set() or not searches:
                for one in found.search(query, k=10):
                    assert "n" not in one.metadata or one.text == f"comet number {one.metadata['n']}"
                assert ids(found.search("bright rings", k=1)) == ["saturn"]
                searches += 1
            return searches

        with ThreadPoolExecutor(5) as threads:
            writing = threads.submit(write)
            assert all(count > 0 for count in threads.map(read, ["comet number", "planet", "comet"]))
            writing.result()
        assert found.count() == len(PLANETS) + len(found.search("comet number", k=50, filter={"n": {"$exists": True}}))


class RetrieverSuite(AnyRetrieverSuite):
    """Tests of one kind of index that finds by words."""

    def test_scores_fall(self) -> None:
        """The highest score is first, and every score is above zero."""
        scores = [one.score for one in self.make_retriever(PLANETS).search("the hottest planet by the sun", k=5)]
        assert len(scores) > 2  # noqa: PLR2004 - several share words with it
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] > 0

    def test_k_bounds_and_may_be_larger_than_all(self) -> None:
        """At most k, no error where there are fewer."""
        found = self.make_retriever(PLANETS)
        assert len(found.search("planet", k=2)) == 2  # noqa: PLR2004 - what was asked for
        assert set(ids(found.search("planet", k=1000))) == {"mercury", "venus", "mars", "jupiter"}
        assert found.search("planet", k=0) == []

    def test_an_empty_index_and_an_empty_query_find_nothing(self) -> None:
        """Neither is an error."""
        found = self.make_retriever()
        assert (found.search("planet"), found.count(), found.delete("x"), found.add([])) == ([], 0, 0, [])
        found.add(PLANETS)
        for nothing in ("", "  \n", [], [""], "?!…", "zzzzqqqq"):
            assert found.search(nothing) == [], nothing


class Named:
    """How another process makes the index that a suite made."""

    def known_as(self, retriever: Any) -> tuple[str, Mapping[str, Any]] | None:  # noqa: ARG002 - for subclasses
        """Return the name and options with which `dx.retriever` opens it in another process; None where that cannot be said."""
        return None

    def check_elsewhere(self, retriever: Any, version: str, *, embeds: bool) -> None:
        """Fail if another Python process does not find in the index what this one put there; warn where none can be asked."""
        told = self.known_as(retriever)
        if told is None:
            warnings.warn(
                f"{type(self).__name__}: opened again in the same process only; say in `known_as` how another one opens it",
                stacklevel=3,
            )
            return
        kind, options = told
        again = found_elsewhere(kind, options, "bright rings", embeds=embeds)
        assert (again.count, again.version, again.first) == (len(PLANETS), version, ["saturn"]), f"another process found {again}"


class LastingRetrieverSuite(Named, RetrieverSuite):
    """Tests of an index that is there again after its process has ended."""

    def open_again(self, retriever: Retriever) -> Retriever:
        """Return another object for the same stored index."""
        raise NotImplementedError

    def test_it_lasts(self) -> None:
        """Opened again, in another process and in this one, it holds the same, in the same version."""
        first = self.make_retriever(PLANETS)
        self.check_elsewhere(first, first.version, embeds=False)
        again = self.open_again(first)
        assert (again.count(), again.version) == (len(PLANETS), first.version)
        assert ids(again.search("bright rings")) == ["saturn"]
        again.delete("saturn")
        assert ids(first.search("bright rings")) == []
