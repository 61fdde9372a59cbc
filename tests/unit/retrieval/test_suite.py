"""The shipped suite over each of our indexes."""

from __future__ import annotations

import pytest

from dspex_nb.retrieval import retriever
from dspex_nb.testing.retriever_suite import LastingRetrieverSuite, RetrieverSuite


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
