"""`Annoy`: a forest of random splits, by Spotify; built once, and anew when much was added."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Annoy(KeptIndex):
    """Vectors in an Annoy forest: approximate.

    Args:
        path: A folder for `persist`, and to load from.
        trees: More are more exact and take more memory.
        looked_at: How many nodes a query looks at, a multiple of `trees` and k.
    """

    name = "annoy"
    growing = False

    def _open(self, *, path: str | Path | None = None, trees: int = 50, looked_at: int = 20) -> None:
        self._trees, self._looked_at = trees, looked_at
        super()._open(path=path)

    def _settings(self) -> dict[str, Any]:
        return {"trees": self._trees, "looked_at": self._looked_at}

    def _build(self, vectors: Vectors) -> None:
        from annoy import AnnoyIndex

        self._index = AnnoyIndex(vectors.shape[1], "dot")
        self._index.set_seed(0)
        for slot, vector in enumerate(vectors):
            self._index.add_item(slot, vector)
        self._index.build(self._trees)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        looked_at = self._looked_at * self._trees * k
        found = [self._index.get_nns_by_vector(one, k, search_k=looked_at, include_distances=True) for one in vectors]
        return [slots for slots, _ in found], [numbers for _, numbers in found]
