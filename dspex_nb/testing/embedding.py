"""`HashEmbedder`: vectors from hashed words, for tests: fast, the same everywhere, and texts that share words are near."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_256
from typing import Any

from dspex_nb.retrieval.words import words


class HashEmbedder:
    """An embedder that knows nothing: each word is a direction that its hash says, a text the sum of its words."""

    name = "hash"

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension

    def embed(self, texts: Sequence[str]) -> Any:
        """Return a row of unit length for each text; of a text without words, zeros."""
        import numpy as np

        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for at, text in enumerate(texts):
            for word in words(text):
                found[at] += np.frombuffer(shake_256(word.encode()).digest(self.dimension), dtype=np.int8)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths > 0, lengths, 1)

    async def aembed(self, texts: Sequence[str]) -> Any:
        """Return what `embed` does."""
        return self.embed(texts)
