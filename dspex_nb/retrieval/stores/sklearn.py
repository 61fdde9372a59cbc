"""`Sklearn`: scikit-learn's nearest neighbours; built once, and anew when much was added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Sklearn(KeptIndex):
    """Vectors in scikit-learn's `NearestNeighbors`: exact.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "sklearn"
    metric = "cosine distance"
    growing = False

    def _build(self, vectors: Vectors) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._index = NearestNeighbors(metric="cosine").fit(vectors)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        numbers, slots = self._index.kneighbors(vectors, k)
        return slots, numbers
