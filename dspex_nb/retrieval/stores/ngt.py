"""`Ngt`: a graph and a tree of neighbours, by Yahoo Japan; it lives in a folder, ours in a temporary one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Ngt(KeptIndex):
    """Vectors in an NGT index: approximate.

    Args:
        path: A folder for `persist`, and to load from.
        epsilon: How far past the best so far a query looks: more is more exact and slower.
    """

    name = "ngt"
    metric = "cosine distance"

    def _open(self, *, path: str | Path | None = None, epsilon: float = 0.2) -> None:
        self._epsilon = epsilon
        super()._open(path=path)

    def _settings(self) -> dict[str, Any]:
        return {"epsilon": self._epsilon}

    def _build(self, vectors: Vectors) -> None:
        import ngtpy

        self._folder = tempfile.TemporaryDirectory(prefix="dspex-ngt-")
        place = str(Path(self._folder.name) / "index").encode()
        ngtpy.create(place, vectors.shape[1], distance_type="Cosine", object_type="Float")
        self._index = ngtpy.Index(place)
        self._extend(0, vectors)

    def _extend(self, start: int, vectors: Vectors) -> None:
        del start  # NGT numbers on
        self._index.batch_insert(vectors)

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        found = [self._index.search(one, k, epsilon=self._epsilon) for one in vectors]
        return [[slot for slot, _ in row] for row in found], [[number for _, number in row] for row in found]
