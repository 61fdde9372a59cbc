"""`PyNNDescent`: a graph found by descent, in compiled Python; built once, and anew when much was added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class PyNNDescent(KeptIndex):
    """Vectors in a PyNNDescent graph: approximate. The first search compiles it, which takes most of a minute.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "pynndescent"
    metric = "cosine distance"
    growing = False

    def _build(self, vectors: Vectors) -> None:
        from pynndescent import NNDescent

        self._index = NNDescent(vectors, metric="cosine", n_neighbors=min(30, len(vectors)), random_state=0)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        slots, numbers = self._index.query(vectors, k=k)
        return slots, numbers
