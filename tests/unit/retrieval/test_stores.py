"""What stores share beyond the suite: options, errors, persistence, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import uuid

import numpy as np
import pytest

from dspex_nb.errors import FilterError, MissingDependencyError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import KINDS, kind_of, options_of, registry, retriever, table
from dspex_nb.retrieval.kept import KeptIndex
from dspex_nb.retrieval.registry import features_of
from dspex_nb.retrieval.stores.langchain import LangChain
from dspex_nb.retrieval.stores.memory import Memory
from dspex_nb.retrieval.stores.uuids import uuid_of
from dspex_nb.retrieval.tail import TAIL
from dspex_nb.testing.embedding import HashEmbedder


def filled(**options):
    return retriever("memory", index={"a": "bright rings", "b": "red dust"}, embedder=HashEmbedder(), **options)


class TestOptions:
    def test_help_shows_a_stores_own(self):
        assert list(inspect.signature(Memory).parameters) == ["index", "embedder", "k", "text_field", "path"]
        assert {"url", "password", "approximate"} < set(options_of("redis")) if KINDS["redis"].installed else True

    def test_an_unknown_one(self):
        with pytest.raises(RetrieverError, match="'memory' has no option 'pth'") as caught:
            retriever("memory", pth="x")
        assert "did you mean 'path'" in caught.value.hint

    @pytest.mark.parametrize("embedder", [7, object()])
    def test_no_embedder(self, embedder):
        with pytest.raises(RetrieverError, match="expected an embedder, a model's name"):
            retriever("memory", embedder=embedder)

    def test_texts_without_an_embedder_take_the_embedded_model(self):
        found = retriever("memory", index=["the cat sleeps on the sofa", "interest rates rise"])
        assert found.search("a kitten naps", k=1)[0].text == "the cat sleeps on the sofa"

    def test_a_function_embeds(self):
        found = retriever("memory", index=["one", "two"], embedder=lambda texts: [[len(text), 1.0] for text in texts])
        assert len(found.search("x")) == 2

    def test_names_that_are_not_safe(self):
        for name in ("a b", "a;DROP", "", "A", "x" * 60, None):
            with pytest.raises(RetrieverError, match="is not a safe name"):
                retriever("sqlite", table=name)


class TestInstalled:
    def test_each_store_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
        for kind in KINDS.values():
            if kind.extra:
                with pytest.raises(MissingDependencyError) as caught:
                    kind_of(kind.name)
                assert caught.value.hint == f"pip install 'dspex_nb[{kind.extra}]'"
        assert len(table()) == len(KINDS)  # no store's file needs its client to tell what it can do

    def test_each_extra_is_there(self):
        import tomllib
        from pathlib import Path

        project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
        assert {kind.extra for kind in KINDS.values() if kind.extra} <= set(project["optional-dependencies"])

    def test_labels_come_from_the_record(self):
        labels = {row["name"]: row["label"] for row in table()}
        assert labels["memory"] == labels["postgres"] == "live"
        assert labels["pinecone"] == "wire"
        assert set(labels.values()) <= {"live", "wire", "import-only", ""}


class TestScores:
    def test_the_raw_number_travels(self):
        (first,) = filled().search("bright rings", k=1)
        assert first.score == pytest.approx(1.0)
        assert first.raw_score == pytest.approx(1.0)
        assert Passage(**first.as_dict()).raw_score == pickle.loads(pickle.dumps(first)).raw_score == first.raw_score
        assert "raw_score" not in Passage("text").as_dict()

    def test_opposite_vectors(self):
        found = retriever("memory")
        found.add(["one"], vectors=[[2.0, 0.0]])
        assert found.search([-1.0, 0.0])[0].score == 0
        assert found.search([0.0, 3.0])[0].score == 0.5
        assert found.search([0.0, 0.0])[0].score == 0.5


class TestModes:
    def test_words_alone(self):
        with pytest.raises(RetrieverError, match="bm25 retriever has no mode 'dense'"):
            retriever("bm25", index=["a"]).search("a", mode="dense")
        with pytest.raises(RetrieverError, match="keeps no vectors"):
            retriever("bm25").add(["a"], vectors=[[1.0]])
        assert [one.text for one in retriever("bm25", index=["a b", "c"]).batch(["c", "b"])[0]] == ["c"]

    def test_a_vector_has_no_words(self):
        with pytest.raises(RetrieverError, match="no words"):
            filled().search(np.ones(64), mode="hybrid")

    def test_hybrid_is_fused_by_rank(self):
        hits = filled().search("red dust", mode="hybrid")
        assert hits[0].id == "b"
        assert hits[0].score == pytest.approx(2 / 61)

    def test_a_hybrid_counts_its_ways_as_it_is_told(self):
        found = filled()
        only = found.search("red dust", mode={"dense": 1})
        assert [one.id for one in only] == [one.id for one in found.search("red dust")]
        first = found.search(["red dust", "rings"], mode={"dense": 2, "sparse": 1})
        assert {one.id for one in first[:2]} == {"a", "b"}
        assert found.search("red dust", mode={"dense": 3, "sparse": 2})[0].score == pytest.approx(5 / 61)
        assert asyncio.run(found.asearch("red dust", mode={"dense": 3, "sparse": 2}))[0].score == pytest.approx(5 / 61)
        assert found.batch(["red dust"], mode={"sparse": 1})[0][0].score == pytest.approx(1 / 61)
        for bad in ({"dens": 1}, {"dense": -1}, {}, {"dense": 0}):
            with pytest.raises(RetrieverError, match="weight"):
                found.search("red", mode=bad)
        with pytest.raises(RetrieverError, match="has no mode"):
            retriever("bm25", index=["a"]).search("a", mode={"dense": 1, "sparse": 1})

    def test_a_batch_is_a_list(self):
        for bad in ("text", {"a": 1}, 7):
            with pytest.raises(RetrieverError, match="batch takes a list"):
                filled().batch(bad)


def test_a_step_says_the_mode(fresh):
    import dspex_nb as dx
    from dspex_nb.pipelines import read_cell

    found = filled()
    cell = 'query: str\nhits = retriever(planets, k=1, mode="sparse")'
    piped = dx.Pipeline.of(read_cell("p", cell, {"planets": found}))
    (first,) = piped(query="the red one").hits
    assert (first.id, first.raw_score) == ("b", None)  # by words: no vector was compared
    weighed = 'query: str\nhits = retriever(planets, k=1, mode={"dense": 3, "sparse": 1})'
    assert dx.Pipeline.of(read_cell("p", weighed, {"planets": found}))(query="red dust").hits[0].score == pytest.approx(4 / 61)
    both = """query: str
