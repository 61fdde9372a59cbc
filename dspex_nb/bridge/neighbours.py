"""Vectors without a model: three-letter pieces counted into numbered slots, for KNNFewShot where no embedder is given."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import dspy
import numpy as np

from dspex_nb.retrieval.words import trigrams

_SLOTS = 1024


def trigram_embedder() -> Any:
    """Return a `dspy.Embedder` that needs no model; the nearest texts share most three-letter pieces."""
    return dspy.Embedder(_vectors, caching=False)  # DSPy gives two different callable objects the same cache key


def _vectors(texts: Sequence[str]) -> Any:
    made = np.zeros((len(texts), _SLOTS), dtype=np.float32)
    for row, text in zip(made, texts, strict=True):
        for piece in trigrams(text):
            row[zlib.crc32(piece.encode()) % _SLOTS] += 1
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return made / np.maximum(lengths, 1e-9)
