from __future__ import annotations

import pickle

import pytest

import dspex_nb as dx
from dspex_nb.errors import DataError
from dspex_nb.retrieval.indexing import index
from dspex_nb.retrieval.loading import load_documents


class Counting:
    """A retriever that counts what is written to it, over a real BM25 index."""

    def __init__(self):
        self.inner, self.added, self.name = dx.retriever("bm25"), [], "counting"

    def add(self, texts, metadatas=None, ids=None):
        self.added.extend(one.text for one in texts)
        return self.inner.add(texts, metadatas, ids)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nThe word of {name} is {name * 2}.")
    return tmp_path


def counts(done):
    return done.new, done.changed, done.gone, done.unchanged


def test_only_what_changed_is_written(folder):
    store = Counting()
    seen = []
    assert counts(index(store, load_documents(folder), on_progress=lambda event: seen.append(event.done))) == (3, 0, 0, 0)
    assert seen == [3]
    assert counts(index(store, load_documents(folder))) == (0, 0, 0, 3)
    assert len(store.added) == 3
    (folder / "two.md").write_text("# two\n\nNow it says zebra.")
    (folder / "one.md").unlink()
    (folder / "four.md").write_text("new words")
    done = index(store, load_documents(folder))
    assert counts(done) == (1, 1, 1, 1)
    assert str(done) == "1 new, 1 changed, 1 gone, 1 unchanged; 2 passages written"
    assert store.added[3:] == ["new words", "# two\n\nNow it says zebra."]
    assert store.count() == 3
    assert store.search("zebra", k=1)[0].source.endswith("two.md")
    assert not store.search("twotwo oneone")
    assert store.search("threethree")


def test_what_was_added_by_hand_stays(folder):
    store = dx.retriever("bm25", index=["kept by hand"])
    store.index(load_documents(folder))
    store.index([])
    assert [one.text for one in store.search("kept")] == ["kept by hand"]
    assert store.count() == 1
    store.index(load_documents(folder))
    assert counts(store.index(load_documents(folder / "one.md"), remove=False)) == (0, 0, 0, 1)
    assert store.count() == 4


def test_the_retriever_remembers_across_a_pickle(folder):
    store = dx.retriever("bm25")
    store.index(load_documents(folder))
    again = pickle.loads(pickle.dumps(store))
    assert counts(again.index(load_documents(folder))) == (0, 0, 0, 3)


def test_a_manifest_outlives_the_kernel(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "deep" / "manifest.json"
    store = Counting()
    index(store, load_documents(folder), manifest=path)
    del store.inner.__dict__["k"]
    store.inner.k = 5
    assert counts(index(store, load_documents(folder), manifest=path)) == (0, 0, 0, 3)
    # A store that lost its content is filled again, whatever the manifest says.
    assert counts(index(dx.retriever("bm25"), load_documents(folder), manifest=path)) == (3, 0, 0, 0)
    path.write_text("{}")
    with pytest.raises(DataError, match="no manifest"):
        index(store, load_documents(folder), manifest=path)


def test_an_interrupt_keeps_what_was_written(folder):
    class Fails(Counting):
        def add(self, texts, metadatas=None, ids=None):
            if len(self.added) >= 500:
                raise KeyboardInterrupt
            return super().add(texts, metadatas, ids)

    store = Fails()
    texts = {f"d{number}": f"text {number}" for number in range(900)}
    with pytest.raises(KeyboardInterrupt):
        index(store, texts)
    store.added.clear()
    assert counts(index(store, texts)) == (400, 0, 0, 500)
    assert store.count() == 900


def test_rows_keep_their_identity(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("text\none\ntwo\n")
    store = Counting()
    index(store, load_documents(table))
    table.write_text("text\ntwo\nthree\n")
    done = index(store, load_documents(table))
    assert counts(done)[0] == 1
    assert counts(done)[2] == 1
