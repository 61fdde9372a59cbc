"""What is special to the indexes in memory."""

from __future__ import annotations

import math
import pickle
import random
import time

import numpy as np
import pytest

from dspex_nb.datasets import python_topics
from dspex_nb.errors import MissingDependencyError, RetrieverError
from dspex_nb.retrieval import kind_of, registry, retriever


def texts(many, seed=0):
    rng = random.Random(seed)
    vocabulary = [f"word{int(rng.paretovariate(0.6))}" for _ in range(5000)]
    return {f"d{at}": " ".join(rng.choices(vocabulary, k=30)) for at in range(many)}


def test_bm25_is_okapis_formula():
    found = retriever("bm25", index={"a": "x y y", "b": "x z", "c": "z z z z"}, k1=1.2, b=0.5).search("y x x", k=3)
    average = (3 + 2 + 4) / 3

    def part(times, df, tf, length):
        rarity = math.log(1 + (3 - df + 0.5) / (df + 0.5))
        return times * rarity * tf * 2.2 / (tf + 1.2 * (0.5 + 0.5 * length / average))

    assert [one.id for one in found] == ["a", "b"]
    assert [one.score for one in found] == pytest.approx([part(1, 1, 2, 3) + part(2, 2, 1, 3), part(2, 2, 1, 2)])


def test_bm25_after_changes_is_as_built_anew():
    content = texts(3000)
    changed = retriever("bm25", index={**texts(3000, seed=1), "gone": "word1 word2"})
    changed.add({name: text for name, text in content.items() if int(name[1:]) % 2})
    changed.add(content)
    changed.delete("gone")
    fresh = retriever("bm25", index=dict(reversed(content.items())))
    assert changed.version == fresh.version
    for query in ("word1 word3", "word2", "word70 word9 word1"):
        assert changed.search(query, k=50) == fresh.search(query, k=50)


def test_trigram_finds_word_forms_and_typos():
    found = retriever(
        "trigram", index={"a": "The connection was closed.", "b": "A colour of the rainbow.", "c": "Nothing of this."}
    )
    for query, wanted in {"connecting": "a", "conection closd": "a", "coloured rainbows": "b"}.items():
        first = found.search(query, k=1)[0]
        assert first.id == wanted
        assert 0 < first.score <= 1


@pytest.mark.parametrize("count", [1, 127, 128, 4096, 6000])
def test_memory_finds_the_nearest_of_all(count):
    vectors = np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = retriever("memory")
    index.add([str(at) for at in range(count)], ids=range(count), vectors=vectors)
    for k in (1, 7, 40):
        expected = sorted(range(count), key=lambda at: -float(vectors[at] @ vectors[0]))[:k]
        assert [int(one.id) for one in index.search(vectors[0], k=k)] == expected


def test_settings_are_part_of_the_version():
    versions = {
        retriever(name, index=["a"], **options).version
        for name, options in (("bm25", {}), ("bm25", {"k1": 1.0}), ("trigram", {}))
    }
    assert len(versions) == 3
    assert retriever("bm25", index=["a"], k=3).version == retriever("bm25", index=["a"], k=4).version


def test_own_k():
    assert len(retriever("bm25", index=[f"same {n}" for n in range(9)], k=3).search("same")) == 3


@pytest.mark.parametrize("name", ["bm25", "trigram"])
def test_it_crosses_processes(name):
    found = retriever(name, index=texts(50), k=4)
    again = pickle.loads(pickle.dumps(found))
    assert again.version == found.version
    assert again.search("word1 word2") == found.search("word1 word2")
    again.add(["new"], ids=["new"])
    assert found.count() == 50


@pytest.mark.parametrize(("name", "index_s", "search_s"), [("bm25", 4, 0.02), ("trigram", 8, 0.04)])
def test_ten_thousand_passages(name, index_s, search_s):
    content = texts(10_000)
    begun = time.process_time()
    found = retriever(name, index=content)
    assert time.process_time() - begun < index_s
    found.search("word1")
    begun = time.process_time()
    for number in range(20):
        assert len(found.search(f"word1 word2 word3 word{number} word{number * 7}", k=20)) == 20
    assert (time.process_time() - begun) / 20 < search_s


def test_python_topics():
    passages = python_topics()
    assert len(passages) > 500
    assert len({one.id for one in passages}) == len({one.text for one in passages}) == len(passages)
    assert all(one.title and one.source and one.text.strip() and one.id.startswith(f"{one.title}#") for one in passages)
    index = retriever("bm25", index=passages)
    assert index.count() == len(passages)
    assert {"break", "for", "while", "compound"} & {
        one.title for one in index.search("break statement skips the else clause of a loop")
    }


class TestNames:
    @pytest.mark.parametrize(
        ("name", "hint"), [("bm52", "did you mean 'bm25'"), ("postgress", "did you mean 'postgres'"), (7, "there are")]
    )
    def test_what_there_is_not(self, name, hint):
        with pytest.raises(RetrieverError, match="there is no retriever") as caught:
            retriever(name)
        assert hint in caught.value.hint

    def test_options(self):
        with pytest.raises(RetrieverError, match="'bm25' has no option 'indx'") as caught:
            retriever("bm25", indx=["a"])
        assert "did you mean 'index'" in caught.value.hint
        for bad in ({"k1": -1}, {"b": 2}, {"k": -1}, {"k": "5"}):
            with pytest.raises(RetrieverError):
                retriever("bm25", **bad)

    def test_a_package_that_is_missing(self, monkeypatch):
        monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError) as caught:
            retriever("postgres", dsn="")
        assert caught.value.hint == "pip install 'dspex_nb[postgres]'"
        assert not registry.KINDS["postgres"].installed
        assert kind_of("bm25").installed

    def test_the_facade(self):
        import dspex_nb as dx
        from dspex_nb.pipelines.drafts import StepDraft

        frame = dx.retrievers()
        assert list(frame.columns) == ["name", "extra", "features", "installed", "label"]
        assert list(frame["name"])[:7] == ["bm25", "trigram", "postgres", "colbertv2", "late-interaction", "memory", "sqlite"]
        found = dx.retriever("bm25", index=["how to loop"], k=1)
        assert [str(one) for one in found.search("loop")] == ["how to loop"]
        assert isinstance(found.search("loop")[0], dx.Passage)
        assert repr(found) == "<bm25 retriever, 1 passages in memory>"
        assert not isinstance(found, StepDraft)
