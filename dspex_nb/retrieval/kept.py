"""`KeptIndex`: passages in memory, found by a library's index over their slots; filters are exact."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.beside import Beside
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.hits import Hit
from dspex_nb.retrieval.rows import Rows
from dspex_nb.retrieval.scales import raw_of
from dspex_nb.retrieval.vectors import VectorIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

    Found = tuple[Any, Any]  # slots and the library's numbers, a row a query

_TAIL = 1000  # passages that a build-once index may lack: they are compared one by one
_TAIL_SHARE = 0.2


class KeptIndex(VectorIndex):
    """Base of vector indexes in memory. A subclass builds its library's index and asks it; the rest is here.

    Deleted slots stay in the library's index and are asked past; when they are many, or a build-once index lacks much, it is
    built anew. A search with a filter compares the query with every passage that satisfies it.

    Attributes:
        growing: Whether the library's index takes more vectors later. One that does not is asked together with a list of the new.
    """

    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    filtering: ClassVar[str] = "by ids"
    kept: str = "folder"
    words_by: ClassVar[str] = "bm25"
    batching: ClassVar[bool] = True
    growing: ClassVar[bool] = True

    def _open(self, *, path: str | Path | None = None) -> None:
        """Load what `persist` wrote to the folder `path`."""
        self._path, self.kept = None if path is None else Path(path), kept_at(path)
        self._rows: Rows | None = None
        self._known = 0  # slots that the library's index has
        self._version = ""
        self._words = Beside(lambda: self._rows or ())
        found = Rows.load(self._path) if self._path else None
        if found is not None:
            self._dimension, self._rows = found.dimension, found

    @abstractmethod
    def _build(self, vectors: Vectors) -> None:
        """Make the library's index of these vectors, numbered from 0."""

    def _extend(self, start: int, vectors: Vectors) -> None:
        """Add vectors, numbered from `start`."""

    @abstractmethod
    def _ask(self, vectors: Vectors, k: int) -> Found:
        """Return slots and numbers of the `k` nearest of each vector, at most all that there are; a slot below 0 is none.

        Both are lists of lists, or both arrays.
        """

    def _settings(self) -> dict[str, Any]:
        """Return what changes results besides the content."""
        return {}

    @property
    def version(self) -> str:
        """A hash of the passages, the settings and the length of the vectors."""
        with self._lock:
            if not self._version:
                sums = sum(int(passage_digest(one.id, one.text, one.metadata)[:32], 16) for one in self._rows or ())
                written = json.dumps([self.name, self._settings(), self.count(), str(sums)])
                self._version = hashlib.sha256(written.encode()).hexdigest()
            return self._version

    def count(self) -> int:
        """Return how many passages the index holds."""
        return 0 if self._rows is None else len(self._rows)

    def persist(self) -> None:
        """Write passages and vectors to the folder `path`.

        Raises:
            RetrieverError: It was made without path=.
        """
        super().persist()
        with self._lock, self._asking("saving"):
            if self._rows is not None and self._path is not None:
                self._rows.save(self._path, self.name)

    def __repr__(self) -> str:
        return f"<{self.name} retriever, {self.count():,} passages in memory>"

    def _store(self, given: Columns, vectors: Vectors) -> None:
        passages = given.passages()
        with self._lock:
            if self._rows is None:
                self._dimension, self._rows = vectors.shape[1], Rows(vectors.shape[1])
            rows = self._rows
            start = rows.put(passages, vectors)
            if self.growing and self._known == start and start:
                self._extend(start, vectors)
                self._known = rows.slots
            self._words.put(given)
            self._version = ""

    def _drop(self, ids: list[str]) -> int:
        with self._lock:
            if self._rows is None:
                return 0
            self._words.drop(ids)
            self._version = ""
            return self._rows.drop(ids)

    def _where(self, condition: Condition) -> Condition:
        return condition

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        with self._lock:
            return self._words.find(query, k, condition)

    def _nearest(self, vectors: Vectors, k: int, where: Condition | None) -> list[list[Hit]]:
        with self._lock:
            rows = self._rows
            if rows is None or not rows.slot_of:
                return [[] for _ in vectors]
            if where is not None:
                return self._compared(rows, vectors, k, rows.satisfying(where))
            if self._known != len(rows.passages) or self._known != len(rows.slot_of):
                self._keep_up(rows)
            there = len(rows.passages)
            slots, numbers = self._ask(vectors, min(k + there - len(rows.slot_of), self._known))
            if not isinstance(slots, list):
                slots, numbers = slots.tolist(), numbers.tolist()
            found = [self._alive(rows, row, raws, k) for row, raws in zip(slots, numbers, strict=True)]
            if there == self._known:
                return found
            tail = self._compared(rows, vectors, k, range(self._known, there))
            return [
                sorted(hits + more, key=lambda hit: -self._cosine(hit[-1]))[:k] for hits, more in zip(found, tail, strict=True)
            ]

    def _alive(self, rows: Rows, slots: list[int], numbers: list[float], k: int) -> list[Hit]:
        passages = rows.passages
        found: list[Hit] = []
        for slot, number in zip(slots, numbers, strict=True):
            if slot >= 0 and (passage := passages[slot]) is not None:
                found.append((passage.id, passage.text, passage.metadata, number))
                if len(found) == k:
                    break
        return found

    def _keep_up(self, rows: Rows) -> None:
        """Build the library's index where there is none, where it lacks much, or where much of it is deleted."""
        behind = rows.slots - self._known
        if rows.empty > max(_TAIL, len(rows)):
            rows.pack()
        elif self._known and behind <= (max(_TAIL, _TAIL_SHARE * rows.slots) if not self.growing else 0):
            return
        self._build(rows.vectors)
        self._known = rows.slots

    def _compared(self, rows: Rows, vectors: Vectors, k: int, slots: Any) -> list[list[Hit]]:
        """Return the nearest of these slots, each compared with each vector."""
        import numpy as np

        slots = np.fromiter((slot for slot in slots if rows.passages[slot] is not None), dtype=np.intp)
        if not len(slots):
            return [[] for _ in vectors]
        cosines = vectors @ rows.vectors[slots].T
        found = []
        for row in cosines:
            best = np.argpartition(-row, k - 1)[:k] if k < len(row) else np.arange(len(row))
            numbers = [raw_of(self.metric, cosine) for cosine in row[best].tolist()]
            found.append(self._alive(rows, slots[best].tolist(), numbers, k))
        return found
