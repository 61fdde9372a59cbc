"""Late interaction: a vector for each token, and a passage's score the sum of each query token's best match (MaxSim).

Source: Khattab and Zaharia 2020, ColBERT (arXiv:2004.12832). The embedded model was not trained for it: with a ColBERT model as
encoder this is ColBERT, with the embedded one a plain comparison of tokens.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.base import Index
from dspex_nb.retrieval.filters import Condition, matches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]


class TokenEncoder(Protocol):
    """Gives one vector a token; `name` tells encoders apart."""

    name: str

    def token_vectors(self, text: str) -> Any:
        """Return an array of shape (tokens, numbers); at least one row for a text that is not blank."""
        ...


class LateInteraction(Index):
    """Finds passages by MaxSim over token vectors, in memory; threads may share it. Scores go up to 1.

    Args:
        index: What it holds from the start.
        encoder: What gives the token vectors: an embedder or a model with `token_vectors(text)`, or a function; the embedded
            model if None.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
    """

    name = "late-interaction"
    modes = ("dense",)

    def __init__(self, index: Any = None, *, encoder: Any = None, k: int = 5, text_field: str | None = None) -> None:
        self._encoder = encoder_of(encoder)
        self._lock = threading.RLock()
        self._passages: dict[str, tuple[Passage, Any]] = {}
        self._flat: tuple[Any, Any, list[Passage]] | None = None
        super().__init__(index, k=k, text_field=text_field)

    @property
    def version(self) -> str:
        """A hash of the passages and the encoder's name."""
        with self._lock:
            digests = sorted(passage_digest(one.id, one.text, one.metadata) for one, _ in self._passages.values())
        return hashlib.sha256("\n".join([self.name, str(self._encoder.name), *digests]).encode()).hexdigest()

    def count(self) -> int:
        """Return how many passages the index holds."""
        return len(self._passages)

    def __repr__(self) -> str:
        return f"<{self.name} retriever, {self.count():,} passages in memory, encoder {self._encoder.name!r}>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {**self.__dict__, "_passages": self._passages.copy(), "_lock": None, "_flat": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def _put(self, passages: list[Passage]) -> None:
        made = [(one, unit_rows(self._encoder.token_vectors(one.text))) for one in passages]
        with self._lock:
            self._passages.update({one.id: (one, vectors) for one, vectors in made})
            self._flat = None

    def _drop(self, ids: list[str]) -> int:
        with self._lock:
            self._flat = None
            return sum(self._passages.pop(name, None) is not None for name in ids)

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        import numpy as np

        wanted = unit_rows(self._encoder.token_vectors(query))
        tokens, starts, passages = self._laid_out()
        if not passages:
            return []
        if tokens.shape[1] != wanted.shape[1]:
            raise RetrieverError(
                f"the encoder gives vectors of {wanted.shape[1]} numbers, the index holds {tokens.shape[1]}",
                hint="make the index anew with this encoder",
            )
        best = np.maximum.reduceat(wanted @ tokens.T, starts, axis=1)  # of each query token in each passage
        scores = best.mean(axis=0)
        found = [
            Passage(one.text, one.id, float(score), one.metadata)
            for one, score in zip(passages, scores, strict=True)
            if matches(condition, one.metadata)
        ]
        return sorted(found, key=lambda one: (-one.score, one.id))[:k]

    def _laid_out(self) -> tuple[Any, Any, list[Passage]]:
        """Return all token vectors under each other, where each passage's begin, and the passages."""
        import numpy as np

        with self._lock:
            if self._flat is None:
                kept = [(one, vectors) for one, vectors in self._passages.values() if len(vectors)]
                starts = np.cumsum([0, *(len(vectors) for _, vectors in kept)])[:-1]
                tokens = np.concatenate([vectors for _, vectors in kept]) if kept else np.empty((0, 0), np.float32)
                self._flat = tokens, starts, [one for one, _ in kept]
            return self._flat


def max_sim(query: Any, passage: Any) -> float:
    """Return how well a passage's tokens cover a query's: the mean of each query token's best cosine, at most 1."""
    wanted, tokens = unit_rows(query), unit_rows(passage)
    if not len(wanted) or not len(tokens):
        return 0.0
    return float((wanted @ tokens.T).max(axis=1).mean())


def unit_rows(vectors: Any) -> Matrix:
    """Return token vectors as rows of length 1.

    Raises:
        RetrieverError: They are no table of numbers.
    """
    import numpy as np

    try:
        rows = np.asarray(vectors, dtype=np.float32)
        said = f"an array of shape {rows.shape}"
    except (ValueError, TypeError):
        rows, said = np.empty(0, np.float32), "rows of different lengths, or what is no number,"
    if rows.ndim != 2 or not np.isfinite(rows).all():  # noqa: PLR2004 - tokens and numbers
        raise RetrieverError(
            f"the encoder gave {said} for a text",
            hint="it is given one text and must give one vector a token: (tokens, numbers)",
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Matrix = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return made


def encoder_of(given: Any = None) -> TokenEncoder:
    """Return the token encoder behind an embedder, a model, a function, or None for the embedded model.

    Raises:
        RetrieverError: It gives no vectors of tokens.
        MissingDependencyError: The embedded model is not installed.
    """
    if given is None:
        from dspex_nb.retrieval.embedding_local import MiniLM

        return _WithoutMarks(MiniLM())
    backend = getattr(given, "backend", given)
    if hasattr(backend, "token_vectors"):
        from dspex_nb.retrieval.embedding_local import MiniLM

        return _WithoutMarks(backend) if isinstance(backend, MiniLM) else backend
    if callable(backend) and not hasattr(backend, "embed"):
        return _Function(backend)
    raise RetrieverError(
        f"{backend!r:.80} gives no vectors of tokens", hint="give a model with token_vectors(text), or a function of a text"
    )


class _WithoutMarks:
    """The embedded model without the marks that it puts around a text: they match everything."""

    def __init__(self, model: Any) -> None:
        self._model, self.name = model, model.identity

    def token_vectors(self, text: str) -> Any:
        return self._model.token_vectors(text)[1:-1]


class _Function:
    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function, self.name = function, str(getattr(function, "__qualname__", type(function).__name__))

    def token_vectors(self, text: str) -> Any:
        return self._function(text)
