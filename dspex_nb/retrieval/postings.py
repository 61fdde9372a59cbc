"""`Postings`: which passage holds which term how often; appended to, with removed passages struck out until a rebuild."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.float64]]
    Places = np.ndarray[Any, np.dtype[np.intp]]


class Postings:
    """An inverted index. A passage has a slot, numbered from 0; a slot is never used twice."""

    __slots__ = ("_lengths", "_slots", "_terms", "_weights", "ids")

    def __init__(self) -> None:
        self.ids: list[str | None] = []  # by slot; None where the passage was removed
        self._slots: dict[str, int] = {}
        self._terms: dict[str, tuple[array[int], array[int]]] = {}  # term -> slots, counts
        self._lengths = array("d")
        self._weights = array("d")

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def wasteful(self) -> bool:
        """Most slots are struck out: build it anew."""
        return len(self.ids) > 2 * len(self._slots) + 1000

    def put(self, name: str, terms: Iterable[str], weight: float = 1.0) -> None:
        """Add a passage's terms; one with the same id is struck out first. `weight` is a number kept with it."""
        self.drop(name)
        slot = len(self.ids)
        self.ids.append(name)
        self._slots[name] = slot
        counts = Counter(terms)
        self._lengths.append(counts.total())
        self._weights.append(weight)
        for term, count in counts.items():
            entry = self._terms.get(term)
            if entry is None:
                entry = self._terms[term] = (array("I"), array("I"))
            entry[0].append(slot)
            entry[1].append(count)

    def drop(self, name: str) -> bool:
        """Strike out a passage and say whether it was there."""
        slot = self._slots.pop(name, None)
        if slot is None:
            return False
        self.ids[slot] = None
        self._lengths[slot] = 0.0
        return True

    def lengths(self) -> Numbers:
        """Return how many terms each slot holds; 0 where struck out."""
        import numpy as np

        return np.array(self._lengths)

    def weights(self) -> Numbers:
        """Return the number kept with each slot."""
        import numpy as np

        return np.array(self._weights)

    def of(self, term: str, lengths: Numbers) -> tuple[Places, Numbers]:
        """Return the slots that hold a term and how often; `lengths` tells which are struck out."""
        import numpy as np

        slots, counts = self._terms.get(term, (array("I"), array("I")))
        places = np.array(slots, dtype=np.intp)
        alive = lengths[places] > 0
        return places[alive], np.array(counts, dtype=np.float64)[alive]


def best_first(scores: Numbers) -> Sequence[int]:
    """Return the slots with a score above zero, highest first."""
    import numpy as np

    found = np.flatnonzero(scores > 0)
    order: list[int] = found[np.argsort(-scores[found], kind="stable")].tolist()
    return order
