"""How alike texts are by their words, and how alike given vectors are: the cosine of sparse vectors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from dspex_nb.retrieval.words import words

Vector = Mapping[Hashable, float]


def word_vectors(texts: Sequence[str]) -> list[Vector]:
    """Return a vector of length 1 for each text; words that many of the texts hold weigh less."""
    counts = [Counter(words(text)) for text in texts]
    spread = Counter(word for count in counts for word in count)
    return [
        _unit((word, (1 + math.log(times)) * math.log(1 + len(texts) / spread[word])) for word, times in count.items())
        for count in counts
    ]


def unit_vector(numbers: Iterable[float]) -> Vector:
    """Return an embedding as a vector of length 1."""
    return _unit(enumerate(map(float, numbers)))


def cosine(one: Vector, other: Vector) -> float:
    """Return how alike two vectors of length 1 are."""
    small, large = (one, other) if len(one) <= len(other) else (other, one)
    return sum(value * large[key] for key, value in small.items() if key in large)


def _unit(parts: Iterable[tuple[Hashable, float]]) -> Vector:
    found = dict(parts)
    length = math.sqrt(sum(value * value for value in found.values()))
    return {key: value / length for key, value in found.items()} if length else {}
