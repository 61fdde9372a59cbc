"""`Nmslib`: a navigable graph of neighbours (HNSW); built once, and anew when much was added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Nmslib(KeptIndex):
    """Vectors in an NMSLIB graph: approximate.

    Args:
        path: A folder for `persist`, and to load from.
    """

    name = "nmslib"
    metric = "cosine distance"
    growing = False

    def _build(self, vectors: Vectors) -> None:
        import nmslib

        self._index = nmslib.init(method="hnsw", space="cosinesimil")
        self._index.addDataPointBatch(vectors)
        self._index.createIndex({})
        self._looked_at = 0

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        if self._looked_at != (wanted := max(100, k)):
            self._index.setQueryTimeParams({"efSearch": wanted})
            self._looked_at = wanted
        # A batch of one took ten times as long as the query.
        found = [self._index.knnQuery(vectors[0], k=k)] if len(vectors) == 1 else self._index.knnQueryBatch(vectors, k=k)
        return [slots.tolist() for slots, _ in found], [numbers.tolist() for _, numbers in found]
