"""The shipped suite over the stores that are servers, each started here for real."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.retrieval.registry import features_of
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import PLANETS
from dspex_nb.testing.vector_suite import LastingVectorSuite

pytestmark = pytest.mark.services
PASSWORD = "s3cret-Elephant"


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


class TestPgVector(Served):
    store, server, named = "pgvector", "pgvector", "table"

    def config(self):
        return {"dsn": self.at}

    @pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid", {"dense": 3, "sparse": 1}])
    def test_what_is_awaited_is_what_is_called(self, mode):
        index = self.make_retriever(PLANETS)

        async def both():
            return await asyncio.gather(*(index.asearch(query, 3, mode=mode) for query in ("bright rings", "red planet")))

        assert asyncio.run(both()) == [index.search(query, 3, mode=mode) for query in ("bright rings", "red planet")]


class TestPgVectorApproximate(TestPgVector):
    row = "pgvector, HNSW"

    def config(self):
        return {"dsn": self.at, "approximate": True}


class TestRedis(Served):
    store, server, named = "redis", "redis_search", "collection"

    def config(self):
        return {"url": f"redis://:{PASSWORD}@127.0.0.1:{self.at}"}


class TestRedisApproximate(TestRedis):
    row = "redis, HNSW"

    def config(self):
        return {"url": f"redis://127.0.0.1:{self.at}", "password": PASSWORD, "approximate": True}


class TestMariaDb(Served):
    store, server, named = "mariadb", "mariadb", "table"

    def config(self):
        return {"host": "127.0.0.1", "port": self.at}


class TestFalkorDb(Served):
    store, server, named = "falkordb", "falkordb", "graph"

    def config(self):
        return {"port": self.at, "password": PASSWORD}


class TestChromaServer(Served):
    store, server, named, row = "chroma", "chroma_server", "collection", "chroma, server"

    def config(self):
        return {"url": self.at}


class TestMilvusServer(Served):
    store, server, named, row = "milvus", "milvus_server", "collection", "milvus, server"
    packages = "pymilvus milvus"

    def config(self):
        return {"url": self.at, "token": f"root:{PASSWORD}"}

    def test_a_wrong_token_is_refused_and_not_told(self):
        with pytest.raises(RetrieverError) as told:
            retriever("milvus", url=self.at, token="root:wr0ng-Elephant", embedder=HashEmbedder())
        assert "token" in told.value.hint
        assert "wr0ng" not in str(told.value)
