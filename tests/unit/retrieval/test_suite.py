"""The shipped suite over each of our indexes."""

from __future__ import annotations

import pytest

from dspex_nb.retrieval import retriever
from dspex_nb.testing.retriever_suite import LastingRetrieverSuite, RetrieverSuite


class TestBM25(RetrieverSuite):
    def make_retriever(self, index=None):
        return retriever("bm25", index=index)


class TestTrigram(RetrieverSuite):
    def make_retriever(self, index=None):
        return retriever("trigram", index=index)


class TestPostgres(LastingRetrieverSuite):
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
