"""`Voyager`: a navigable graph of neighbours (HNSW), by Spotify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Voyager(KeptIndex):
    """Vectors in a Voyager index: approximate, fast for many.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "voyager"
    metric = "cosine distance"

    def _build(self, vectors: Vectors) -> None:
        from voyager import Index, Space

        self._index = Index(Space.InnerProduct, num_dimensions=vectors.shape[1])
        self._extend(0, vectors)

    def _extend(self, start: int, vectors: Vectors) -> None:
        self._index.add_items(vectors, list(range(start, start + len(vectors))))

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        slots, numbers = self._index.query(vectors, k=k, query_ef=max(64, k))
        return slots.astype("int64"), numbers