hits = parallel(words=retriever(planets, mode="sparse"), near=retriever(planets), query=query, merge="rrf", weights={"words": 2})"""
    piped = dx.Pipeline.of(read_cell("p", both, {"planets": found}))
    assert piped(query="red dust").hits[0].score == pytest.approx(3 / 61)
    with pytest.raises(dx.DSPexError, match="weights= say how much"):
        read_cell("p", both.replace('merge="rrf"', 'merge="union"'), {"planets": found})
    made = 'query: str\nhits = retriever("memory", index=texts, embedder=embedder, k=1, mode="hybrid")'
    names = {"texts": {"a": "bright rings", "b": "red dust"}, "embedder": HashEmbedder()}
    assert dx.Pipeline.of(read_cell("p", made, names))(query="red").hits[0].id == "b"


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_a_vector_may_be_a_list_of_numpys_scalars(kind):
    found = retriever("memory")
    found.add(["one", "two"], vectors=[[1, 0], [0, 1]])
    assert found.search(list(np.array([0, 1], dtype=kind)), k=1)[0].text == "two"


class TestKeeping:
    def test_without_a_path(self):
        with pytest.raises(RetrieverError, match="in memory only"):
            filled().persist()
        with pytest.raises(RetrieverError, match="in memory only"):
            retriever("bm25").persist()

    @pytest.mark.parametrize("name", ["memory", "sqlite", "faiss", "qdrant", "chroma", "duckdb", "lancedb"])
    def test_where_it_is_kept_is_said_of_the_object(self, name, tmp_path):
        if not KINDS[name].installed:
            pytest.skip(f"pip install 'dspex_nb[{KINDS[name].extra}]'")
        alone = retriever(name, embedder=HashEmbedder())
        assert "in memory" in features_of(KINDS[name], alone)
        assert "in memory" in repr(alone)
        with pytest.raises(RetrieverError, match="in memory only") as told:
            alone.persist()
        assert "path=" in told.value.hint
        lasting = retriever(name, embedder=HashEmbedder(), path=tmp_path / "kept.db")
        assert "in a folder" in features_of(KINDS[name], lasting)
        lasting.persist()
        for one in (alone, lasting):
            one.close()

    def test_what_is_no_index(self, tmp_path):
        (tmp_path / "current").write_text("../elsewhere")
        with pytest.raises(RetrieverError, match="holds no index"):
            retriever("memory", path=tmp_path)

    def test_an_empty_one_and_a_second_save(self, tmp_path):
        retriever("memory", path=tmp_path / "x").persist()
        found = filled(path=tmp_path / "x")
        found.persist()
        found.delete("a")
        found.persist()
        assert len(list((tmp_path / "x").glob("saved-*"))) == 1
        assert retriever("memory", path=tmp_path / "x").count() == 1


class Once(KeptIndex):
    """A library that is built once and forgets nothing."""

    name = "once"
    growing = False
    built = 0

    def _build(self, vectors):
        self.built += 1
        self.matrix = vectors.copy()

    def _ask(self, vectors, k):
        cosines = vectors @ self.matrix.T
        order = np.argsort(-cosines, axis=1)[:, :k]
        return order, np.take_along_axis(cosines, order, axis=1)


class TestBuiltOnce:
    def test_what_was_added_and_deleted_since(self):
        found = Once()
        vectors = np.eye(50, dtype=np.float32)
        found.add([f"t{n}" for n in range(40)], ids=range(40), vectors=vectors[:40])
        assert found.search(vectors[3], k=1)[0].id == "3"
        found.add([f"t{n}" for n in range(40, 50)], ids=range(40, 50), vectors=vectors[40:])
        found.delete([str(n) for n in range(5)])
        assert found.search(vectors[45], k=1)[0].id == "45"
        assert len(found.search(vectors[3], k=45)) == 45
        assert found.built == 1

    def test_half_deleted_is_built_anew(self):
        found = Once()
        vectors = np.random.default_rng(0).standard_normal((2500, 4)).astype(np.float32)
        found.add([f"t{n}" for n in range(2500)], ids=range(2500), vectors=vectors)
        found.search(vectors[0])
        found.delete([str(n) for n in range(2000)])
        assert found.search(vectors[2400], k=1)[0].id == "2400"
        assert (found.built, found._rows.slots) == (2, 500)

    def test_filters_that_differ_in_kind_alone(self):
        found = filled()
        found.add(["x", "y"], [{"n": 0}, {"n": False}], ["x", "y"])
        assert [one.id for one in found.search("x", filter={"n": 0})] == ["x"]
        assert [one.id for one in found.search("x", filter={"n": False})] == ["y"]


class TestServices:
    def test_an_address_that_is_none(self):
        with pytest.raises(RetrieverError, match="no http or https address") as caught:
            retriever("elasticsearch", url="ftp://me:s3cret@host")
        assert "s3cret" not in str(caught.value)

    def test_the_tail_needs_its_package(self):
        missing = next((name for name in TAIL if not KINDS[name].installed), None)
        if missing is None:
            pytest.skip("every vendor's package is installed")
        with pytest.raises(MissingDependencyError) as caught:
            retriever(missing, scale="cosine")
        assert caught.value.hint == f"pip install 'dspex_nb[{missing}]'"


class Document:
    def __init__(self, page_content):
        self.page_content, self.metadata, self.id = page_content, {}, None


class Foreign:
    """Like a vector store of LangChain that nobody here knows; it ignores its filter."""

    def similarity_search_with_score(self, query, k=4, **rest):
        return [(Document("far"), 1.5), (Document("near"), 0.25)][:k]


class TestProgress:
    @pytest.mark.parametrize("made", [lambda: retriever("bm25"), lambda: retriever("memory", embedder=HashEmbedder())])
    def test_adding_says_how_far_it_is(self, made):
        texts = {f"id{n}": f"text {n}" for n in range(1100)}
        found, awaited, seen, threads = made(), made(), [], set()

        def told(event):
            seen.append(event)
            threads.add(threading.current_thread())

        assert found.add(texts, on_progress=told) == list(texts)
        assert asyncio.run(awaited.aadd(texts, on_progress=told)) == list(texts)
        assert [(one.kind, one.done, one.total) for one in seen] == [("progress", n, 1100) for n in (500, 1000, 1100)] * 2
        assert threads == {threading.current_thread()}
        assert found.version == awaited.version == made_whole(made, texts).version
        assert found.add([], on_progress=told) == []
        assert len(seen) == 6

    def test_given_vectors_stay_with_their_texts(self):
        numbers = np.eye(1024, 600, dtype=np.float32)[:600]
        for add in (lambda found, *a, **b: found.add(*a, **b), lambda found, *a, **b: asyncio.run(found.aadd(*a, **b))):
            found = retriever("memory")
            add(found, [f"text {n}" for n in range(600)], vectors=numbers, on_progress=lambda event: None)
            assert found.search(numbers[550], k=1)[0].text == "text 550"

    def test_what_is_in_when_it_breaks_off_stays(self):
        def stop(event):
            raise KeyboardInterrupt

        found = retriever("bm25")
        with pytest.raises(KeyboardInterrupt):
            found.add([f"text {n}" for n in range(900)], on_progress=stop)
        assert found.count() == 500


def made_whole(made, texts):
    found = made()
    found.add(texts)
    return found


class TestBridge:
    def test_the_scale_must_be_said(self):
        with pytest.raises(RetrieverError, match="is not known here"):
            LangChain(store=Foreign())
        hits = LangChain(store=Foreign(), scale="cosine distance").search("x")
        assert [(one.text, one.score, one.raw_score) for one in hits] == [("near", 0.875, 0.25), ("far", 0.25, 1.5)]

    def test_a_vector_is_searched_where_the_store_tells_scores_of_it(self):
        class ByVector(Foreign):
            asked = None

            def similarity_search_with_score_by_vector(self, embedding, k=4, **options):
                assert all(type(one) is float for one in embedding)
                self.asked = (embedding, k)
                return self.similarity_search_with_score("", k)

        store = ByVector()
        found = LangChain(store=store, scale="cosine distance")
        numbers = np.array([1.0, 0.5])
        for vector in (numbers, list(numbers), list(numbers.astype(np.float32)), [1.0, 0.5], (1, np.int64(0))):
            assert found.search(vector, k=2)
            assert store.asked == ([float(one) for one in vector], 2)
        assert found.batch([numbers, "x"], k=2)
        with pytest.raises(RetrieverError, match="Foreign has no search by a vector") as told:
            LangChain(store=Foreign(), scale="cosine distance").search(list(numbers))
        assert told.value.hint

    def test_filters_of_an_unknown_store_are_refused(self):
        found = LangChain(store=Foreign(), scale="cosine distance")
        with pytest.raises(FilterError, match="how Foreign reads filters is not known"):
            found.search("x", filter={"a": 1})
        with pytest.raises(RetrieverError, match="do not say how many"):
            found.count()
        assert found.version != found.version

    def test_a_class_that_cannot_look_up_ids(self):
        class Plain(Foreign):
            def __init__(self):
                self.held = {}

            def add_texts(self, texts, metadatas, ids):
                self.held.update(zip(ids, texts, strict=True))

            def get_by_ids(self, ids):
                raise NotImplementedError

            def delete(self, ids):
                for one in ids:
                    self.held.pop(one, None)

        found = LangChain(store=Plain(), scale="cosine")
        assert str(found.index({"a": "one", "b": "two"})) == "2 new, 0 changed, 0 gone, 0 unchanged; 2 passages written"
        assert found.index({"a": "one", "b": "new"}).changed == 1
        assert found.index({"a": "one"}).gone == 1
        assert found.delete(["a"]) == 1
        assert found._store.held == {}

    def test_a_store_that_takes_no_ids_but_uuids(self):
        class Picky(Foreign):
            def __init__(self):
                self.held = {}

            def add_texts(self, texts, metadatas, ids):
                self.held.update(
                    (str(uuid.UUID(name)), (text, told)) for name, text, told in zip(ids, texts, metadatas, strict=True)
                )

            def similarity_search_with_score(self, query, k=4):
                made = []
                for name, (text, told) in self.held.items():
                    made.append((Document(text), 0.5))
                    made[-1][0].metadata = {**told, "_id": name}
                return made[:k]

            def get_by_ids(self, ids):
                return [one for one, _ in self.similarity_search_with_score("") if one.metadata["_id"] in ids]

            def delete(self, ids):
                for one in ids:
                    del self.held[one]

        own = "12345678-1234-5678-1234-567812345678"
        found = LangChain(store=Picky(), scale="cosine", uuids=True)
        assert found.add(["one", "two"], [{"n": 1}, {}], ["a", own]) == ["a", own]
        assert own in found._store.held
        assert {one.id: one.metadata for one in found.search("x")} == {"a": {"n": 1, "_id": uuid_of("a")}, own: {"_id": own}}
        assert found.delete(["a", own, "zz"]) == 2

    def test_a_store_that_fails(self):
        class Failing(Foreign):
            def add_texts(self, texts, metadatas, ids):
                raise ConnectionError("http://me:s3cret@host")

            get_by_ids = delete = None

        found = LangChain(store=Failing(), scale="cosine")
        for act in (lambda: found.add(["a"]), lambda: found.delete("a")):
            with pytest.raises(RetrieverError, match="Failing failed") as caught:
                act()
            assert "s3cret" not in str(caught.value)

    def test_what_is_no_store(self):
        with pytest.raises(RetrieverError, match="expected a VectorStore"):
            LangChain(store=7)


class Slow(Memory):
    """A store whose awaited searches wait together."""

    concurrent = True
    waiting = most = 0

    async def _anearest(self, vectors, k, where):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(0.01)
        self.waiting -= 1
        return self._nearest(vectors, k, where)


def test_awaited_searches_wait_together():
    found = Slow({"a": "bright rings", "b": "red dust"}, embedder=HashEmbedder())

    async def search():
        return await asyncio.gather(*(found.asearch(one, k=1) for one in ("rings", "dust", ["red", "dust"], "")))

    assert [[one.id for one in hits] for hits in asyncio.run(search())] == [["a"], ["b"], ["b"], []]
    assert found.most == 3  # several texts at once too


class Awaited(HashEmbedder):
    """An embedder as a server's is: awaited, several at once; called, it would block the loop."""

    waiting = most = 0

    def embed(self, texts):
        raise AssertionError("called, not awaited")

    async def aembed(self, texts):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(0.01)
        self.waiting -= 1
        return super().embed(texts)


