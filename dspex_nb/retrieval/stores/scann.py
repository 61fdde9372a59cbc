"""`Scann`: Google's library, here with exact scores; built once, and anew when much was added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Scann(KeptIndex):
    """Vectors in a ScaNN searcher.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "scann"
    growing = False

    def _build(self, vectors: Vectors) -> None:
        import scann

        self._index = scann.scann_ops_pybind.builder(vectors, 10, "dot_product").score_brute_force().build()

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        slots, numbers = self._index.search_batched(vectors, final_num_neighbors=k)
        return slots.astype("int64"), numbers
