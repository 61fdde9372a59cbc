"""sentence-transformers for real, on tiny models that the test makes: torch is too heavy for the usual tests."""

from __future__ import annotations

import numpy as np
import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import rerank
from dspex_nb.retrieval.cross_encoders import loaded
from dspex_nb.retrieval.embedders import backend_of, embedder_of
from dspex_nb.retrieval.embedding import Embedder

pytestmark = pytest.mark.services
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "loops",
    "repeat",
    "code",
    "classes",
    "group",
    "data",
    "cats",
    "sleep",
    "all",
    "day",
]
TEXTS = ["loops repeat code", "classes group data", "cats sleep all day"]


def tiny(folder, cls, **options):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **options
    )
    getattr(transformers, cls)(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_embedding(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    tiny(tmp_path, "BertModel")
    embedder = Embedder(backend_of(str(tmp_path)))
    found = embedder.embed(TEXTS)
    assert found.shape == (3, 32) == (3, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    own = library.SentenceTransformer(str(tmp_path))
    np.testing.assert_allclose(found, own.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_allclose(embedder_of(own).embed(TEXTS), found, atol=1e-6)
    assert embedder.backend.token_vectors(TEXTS[0]).shape == (5, 32)
    assert rerank(TEXTS, TEXTS[1], "late_interaction", encoder=embedder)[0].text == TEXTS[1]
    with pytest.raises(RetrieverError, match="cannot load"):
        backend_of(str(tmp_path / "nothing-here"))


def test_a_cross_encoder(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    tiny(tmp_path, "BertForSequenceClassification", num_labels=1)
    hits = [Passage(text, str(at)) for at, text in enumerate(TEXTS)]
    found = rerank(hits, "cats code", "cross-encoder", model=str(tmp_path))
    scores = library.CrossEncoder(str(tmp_path)).predict([("cats code", text) for text in TEXTS])
    assert [one.id for one in found] == [str(at) for at in np.argsort(-scores)]
    assert all(0 <= one.score <= 1 for one in found)
    assert rerank(hits, "cats code", "cross-encoder", model=library.CrossEncoder(str(tmp_path))) == found
    loaded.cache_clear()
