"""The shipped suite over each of our indexes."""

from __future__ import annotations

import pytest

from dspex_nb.retrieval import retriever
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import LastingRetrieverSuite, RetrieverSuite
from dspex_nb.testing.vector_suite import LastingVectorSuite


class Recorded:
    """Tells a recording run (tests/services/prove_stores.py) which row of the table it is."""

    store = ""

    @pytest.fixture(autouse=True)
    def _row(self, record_property):
        record_property("row", self.store)
        record_property("kind", self.store)


class TestBM25(Recorded, RetrieverSuite):
    store = "bm25"

    def make_retriever(self, index=None):
        return retriever("bm25", index=index)


class TestTrigram(Recorded, RetrieverSuite):
    store = "trigram"

    def make_retriever(self, index=None):
        return retriever("trigram", index=index)


class TestPostgres(Recorded, LastingRetrieverSuite):
    store = "postgres"

    @pytest.fixture(autouse=True)
    def _server(self, postgres, table):
        self.server, self.table, self.made = postgres, table, []
        yield
        for one in self.made:
            one.drop()

    def make_retriever(self, index=None):
        made = retriever("postgres", dsn=self.server.dsn(), table=f"{self.table}_{len(self.made)}", index=index)
        self.made.append(made)
        return made

    def open_again(self, found):
        return retriever("postgres", dsn=self.server.dsn(), table=found._table)

    def known_as(self, found):
        return "postgres", {"dsn": self.server.dsn(), "table": found._table}


class TestAnUnnamedOne:
    """The fall back to this process is told, and a store that another process finds empty fails the suite."""

    class Suite(LastingVectorSuite):
        path = told = None

        def make_retriever(self, index=None):
            return retriever("memory", index=index, embedder=HashEmbedder(), path=self.path)

        def open_again(self, found):
            return retriever("memory", embedder=HashEmbedder(), path=self.path)

        def known_as(self, found):
            return self.told

    def test_the_same_process_is_warned_of(self, tmp_path):
        suite = self.Suite()
        suite.path = tmp_path / "here"
        with pytest.warns(UserWarning, match="Suite: opened again in the same process only"):
            suite.test_it_lasts()

    def test_another_process_must_find_it(self, tmp_path):
        suite = self.Suite()
        suite.path, suite.told = tmp_path / "here", ("memory", {"path": tmp_path / "there"})
        with pytest.raises(AssertionError, match="another process found"):
            suite.test_it_lasts()
        suite.told = ("memory", {"path": tmp_path / "here", "nonsense": 1})
        with pytest.raises(AssertionError, match="another process cannot open the memory retriever"):
            suite.test_it_lasts()
