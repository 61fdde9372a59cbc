"""Cross-encoders: models that read a query and a passage together and say how well they fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from dspex_nb.errors import MissingDependencyError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Query
from dspex_nb.retrieval.embedders import PATHS, there

PREFIX = "cross-encoder/"
_MODELS = ("model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx")
_BATCH = 16


class CrossEncoder(Protocol):
    """Scores pairs of a query and a text."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one number a text, from 0 to 1; higher fits better."""
        ...


def by_cross_encoder(
    passages: list[Passage], query: Query, k: int, *, model: Any = None, max_tokens: int = 512, batch_size: int = _BATCH
) -> list[Passage]:
    """Return the passages by a cross-encoder's score; of several wordings of the query the best counts.

    Args:
        passages: The passages.
        query: What they are to answer.
        k: At most so many.
        model: A folder that holds `model.onnx` and `tokenizer.json`, a model's name at the hub (by sentence-transformers), or an
            object with `score(query, texts)` or with sentence-transformers' `predict(pairs)`.
        max_tokens: Tokens of query and passage together; a longer passage is cut.
        batch_size: Pairs at once.

    Raises:
        RetrieverError: No model, or one that cannot be loaded or does not fit.
        MissingDependencyError: What runs it is not installed.
    """
    if model is None:
        raise RetrieverError(
            "no cross-encoder is named", hint='write e.g. method="cross-encoder/ms-marco-MiniLM-L6-v2", or model=a folder'
        )
    encoder = _given(model) or loaded(str(model), max_tokens, batch_size)
    queries = [query] if isinstance(query, str) else list(query) or [""]
    texts = [one.text for one in passages]
    scores = [max(column) for column in zip(*(_checked(encoder.score(one, texts), len(texts)) for one in queries), strict=True)]
    found = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(found, key=lambda one: -one.score)[:k]


@functools.lru_cache(maxsize=4)
def loaded(model: str, max_tokens: int, batch_size: int) -> CrossEncoder:
    """Return a cross-encoder, loaded once a process: a folder with an ONNX model, else through sentence-transformers."""
    folder = Path(model.removeprefix(PREFIX)).expanduser()
    folder = folder if folder.is_dir() else Path(model).expanduser()
    if folder.is_dir():
        file = next((folder / name for name in _MODELS if (folder / name).is_file()), None)
        if file is not None:
            return OnnxCrossEncoder(file, folder / "tokenizer.json", max_tokens, batch_size)
        return _SentenceTransformers(_transformers_model(str(folder), max_tokens))
    if model.startswith(PATHS):
        there(folder)
    return _SentenceTransformers(_transformers_model(model, max_tokens))


class OnnxCrossEncoder:
    """A cross-encoder as an ONNX file, run without torch.

    Args:
        model: The file; it takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, and gives one or two logits a pair.
        tokenizer: Its `tokenizer.json`.
        max_tokens: Tokens of a pair, at most.
        batch_size: Pairs at once.

    Raises:
        RetrieverError: A file is not there or is none.
        MissingDependencyError: ONNX Runtime or tokenizers is not installed.
    """

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int = 512, batch_size: int = _BATCH) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingDependencyError(
                "an ONNX cross-encoder needs onnxruntime", hint="pip install 'dspex_nb[embedder]'"
            ) from error
        if not tokenizer.is_file():
            raise RetrieverError(f"{model.parent} holds no tokenizer.json", hint="put the model's tokenizer beside it")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - both raise classes of their own, one of them bare Exception
            raise RetrieverError(
                f"{model} cannot be loaded: {str(error).splitlines()[0][:160]}", hint="check the two files"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="only_second")
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._batch_size = batch_size

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one number a text, from 0 to 1."""
        found: list[float] = []
        for start in range(0, len(texts), self._batch_size):
            pairs = self._tokenizer.encode_batch([(query, text) for text in texts[start : start + self._batch_size]])
            given = {name: value for name, value in _padded(pairs).items() if name in self._inputs}
            found.extend(_probability(row) for row in self._session.run(None, given)[0])
        return found


class _SentenceTransformers:
    def __init__(self, model: Any) -> None:
        self._model = model

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        found = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
        return [_probability([float(one)]) if not 0 <= float(one) <= 1 else float(one) for one in found]


def _given(model: Any) -> CrossEncoder | None:
    if hasattr(model, "score") and not isinstance(model, str | Path):
        return model  # type: ignore[no-any-return]
    return _SentenceTransformers(model) if hasattr(model, "predict") else None


def _transformers_model(name: str, max_tokens: int) -> Any:
    try:
        from sentence_transformers import CrossEncoder as Model
    except ImportError as error:
        raise MissingDependencyError(
            f"the cross-encoder {name!r} needs the package 'sentence-transformers'",
            hint="pip install 'dspex_nb[sentence-transformers]', or give a folder that holds model.onnx and tokenizer.json",
        ) from error
    try:
        return Model(name, max_length=max_tokens)
    except (OSError, ValueError) as error:
        raise RetrieverError(
            f"sentence-transformers cannot load {name!r}: {str(error).splitlines()[0][:160]}",
            hint="check its name, or give a folder",
        ) from error


def _padded(pairs: Sequence[Any]) -> dict[str, Any]:
    import numpy as np

    longest = max(len(one.ids) for one in pairs)
    made = {name: np.zeros((len(pairs), longest), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    for row, one in enumerate(pairs):
        size = len(one.ids)
        made["input_ids"][row, :size], made["attention_mask"][row, :size] = one.ids, 1
        made["token_type_ids"][row, :size] = one.type_ids
    return made


def _probability(logits: Any) -> float:
    """Return the chance of a fit: the sigmoid of one logit, the second's share of two."""
    numbers = [float(one) for one in logits]
    if len(numbers) == 2:  # noqa: PLR2004 - no, yes
        numbers = [numbers[1] - numbers[0]]
    if len(numbers) != 1:
        raise RetrieverError(
            f"the model gives {len(numbers)} numbers a pair, expected one or two",
            hint="use a model made for ranking, not for classes",
        )
    value = max(-60.0, min(60.0, numbers[0]))
    return 1 / (1 + math.exp(-value))


def _checked(scores: Sequence[float], count: int) -> list[float]:
    found = [float(one) for one in scores]
    if len(found) != count or not all(math.isfinite(one) for one in found):
        raise RetrieverError(
            f"the cross-encoder gave {len(found)} numbers for {count} passages", hint="it must give one for each"
        )
    return found
