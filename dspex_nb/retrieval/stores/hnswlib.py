"""`Hnswlib`: a navigable graph of neighbours (HNSW), by its inventors' library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Hnswlib(KeptIndex):
    """Vectors in an HNSW graph: approximate, fast for many.

    Args:
        path: A folder for `persist`, and to load from.
        m: Neighbours of each node.
        ef_construction: How many candidates are looked at when a node is added.
        ef: How many when a query is asked, at least.
    """

    name = "hnswlib"
    metric = "cosine distance"

    def _open(self, *, path: str | Path | None = None, m: int = 16, ef_construction: int = 200, ef: int = 64) -> None:
        self._m, self._ef_construction, self._ef = m, ef_construction, ef
        super()._open(path=path)

    def _settings(self) -> dict[str, Any]:
        return {"m": self._m, "ef_construction": self._ef_construction, "ef": self._ef}

    def _build(self, vectors: Vectors) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(max_elements=len(vectors), ef_construction=self._ef_construction, M=self._m)
        self._index.add_items(vectors)

    def _extend(self, start: int, vectors: Vectors) -> None:
        import numpy as np

        needed = start + len(vectors)
        if needed > self._index.get_max_elements():
            self._index.resize_index(max(needed, 2 * start))
        self._index.add_items(vectors, np.arange(start, needed))

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        self._index.set_ef(max(self._ef, k))
        slots, numbers = self._index.knn_query(vectors, k=k)
        return slots, numbers
