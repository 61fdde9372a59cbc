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
        found = []
        for cosines in vectors @ self._matrix.T:
            best = cosines.argpartition(-k)[-k:]
            best = best[cosines[best].argsort()[::-1]]  # nearest first: of k and the deleted, the first k that are there count
            found.append((best, cosines[best]))
        return [slots.tolist() for slots, _ in found], [numbers.tolist() for _, numbers in found]
