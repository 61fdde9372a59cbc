"""`Trigram`: passages in memory by the three-letter pieces they share with the query, so that word forms and typos still meet."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from dspex_nb.retrieval.lexical import LexicalIndex
from dspex_nb.retrieval.postings import Postings
from dspex_nb.retrieval.words import trigrams

if TYPE_CHECKING:
    from dspex_nb.retrieval.postings import Numbers


class Trigram(LexicalIndex):
    """Find passages by the cosine of three-letter pieces: from 0 (none shared) to 1.

    Passages are weighted by the logarithm of counts, queries by rarity too (SMART's `lnc.ltc`), so a passage's own length is
    known when it is added and nothing is weighed anew when the index grows.
    """

    name = "trigram"

    def _terms(self, text: str) -> list[str]:
        return trigrams(text)

    def _weight(self, terms: list[str]) -> float:
        return math.sqrt(sum((1 + math.log(count)) ** 2 for count in Counter(terms).values()))

    def _scores(self, terms: list[str], postings: Postings) -> Numbers:
        import numpy as np

        lengths, weights = postings.lengths(), postings.weights()
        scores = np.zeros(len(lengths))
        length = 0.0
        for term, times in sorted(Counter(terms).items()):
            slots, counts = postings.of(term, lengths)
            weight = (1 + math.log(times)) * math.log(1 + len(postings) / (len(slots) + 0.5))
            length += weight**2
            scores[slots] += weight * (1 + np.log(counts)) / weights[slots]
        return scores / math.sqrt(length) if length else scores
