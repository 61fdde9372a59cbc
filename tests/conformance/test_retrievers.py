"""The shipped suite over each store that needs no server: three in every run, the rest by hand or in `make test-services`."""

from __future__ import annotations


import pytest

from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.vector_suite import LastingVectorSuite, VectorRetrieverSuite

CHEAP = {"memory": "folder", "sqlite": "file"}
# What path= is: a folder of the index's own, a file, or None where it has none.
HEAVY = {
    "faiss": "folder",
    "sqlite-vec": "file",
    "chroma": "folder",
    "qdrant": "folder",
    "milvus": "file",
    "lancedb": "folder",
    "duckdb": "file",
    "libsql": "file",
    "turso": "file",
}


class Embedded:
    """Makes an index in a new place of the test's folder each time, and closes all at its end."""

    store = ""
    place: str | None = "folder"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, record_property):
        if not KINDS[self.store].installed:
            pytest.skip(f"pip install 'dspex_nb[{KINDS[self.store].extra}]'")
        self.folder, self.made, self.record = tmp_path, [], record_property
        yield
        for one, _ in self.made:
            one.close()

    def make_retriever(self, index=None):
        path = self.folder / f"place{len(self.made)}{'.db' if self.place == 'file' else ''}"
        return self._opened({"path": path} if self.place else {}, index)

    def open_again(self, found):
        config = next(config for one, config in self.made if one is found)
        found.close()
        return self._opened(config)

    def _opened(self, config, index=None):
        self.made.append((retriever(self.store, index=index, embedder=HashEmbedder(), **config), config))
        return self.made[-1][0]


for store, place in {**CHEAP, **HEAVY}.items():
    made = type(
        f"Test{store.title().replace('-', '')}",
        (Embedded, LastingVectorSuite if place else VectorRetrieverSuite),
        {"store": store, "place": place},
    )
    globals()[made.__name__] = made if store in CHEAP else pytest.mark.services(made)
del made
