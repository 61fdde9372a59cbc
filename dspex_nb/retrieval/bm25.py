"""`BM25`: passages in memory by the words they share with the query (Okapi BM25)."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.lexical import LexicalIndex
from dspex_nb.retrieval.postings import Postings
from dspex_nb.retrieval.words import words

if TYPE_CHECKING:
    from dspex_nb.retrieval.postings import Numbers


class BM25(LexicalIndex):
    """Find passages by their words; rare words count more, repetition ever less, long passages less.

    Args:
        index: Texts, dicts, passages, documents, a DataFrame, or a dict from id to text.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
        k1: How much repetition counts: 0 not at all.
        b: How much length counts: 0 not at all, 1 fully.

    Raises:
        RetrieverError: `k1` or `b` out of range.
    """

    name = "bm25"

    def __init__(self, index: Any = None, *, k: int = 5, text_field: str | None = None, k1: float = 1.5, b: float = 0.75) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise RetrieverError(
                f"k1={k1!r}, b={b!r}: expected k1 of 0 or more and b from 0 to 1", hint="write e.g. k1=1.5, b=0.75"
            )
        self._k1, self._b = float(k1), float(b)
        super().__init__(index, k=k, text_field=text_field)

    def _settings(self) -> dict[str, Any]:
        return {"k1": self._k1, "b": self._b}

    def _terms(self, text: str) -> list[str]:
        return words(text)

    def _scores(self, terms: list[str], postings: Postings) -> Numbers:
        import numpy as np

        lengths = postings.lengths()
        scores = np.zeros(len(lengths))
        many = len(postings)
        norms = self._k1 * (1 - self._b + self._b * lengths / (lengths.sum() / many)) if lengths.any() else lengths
        for term, times in sorted(Counter(terms).items()):
            slots, counts = postings.of(term, lengths)
            rarity = math.log(
                1 + (many - len(slots) + 0.5) / (len(slots) + 0.5)
            )  # the 1 keeps words of every second passage positive
            scores[slots] += times * rarity * counts * (self._k1 + 1) / (counts + norms[slots])
        return scores
