"""The shipped suite over each store that needs no server: three in every run, the rest by hand or in `make test-services`."""

from __future__ import annotations

import pytest

from dspex_nb.errors import FilterError, RetrieverError
from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import AnyRetrieverSuite
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
    "cozo": "file",
    "zvec": "folder",
    "qdrant-edge": "folder",
    "surrealdb": "folder",
    "ladybug": "file",
    **dict.fromkeys(("hnswlib", "usearch", "annoy", "voyager", "ngt", "nmslib", "scann", "sklearn", "pynndescent"), "folder"),
}

LOCKED = ("milvus", "turso")  # libraries that hold a file's lock until their process ends, closed or not


class Embedded:
    """Makes an index in a new place of the test's folder each time, and closes all at its end."""

    store = row = ""
    place: str | None = "folder"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, record_property):
        if not KINDS[self.store].installed:
            pytest.skip(f"pip install 'dspex_nb[{KINDS[self.store].extra}]'")
        record_property("row", self.row or self.store)
        record_property("kind", self.store)
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

    def known_as(self, found):
        if self.store in LOCKED:
            return None
        return self.store, next(config for one, config in self.made if one is found)

    def _opened(self, config, index=None):
        self.made.append((retriever(self.store, index=index, embedder=HashEmbedder(), **config), config))
        return self.made[-1][0]


@pytest.mark.services
class TestLangchain(AnyRetrieverSuite):
    """LangChain's own store in memory; it embeds by itself."""

    store = "langchain"

    @pytest.fixture(autouse=True)
    def _package(self, record_property):
        pytest.importorskip("langchain_core")
        record_property("row", "langchain, InMemoryVectorStore")
        record_property("kind", "langchain")

    def make_retriever(self, index=None):
        from langchain_core.embeddings import Embeddings
        from langchain_core.vectorstores import InMemoryVectorStore

        class Hashed(Embeddings):
            def embed_documents(self, texts):
                return (HashEmbedder().embed(texts) + 1e-6).tolist()  # it refuses vectors of zeros

            def embed_query(self, text):
                return self.embed_documents([text])[0]

        return retriever("langchain", index=index, store=InMemoryVectorStore(Hashed()))

    def test_a_vector_of_numpys_numbers_is_searched(self):
        found = self.make_retriever({"a": "bright rings", "b": "red dust"})
        (vector,) = HashEmbedder().embed(["red dust"]) + 1e-6
        for asked in (vector, list(vector), vector.tolist()):
            assert [one.id for one in found.search(asked, k=1)] == ["b"]


def hashed():
    """Embeddings of LangChain's kind."""
    from langchain_core.embeddings import Embeddings

    class Hashed(Embeddings):
        def embed_documents(self, texts):
            return HashEmbedder().embed(texts).tolist()

        def embed_query(self, text):
            return self.embed_documents([text])[0]

    return Hashed()


@pytest.mark.services
def test_langchains_chroma_keeps_the_filters_it_is_given(tmp_path):
    pytest.importorskip("langchain_chroma")
    from langchain_chroma import Chroma

    store = Chroma("planets", hashed(), persist_directory=str(tmp_path))
    found = retriever("langchain", store=store, scale="squared distance")
    found.add(["red dust", "bright rings", "grey dust"], [{"kind": "rock"}, {"kind": "gas"}, {"other": "x"}], ["a", "b", "c"])
    found.add(["blue ice"], [{"kind": ["ice", "rock salt"]}], ["d"])
    for given, wanted in (
        ({"kind": "ice"}, {"d"}),
        ({"kind": {"$in": ["ice", "gas"]}}, {"b", "d"}),
        ({"kind": "ic"}, set()),
        ({"kind": "rock"}, {"a"}),
        ({"kind": {"$in": ["rock", "gas"]}}, {"a", "b"}),
        ({"$or": [{"kind": "gas"}, {"other": "x"}]}, {"b", "c"}),
        ({"$and": [{"kind": "gas"}, {"kind": {"$in": ["gas"]}}]}, {"b"}),
    ):
        assert {one.id for one in found.search("dust", filter=given)} == wanted
    for refused in ({"kind": {"$ne": "rock"}}, {"kind": {"$exists": True}}, {"n": 1}, {"kind": {"$in": []}}):
        with pytest.raises(FilterError):
            found.search("dust", filter=refused)
    assert found.search("bright rings", k=1)[0].score == pytest.approx(1.0, abs=1e-4)
    assert found.delete(["a", "zz"]) == 1


