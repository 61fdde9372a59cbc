"""The shipped suite over the stores that are servers, each started here for real."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import threading
import time
import uuid
from pathlib import Path

import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.retrieval.registry import features_of
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import PLANETS
from dspex_nb.testing.vector_suite import LastingVectorSuite

pytestmark = pytest.mark.services
PASSWORD = "s3cret-Elephant"
_spec = importlib.util.spec_from_file_location("gate", Path(__file__).with_name("gate.py"))
_gate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_gate)


class Served(LastingVectorSuite):
    """Makes an index under a new name each time."""

    store = server = named = row = packages = ""
    shared = True

    @pytest.fixture(autouse=True)
    def _server(self, request, record_property):
        if not KINDS[self.store].installed:
            pytest.skip(f"pip install 'dspex_nb[{KINDS[self.store].extra}]'")
        record_property("row", self.row or self.store)
        record_property("kind", self.store)
        record_property("packages", self.packages)
        self.at, self.made, self.record = request.getfixturevalue(self.server), [], record_property
        yield
        for one, _ in self.made:
            one.close()

    def config(self):
        raise NotImplementedError

    def make_retriever(self, index=None):
        return self._opened({**self.config(), self.named: f"t_{uuid.uuid4().hex[:12]}"}, index)

    def open_again(self, found):
        return self._opened(next(config for one, config in self.made if one is found))

    def known_as(self, found):
        return self.store, next(config for one, config in self.made if one is found)

    def _opened(self, config, index=None):
        self.made.append((retriever(self.store, index=index, embedder=HashEmbedder(), **config), config))
        self.record("features", ", ".join(features_of(KINDS[self.store], self.made[-1][0])))
        return self.made[-1][0]

    def test_the_password_is_nowhere(self):
        assert PASSWORD not in repr(self.make_retriever())


async def until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class AwaitedServed(Served):
    """A store that waits for its server by being awaited. `marker` stands in what a search sends."""

    marker = b""

    @pytest.fixture
    def gate(self, _server):
        given = self.at
        gate = _gate.Gate(int(re.search(r"(\d+)$", str(given))[1]), self.marker)
        self.at = re.sub(r"\d+$", str(gate.port), given) if isinstance(given, str) else gate.port
        yield gate
        for one, _ in self.made:
            one.close()
        gate.end()

    @pytest.fixture
    def no_threads(self, monkeypatch):
        """A switch that makes every hop to a thread an error."""
        return lambda: monkeypatch.setattr(asyncio, "to_thread", None)

    def test_what_is_awaited_is_what_is_called(self, no_threads):
        index = self.make_retriever(PLANETS)
        ways = [*index.modes, *([{"dense": 3, "sparse": 1}, {"dense": 1}] if "hybrid" in index.modes else [])]
        filters = [None, {"moons": 0}, {"$or": [{"tags": "outer"}, {"$not": {"rocky": True}}]}, {"moons": {"$gt": 1, "$lt": 100}}]
        queries = ["bright rings", ["red dust", "largest storm"], "", "unsaid"]
        asked = [(query, 3, one, way) for query in queries for one in filters for way in ways]
        asked += [(HashEmbedder().embed(["red planet"])[0], k, filters[3], "dense") for k in (0, 2)]

        async def awaited():
            await index.acount()  # connects
            no_threads()
            found = await asyncio.gather(*(index.asearch(*one) for one in asked))
            return found, [await index.abatch(queries, 2, one, way) for one in filters for way in ways]

        found, batches = asyncio.run(awaited())
        for one, answer in zip(asked, found, strict=True):
            assert (one, answer) == (one, index.search(*one))
        assert batches == [index.batch(queries, 2, one, way) for one in filters for way in ways]
        assert any(found)

    def test_all_of_an_index_can_be_awaited(self, no_threads):
        index = self.make_retriever()
        told = []

        async def use():
            assert await index.acount() == await index.adelete(["a"]) == 0
            assert await index.asearch("rings") == []
            assert await index.aadd({"a": "bright rings"}) == ["a"]  # makes the collection
            no_threads()
            assert await index.aadd({"a": "bright moons", "b": "red dust"}, on_progress=told.append) == ["a", "b"]
            assert await index.acount() == 2
            assert [one.text for one in await index.asearch("bright moons", 1)] == ["bright moons"]
            assert await index.adelete(["a", "nowhere", "a"]) == 1
            return await index.acount()

        assert asyncio.run(use()) == index.count() == 1
        assert [one.done for one in told] == [2]
        assert [one.id for one in index.search("moons", 3)] == ["b"]

    def test_many_add_at_once(self):
        index = self.make_retriever()

        async def use():
            made = [{f"n{n}": f"number {n}" for n in range(start, start + 20)} for start in range(0, 80, 10)]
            await asyncio.gather(*(index.aadd(one) for one in made), *(index.asearch("number 7") for _ in range(5)))
            return await index.acount()

        assert asyncio.run(use()) == index.count() == 90

    def test_ten_searches_wait_on_the_server_together_and_hold_no_thread(self, gate, no_threads):
        index = self.make_retriever(PLANETS)
        expected = index.search("bright rings", 2)

        async def ten():
            await index.asearch("bright rings", 2)
            no_threads()
            before = set(threading.enumerate())
            gate.shut()
            asked = [asyncio.ensure_future(index.asearch("bright rings", 2)) for _ in range(10)]
            await until(lambda: gate.waiting == 10)
            assert not any(one.done() for one in asked)
            assert not set(threading.enumerate()) - before
            gate.open()
            return await asyncio.gather(*asked)

        assert asyncio.run(ten()) == [expected] * 10

    def test_each_loop_has_its_own_connections_and_takes_them_along(self, gate):
        index = self.make_retriever(PLANETS)
        called = gate.connections

        async def search():
            return (await asyncio.gather(*(index.asearch("bright rings", 1) for _ in range(3))))[0][0].id

        for _ in range(3):
            assert asyncio.run(search()) == "saturn"
            asyncio.run(until(lambda: gate.connections == called))

    def test_a_search_that_is_given_up_harms_no_other(self, gate):
        index = self.make_retriever(PLANETS)

        async def use():
            await index.asearch("bright rings", 1)
            gate.shut()
            task = asyncio.ensure_future(index.asearch("red dust", 1))
            await until(lambda: gate.waiting)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            return [(await index.asearch(query, 1))[0].id for query in ("bright rings", "red dust", "largest storm")]

        assert asyncio.run(use()) == ["saturn", "mars", "jupiter"]

    def test_closing_in_a_loop_closes_its_connections_and_a_search_opens_new_ones(self, gate):
        index = self.make_retriever(PLANETS)

        async def use():
            index._awaited_clients.close()
            await index.asearch("bright rings", 1)
            open_ones = gate.connections
            index._awaited_clients.close()
            await until(lambda: gate.connections < open_ones)
            return (await index.asearch("red dust", 1))[0].id

        assert asyncio.run(use()) == "mars"


class TestPgVector(Served):
    store, server, named = "pgvector", "pgvector", "table"

    def config(self):
        return {"dsn": self.at}

    def test_what_is_awaited_is_what_is_called(self, monkeypatch):
        index = self.make_retriever({**PLANETS, "gone": "nothing is here"})
        ways = [*index.modes, {"dense": 3, "sparse": 1}, {"dense": 1}]
        filters = [None, {"moons": 0}, {"$not": {"rocky": True}}, {"moons": {"$gt": 1, "$lt": 100}}]
        queries = ["bright rings", ["red dust", "largest storm"], "", "unsaid"]
        asked = [(query, 3, one, way) for query in queries for one in filters for way in ways]

        async def awaited():
            monkeypatch.setattr(asyncio, "to_thread", None)
            assert await index.adelete(["gone", "nowhere"]) == 1
            batches = [await index.abatch(queries, 2, one, way) for one in filters for way in ways]
            return await asyncio.gather(*(index.asearch(*one) for one in asked)), batches, await index.acount()

        found, batches, count = asyncio.run(awaited())
        monkeypatch.undo()
        assert found == [index.search(*one) for one in asked]
        assert batches == [index.batch(queries, 2, one, way) for one in filters for way in ways]
        assert count == index.count() == len(PLANETS)


class TestPgVectorApproximate(TestPgVector):
    row = "pgvector, HNSW"

    def config(self):
        return {"dsn": self.at, "approximate": True}


class TestRedis(AwaitedServed):
    store, server, named = "redis", "redis_search", "collection"
    marker = b"KNN"

    def config(self):
        return {"url": f"redis://:{PASSWORD}@127.0.0.1:{self.at}"}


class TestRedisApproximate(TestRedis):
    row = "redis, HNSW"

    def config(self):
        return {"url": f"redis://127.0.0.1:{self.at}", "password": PASSWORD, "approximate": True}


class TestMariaDb(AwaitedServed):
    store, server, named = "mariadb", "mariadb", "table"
    marker = b"VEC_DISTANCE_COSINE"

    def config(self):
        return {"host": "127.0.0.1", "port": self.at}


class TestFalkorDb(AwaitedServed):
    store, server, named = "falkordb", "falkordb", "graph"
    marker = b"GRAPH.QUERY"

    def config(self):
        return {"host": "127.0.0.1", "port": self.at, "password": PASSWORD}


class TestChromaServer(AwaitedServed):
    store, server, named, row = "chroma", "chroma_server", "collection", "chroma, server"
    marker = b"/query"

    def config(self):
        return {"url": self.at}

    def test_a_search_between_making_and_the_first_writing_finds_nothing(self):
        index = self.make_retriever()
        index._create(64)
        index._dimension = 64
        (vector,) = HashEmbedder(64).embed(["text"])
        assert index.search(vector) == asyncio.run(index.asearch(vector)) == []


class TestMilvusServer(AwaitedServed):
    store, server, named, row = "milvus", "milvus_server", "collection", "milvus, server"
    packages = "pymilvus milvus"

    def config(self):
        return {"url": self.at, "token": f"root:{PASSWORD}"}

    def test_a_wrong_token_is_refused_and_not_told(self):
        with pytest.raises(RetrieverError) as told:
            retriever("milvus", url=self.at, token="root:wr0ng-Elephant", embedder=HashEmbedder())
        assert "token" in told.value.hint
        assert "wr0ng" not in str(told.value)
