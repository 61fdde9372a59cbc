"""`Memory`: the query compared with every passage, by NumPy; exact, and no package beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_nb.retrieval.kept import KeptIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


_BLOCK = 128


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
            best = _highest(cosines, k)
            best = best[cosines[best].argsort()[::-1]]  # nearest first: of k and the deleted, the first k that are there count
            found.append((best, cosines[best]))
        return [slots.tolist() for slots, _ in found], [numbers.tolist() for _, numbers in found]


def _highest(numbers: Any, k: int) -> Any:
    """Return the places of the `k` highest, in no order.

    The highest are in the `k` blocks whose own highest number is highest, and to look for these takes half as long.
    """
    whole = len(numbers) // _BLOCK
    if k > whole // 4:
        return numbers.argpartition(-k)[-k:]
    import numpy as np

    blocks = numbers[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1).argpartition(-k)[-k:]
    places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
    if whole * _BLOCK < len(numbers):
        places = np.concatenate([places, np.arange(whole * _BLOCK, len(numbers))])
    return places[numbers[places].argpartition(-k)[-k:]]
