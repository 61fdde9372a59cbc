"""`Faiss`: Meta's library of vector indexes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Faiss(KeptIndex):
    """Vectors in a FAISS index.

    Args:
        path: A folder for `persist`, and to load from.
        factory: FAISS's own words for the kind of index, e.g. `"Flat"` (exact) or `"HNSW32"`.
    """

    name = "faiss"

    def _open(self, *, path: str | Path | None = None, factory: str = "Flat") -> None:
        self._factory = factory
        super()._open(path=path)

    def _settings(self) -> dict[str, Any]:
        return {"factory": self._factory}

    def _build(self, vectors: Vectors) -> None:
        import faiss

        self._index = faiss.index_factory(vectors.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT)
        if not self._index.is_trained:
            self._index.train(vectors)
        self._index.add(vectors)

    def _extend(self, start: int, vectors: Vectors) -> None:
        del start  # FAISS numbers on
        self._index.add(vectors)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        numbers, slots = self._index.search(vectors, k)
        return slots, numbers
