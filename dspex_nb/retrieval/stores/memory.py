"""`Memory`: the query compared with every passage, by NumPy; exact, and no package beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.vectors import Vectors


class Memory(KeptIndex):
    """Vectors in one NumPy matrix."""

    name = "memory"

    def _build(self, vectors: Vectors) -> None:
        self._matrix = vectors

    def _extend(self, start: int, vectors: Vectors) -> None:
        del start, vectors
        if self._rows is not None:
            self._matrix = self._rows.vectors

    def _ask(self, vectors: Vectors, k: int) -> tuple[Any, Any]:
        import numpy as np

        cosines = vectors @ self._matrix.T
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k] if k < cosines.shape[1] else np.argsort(-cosines, axis=1)
        chosen = np.take_along_axis(cosines, best, axis=1)
        order = np.argsort(-chosen, axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1), np.take_along_axis(chosen, order, axis=1)
