from __future__ import annotations

import json

import pytest

import dspex_nb as dx
from dspex_nb.cache import Cache
from dspex_nb.errors import LMAuthError, LMInvalidResponseError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import embedding_local, rerank
from dspex_nb.retrieval.asking import Asker
from dspex_nb.retrieval.cross_encoders import loaded
from dspex_nb.testing import ScriptedLM

from .conftest import KEY

HITS = [Passage("loops repeat code", "a"), Passage("classes group data", "b"), Passage("cats sleep all day", "c")]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "loops", "repeat", "code", "classes", "group", "data", "cats", "sleep", "all", "day"]


def ids(passages):
    return [one.id for one in passages]


def make_cross_encoder(folder, outputs=1):
    """An ONNX cross-encoder that counts the words which query and passage share: it must see both, each as what it is."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    size = len(WORDS)
    constants = {
        "depth": np.array(size, np.int64), "zero_one": np.array([0, 1], np.float32), "last": np.array([-1], np.int64),
        "tokens": np.array([1], np.int64), "words": np.array([1], np.int64), "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32), "real": np.array([[at > 3 for at in range(size)]], np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("OneHot", ["input_ids", "depth", "zero_one"], ["hot"], axis=-1),
        helper.make_node("Cast", ["token_type_ids"], ["type"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["type", "mask"], ["second"]),
        helper.make_node("Sub", ["mask", "second"], ["first"]),
        *(helper.make_node("Unsqueeze", [side, "last"], [f"{side}3"]) for side in ("first", "second")),
        *(helper.make_node("Mul", ["hot", f"{side}3"], [f"{side}_hot"]) for side in ("first", "second")),
        *(helper.make_node("ReduceSum", [f"{side}_hot", "tokens"], [f"{side}_bag"], keepdims=0) for side in ("first", "second")),
        helper.make_node("Mul", ["first_bag", "second_bag"], ["shared"]),
        helper.make_node("Mul", ["shared", "real"], ["shared_words"]),
        helper.make_node("ReduceSum", ["shared_words", "words"], ["count"], keepdims=1),
        helper.make_node("Sub", ["count", "half"], ["yes"]),
        helper.make_node("Neg", ["yes"], ["no"]),
    ]
    given = ["yes"] if outputs == 1 else ["no", "yes"] if outputs == 2 else ["no", "yes", "yes"]
    nodes.append(helper.make_node("Concat", given, ["logits"], axis=1))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    graph = helper.make_graph(
        nodes, "tiny", inputs, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(folder / "model.onnx"))
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    return tmp_path


def test_an_onnx_cross_encoder_reads_both_texts(folder):
    model = make_cross_encoder(folder)
    found = rerank(HITS, "group data", "cross-encoder", model=model)
    assert ids(found)[0] == "b"
    assert found[0].score == pytest.approx(0.8176, abs=1e-3)  # the sigmoid of 2 - 0.5
    assert found[1].score == found[2].score == pytest.approx(0.3775, abs=1e-3)
    assert ids(rerank(HITS, "cats sleep", f"cross-encoder/{model}", k=1)) == ["c"]
    assert ids(rerank(HITS, ["cats sleep all", "repeat"], "cross-encoder", model=model, batch_size=2))[:2] == ["c", "a"]
    assert loaded(model, 512, 16) is loaded(model, 512, 16)
    long = [Passage("loops " + "data " * 2000, "long"), *HITS]
    assert ids(rerank(long, "loops", "cross-encoder", model=model, max_tokens=8))[0] in {"a", "long"}


def test_two_logits_and_three(folder):
    assert rerank(HITS, "loops", "cross-encoder", model=make_cross_encoder(folder, 2))[0].score == pytest.approx(0.7311, abs=1e-3)
    loaded.cache_clear()
    with pytest.raises(RetrieverError, match="3 numbers a pair"):
        rerank(HITS, "loops", "cross-encoder", model=make_cross_encoder(folder, 3))
    loaded.cache_clear()


def test_models_that_cannot_be_loaded(folder):
    with pytest.raises(RetrieverError, match="there is no folder"):
        rerank(HITS, "loops", "cross-encoder", model=f"{folder}-not")
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(RetrieverError, match=r"holds no tokenizer.json"):
        rerank(HITS, "loops", "cross-encoder", model=str(folder))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(RetrieverError, match="cannot be loaded"):
        rerank(HITS, "loops", "cross-encoder", model=str(folder))


def test_without_sentence_transformers_the_command_is_told(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(dx.errors.MissingDependencyError, match=r"pip install 'dspex_nb\[sentence-transformers\]'"):
        rerank(HITS, "loops", "cross-encoder/ms-marco-MiniLM-L6-v2")


def test_a_model_of_ones_own():
    class Lengths:
        def score(self, query, texts):
            return [1 / len(text) for text in texts]

    assert ids(rerank(HITS, "q", "cross-encoder", model=Lengths()))[0] == "a"

    class Predicts:
        def predict(self, pairs, show_progress_bar):
            return [len(text) * 1.0 for _, text in pairs]

    assert ids(rerank(HITS, "q", "cross-encoder", model=Predicts()))[0] == "b"

    class Wrong:
        def score(self, query, texts):
            return [1.0]

    with pytest.raises(RetrieverError, match="1 numbers for 3 passages"):
        rerank(HITS, "q", "cross-encoder", model=Wrong())


# A rerank service


def test_a_service_of_ones_own(server):
    asker = Asker(cache=Cache())
    seen = []
    asker.scope.bus.subscribe(seen.append)
    options = {"api_base": f"{server.url}/v1", "api_key": KEY}
    found = rerank(HITS, "cats sleep", "rerank-1", k=2, asker=asker, **options)
    assert [(one.id, one.score) for one in found] == [("c", 1.0), ("a", 0.0)]
    assert server.last == {"model": "rerank-1", "query": "cats sleep", "documents": [one.text for one in HITS], "top_n": 2}
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"
    assert rerank(HITS, "cats sleep", "rerank-1", k=2, asker=asker, **options) == found
    assert len(server.requests) == 1
    assert [event.cached for event in seen] == [None, "memory"]


def test_litellms_rerank_api(server):
    """LiteLLM's own code speaks to the server, as it would to Jina's."""
    found = rerank(HITS, "group data", "jina_ai/jina-reranker-v2", k=1, api_base=f"{server.url}/v1/rerank", api_key=KEY)
    assert [(one.id, one.score) for one in found] == [("b", 1.0)]
    assert server.last["query"] == "group data"
    assert server.last["top_n"] == 1
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"


def test_what_a_service_may_answer(server):
    options = {"api_base": f"{server.url}/v1", "api_key": KEY, "num_retries": 1}
    server.failures = [503]
    assert rerank(HITS, "loops", "r", **options)[0].id == "a"
    server.failures = [401]
    with pytest.raises(LMAuthError) as refused:
        rerank(HITS, "loops", "r", **options)
    assert KEY not in str(refused.value)
    for broken in ({"results": [{"index": 7, "relevance_score": 1}]}, {"results": [{"index": 0}]}, {"data": []}):
        server.broken = broken
        with pytest.raises(LMInvalidResponseError, match="ranked documents"):
            rerank(HITS, "loops", "r", **options)


# A language model, listwise


def test_a_model_says_the_order():
    lm = ScriptedLM(["[3] > [1] > [1] > [9]"])
    found = rerank(HITS, "what sleeps?", "listwise", asker=Asker(lm))
    assert [(one.id, round(one.score, 2)) for one in found] == [("c", 1.0), ("a", 0.67), ("b", 0.33)]
    asked = lm.requests[0].messages
    assert "never an instruction" in asked[0]["content"]
    assert "[2] classes group data" in asked[1]["content"]
    lm = ScriptedLM([json.dumps({"order": [2, 3, 1]})])
    assert ids(rerank(HITS, "q", "listwise", k=2, lm=lm)) == ["b", "c"]
    with pytest.raises(RetrieverError, match="named none of the 3"):
        rerank(HITS, "q", "listwise", lm=ScriptedLM(["I cannot say."]))


def test_many_passages_go_through_a_window():
    hits = [Passage(f"text {number}", str(number)) for number in range(7)]

    class Sorts:
        """Puts the highest number first in what it is shown."""

        capabilities, calls = None, 0

        def complete(self, request, *, scope, cache=None, ttl_s=None):
            self.calls += 1
            shown = [line for line in request.messages[1]["content"].split("\n") if line.startswith("[") and "] text" in line]
            order = sorted(shown, key=lambda line: -int(line.rsplit(" ", 1)[1]))
            return dx.Response((dx_output(" > ".join(line.split(" ")[0] for line in order)),))

    lm = Sorts()
    found = rerank(hits, "q", "listwise", asker=Asker(lm), window=4)
    assert ids(found)[:2] == ["6", "5"]
    assert lm.calls == 3
    assert sorted(ids(found)) == [str(number) for number in range(7)]


def dx_output(text):
    from dspex_nb.messages import Output

    return Output(text)


# Orders without a model


def test_fusion_of_methods():
    hits = [Passage("alpha beta", "1"), Passage("beta", "2"), Passage("gamma beta beta", "3")]
    found = rerank(hits, "beta", "rrf", methods=["given", "bm25"])
    assert sorted(ids(found)) == ["1", "2", "3"]
    assert ids(found)[0] == ids(rerank(hits, "beta", "bm25"))[0] or ids(found)[0] == "1"
    assert found[0].score == pytest.approx(max(one.score for one in found))
    reversed_ = rerank(hits, "beta", "rrf", methods=[lambda query, passages: passages[::-1]])
    assert ids(reversed_) == ["3", "2", "1"]


def vectors(texts):
    return [[text.count("a") + 0.01, text.count("e") + 0.01, text.count("o") + 0.01] for text in texts]


def test_by_vectors():
    hits = [Passage("aaa", "a"), Passage("aab aa", "a2"), Passage("ooo", "o"), Passage("eee", "e")]
    assert ids(rerank(hits, "e", "dense", embedder=vectors))[0] == "e"
    diverse = rerank(hits, "a o", "mmr", embedder=vectors, lambda_mult=0.5, k=3)
    assert set(ids(diverse)[:2]) & {"o"}
    assert ids(rerank(hits, "aaaa", "mmr", embedder=vectors, lambda_mult=1, k=2)) == ["a2", "a"]


# In a pipeline, and by hand


def test_as_a_step_and_as_a_call(server):
    index = dx.retriever("bm25", index=HITS)
    pipe = dx.Pipeline(
        "p",
        hits=dx.retriever(index, query=dx.field("query")),
        best=dx.rerank(dx.field("hits"), query=dx.field("query"), method="rerank-x/y", api_base=f"{server.url}/v1", k=1),
    )
    assert ids(pipe(query="data loops group").best) == ["b"]
    lm = ScriptedLM(["[2] > [1]"])
    with dx.context(lm=lm, cache=Cache()):
        listed = dx.Pipeline(
            "q", hits=dx.retriever(index, query=dx.field("query")),
            best=dx.rerank(dx.field("hits"), query=dx.field("query"), method="listwise"),
        )  # fmt: skip
        run = listed.run(query="data loops")
        assert len(run.result().best) == 2
        assert run.usage.calls == 1
    assert ids(dx.rerank(HITS, query="cats", method="bm25", k=1)) == ["c"]
    with dx.context(lm=ScriptedLM(["[3] > [2] > [1]"])):
        assert ids(dx.rerank(HITS, query="x", method="listwise"))[0] == "c"
    with dx.context(cache=Cache()):
        asking = dx.rerank(dx.field("hits"), query=dx.field("query"), method="listwise", cache=True)
        again = dx.Pipeline("again", hits=dx.retriever(index, query=dx.field("query")), best=asking)
        for order, first in (("[2] > [1]", 1), ("[1] > [2]", 0)):  # another model may order otherwise: its answer counts
            with dx.context(lm=ScriptedLM([order]), cache=Cache()):
                found = again(query="data loops")
                assert found.best[0].id == found.fields["hits"][first].id
    with pytest.raises(dx.DSPexError, match="no such method"):
        dx.Pipeline("r", hits=index, best=dx.rerank(dx.field("hits"), query=dx.field("query"), method="mrm"))


@pytest.mark.skipif(not embedding_local.available(), reason=f"not installed: {embedding_local._INSTALL}")
@pytest.mark.model
def test_the_embedded_model_finds_what_words_do_not_share():
    hits = [
        Passage("The feline slept", "cat"),
        Passage("The bank raised rates", "bank"),
        Passage("A cat is an invoice word", "trap"),
    ]
    assert ids(rerank(hits, "a kitten takes a nap", "dense"))[0] == "cat"
    assert rerank(hits, "a kitten takes a nap", "late_interaction")[0].score <= 1
