"""`Usearch`: a navigable graph of neighbours (HNSW) in one small library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Usearch(KeptIndex):
    """Vectors in a USearch index: approximate, fast for many.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "usearch"
    metric = "cosine distance"

    def _build(self, vectors: Vectors) -> None:
        from usearch.index import Index

        self._index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
        self._extend(0, vectors)

    def _extend(self, start: int, vectors: Vectors) -> None:
        import numpy as np

        self._index.add(np.arange(start, start + len(vectors), dtype=np.uint64), vectors)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        found = self._index.search(vectors, k)
        slots, numbers = found.keys.reshape(len(vectors), -1), found.distances.reshape(len(vectors), -1)
        counts = getattr(found, "counts", None)
        if counts is None:
            return slots, numbers
        # What lies past an answer's count is no answer.
        return (
            [row[:count].tolist() for row, count in zip(slots, counts, strict=True)],
            [row[:count].tolist() for row, count in zip(numbers, counts, strict=True)],
        )