@pytest.mark.services
def test_qdrant_through_langchain_keeps_our_ids():
    pytest.importorskip("langchain_qdrant")
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, VectorParams

    client = QdrantClient(":memory:")
    client.create_collection("planets", vectors_config=VectorParams(size=64, distance=Distance.COSINE))
    found = retriever(
        "langchain", store=QdrantVectorStore(client=client, collection_name="planets", embedding=hashed()), scale="cosine"
    )
    found.add(["red dust", "bright rings"], [{"n": 1}, {}], ["a", "b"])
    (own,) = found.add(["blue ice"])
    assert [(one.id, one.metadata) for one in found.search("red dust", k=1)] == [("a", {"n": 1})]
    assert [one.id for one in found.search("blue ice", k=1)] == [own]
    found.add(["red sand"], ids=["a"])
    assert found.delete(["a", "b", "zz"]) == 2
    assert [one.text for one in found.search("red sand", k=5)] == ["blue ice"]
    client.close()


@pytest.mark.services
def test_llamaindexs_other_stores():
    chroma = pytest.importorskip("llama_index.vector_stores.chroma")
    qdrant = pytest.importorskip("llama_index.vector_stores.qdrant")
    import chromadb
    from qdrant_client import QdrantClient

    texts = {"a": "red dust", "b": "red rings", "c": "bright rings"}
    right = retriever("memory", index=texts, embedder=HashEmbedder()).search("red dust", k=3)
    for scale, space in (("exp of cosine distance", "cosine"), ("exp of squared distance", "l2")):
        held = chromadb.EphemeralClient().create_collection(f"planets-{space}", metadata={"hnsw:space": space})
        found = retriever("llamaindex", index=texts, store=chroma.ChromaVectorStore(held), embedder=HashEmbedder(), scale=scale)
        hits = found.search("red dust", k=3)
        assert [(one.id, pytest.approx(one.score, abs=1e-4)) for one in hits] == [(one.id, one.score) for one in right]
    with pytest.raises(RetrieverError, match="similarities of ChromaVectorStore mean is not known"):
        retriever("llamaindex", store=chroma.ChromaVectorStore(held), embedder=HashEmbedder())
    client = QdrantClient(":memory:")
    found = retriever(
        "llamaindex", index=texts, store=qdrant.QdrantVectorStore("planets", client=client), embedder=HashEmbedder()
    )
    assert [one.id for one in found.search("red dust", k=3)] == [one.id for one in right]
    found.add(["blue ice"], ids=["a"])
    assert (found.delete(["b", "zz"]), found.count(), found.search("blue ice", k=9)[0].id) == (1, 2, "a")
    client.close()


class TestLlamaindex(Embedded, VectorRetrieverSuite):
    """LlamaIndex's own store in memory."""

    store = "llamaindex"
    row = "llamaindex, SimpleVectorStore"

    def make_retriever(self, index=None):
        from llama_index.core.vector_stores import SimpleVectorStore

        return self._opened({"store": SimpleVectorStore()}, index)


TestLlamaindex = pytest.mark.services(TestLlamaindex)

for store, place in {**CHEAP, **HEAVY}.items():
    made = type(
        f"Test{store.title().replace('-', '')}",
        (Embedded, LastingVectorSuite if place else VectorRetrieverSuite),
        {"store": store, "place": place},
    )
    globals()[made.__name__] = made if store in CHEAP else pytest.mark.services(made)
del made