@pytest.mark.parametrize("kind", [Slow, Memory])
def test_awaited_searches_await_their_embedder(kind):
    embedder = Awaited()
    found = kind(embedder=embedder)

    async def use():
        added = await found.aadd({"a": "bright rings", "b": {"text": "red dust", "n": 2}})
        hits = await asyncio.gather(*(found.asearch("rings", k=1) for _ in range(9)))
        return added, hits, await found.abatch(["dust", "", HashEmbedder().embed(["rings"])[0]], k=1, filter={"n": {"$gt": 1}})

    added, hits, batch = asyncio.run(use())
    assert added == ["a", "b"]
    assert [one.id for (one,) in hits] == ["a"] * 9
    assert embedder.most == 9  # more than the threads that the loop has on a small machine
    assert [[one.id for one in row] for row in batch] == [["b"], [], ["b"]]
    assert batch[0][0].metadata == {"n": 2}


def test_an_async_function_embeds_where_it_can_be_awaited():
    async def embed(texts):
        return HashEmbedder().embed(texts)

    found = Memory(embedder=embed)
    asyncio.run(found.aadd(["bright rings", "red dust"]))
    assert [one.text for one in asyncio.run(found.asearch("dust", k=1))] == ["red dust"]
    with pytest.raises(RetrieverError, match="is async"):
        found.search("dust")


def test_persisting_can_be_awaited(tmp_path):
    found = Memory({"a": "bright rings"}, embedder=HashEmbedder(), path=tmp_path / "kept")
    asyncio.run(found.apersist())
    assert Memory(path=tmp_path / "kept").count() == 1


def test_a_stores_own_error_is_told_without_secrets():
    class Broken(Memory):
        def _open(self, *, api_key=None):
            raise ConnectionError(f"cannot log in with {api_key} at http://host")

    with pytest.raises(RetrieverError) as caught:
        Broken(api_key="s3cret-Elephant")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
