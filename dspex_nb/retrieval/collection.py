"""`Collection`: passages in a vector database, each as one row; a store's file says how its client writes and finds rows."""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.base import PLACES
from dspex_nb.retrieval.beside import Beside
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.facts import Dialect, compiled
from dspex_nb.retrieval.filters import Condition, matches
from dspex_nb.retrieval.hits import Found, Told, ranked
from dspex_nb.retrieval.metadata import metadata_of
from dspex_nb.retrieval.vectors import VectorIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")
_NO_TURNS = nullcontext()
DEFAULT_NAME = "dspex_passages"


class Collection(VectorIndex):
    """Base of stores that hold passages themselves. Everything of one index is in one collection, which belongs to it.

    Attributes:
        dialect: How the store says filters over facts.
        safe: Whether its client may be used by many threads at once; else searches and changes take turns.
        batch_size: How many rows are written in one call.
        going_through: Whether all passages can be listed in reasonable time: for orders in filters, `version`, and words.
    """

    dialect: ClassVar[Dialect[Any]]
    kept: str = "folder"
    words_by: ClassVar[str] = "bm25"
    safe: ClassVar[bool] = False
    batch_size: ClassVar[int] = 1000
    going_through: ClassVar[bool] = True

    def __init__(self, index: Any = None, **options: Any) -> None:
        self._words = Beside(self._everything)
        super().__init__(index, **options)

    @abstractmethod
    def _create(self, dimension: int) -> None:
        """Make the collection for vectors of this length; `_dimension` is None until then."""

    @abstractmethod
    def _write(self, rows: Block) -> None:
        """Store rows, replacing those with the same id."""

    @abstractmethod
    def _remove(self, ids: list[str]) -> None:
        """Remove the rows with these ids, all of which are there."""

    @abstractmethod
    def _held(self, ids: list[str]) -> Iterable[str]:
        """Return which of these ids are there."""

    @abstractmethod
    def _rows(self) -> Iterable[Told]:
        """Return id, text and metadata of all rows."""

    @abstractmethod
    def _size(self) -> int:
        """Return how many rows there are."""

    @abstractmethod
    def _found(self, vector: Any, k: int, where: Any) -> Iterable[Found]:
        """Return id, text, metadata and the store's number of the nearest rows that satisfy `where` (None: all)."""

    def _given(self, vectors: Vectors) -> list[Any]:
        """Return vectors as `_write` takes them."""
        given: list[Any] = vectors.tolist()
        return given

    def _wanted(self, vector: Any) -> Any:
        """Return a vector as `_found` takes it."""
        return vector.tolist()

    def count(self) -> int:
        """Return how many passages the collection holds."""
        if self._dimension is None:
            return 0
        with self._turn(), self._asking("counting"):
            return self._size()

    @property
    def version(self) -> str:
        """A hash of the passages, asked of the store: one pass over them."""
        sums = sum(int(passage_digest(one.id, one.text, one.metadata)[:32], 16) for one in self._everything())
        return hashlib.sha256(json.dumps([self.name, self.count(), str(sums)]).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{self.name} retriever, passages kept {PLACES[self.kept]}>"

    def _turn(self) -> Any:
        return _NO_TURNS if self.safe else self._lock

    def _everything(self) -> Iterator[Passage]:
        if self._dimension is None:
            return iter(())
        with self._turn(), self._asking("reading"):
            rows = list(self._rows())
        return (Passage(text, name, 0.0, metadata_of(told) if isinstance(told, str) else told) for name, text, told in rows)

    def _store(self, given: Columns, vectors: Vectors) -> None:
        with self._lock:
            if self._dimension is None:
                self._create(vectors.shape[1])
                self._dimension = vectors.shape[1]
        for start in range(0, len(given), self.batch_size):
            part = slice(start, start + self.batch_size)
            with self._turn():
                self._write(Block(given[part], vectors[part], self._given))
        self._words.put(given)

    def _drop(self, ids: list[str]) -> int:
        if self._dimension is None:
            return 0
        with self._turn(), self._asking("deleting"):
            there = list(self._held(ids))
            if there:
                self._remove(there)
        self._words.drop(there)
        return len(there)

    def _where(self, condition: Condition) -> Any:
        return compiled(condition, self.dialect, self._satisfying if self.going_through else None)

    def _satisfying(self, condition: Condition) -> list[str]:
        return [one.id for one in self._everything() if matches(condition, one.metadata)]

    def _dense(self, vectors: Vectors, k: int, condition: Condition | None) -> list[list[Passage]]:
        with self._turn():  # the filter's too: what is replaced between the two would be found in neither form
            return super()._dense(vectors, k, condition)

    def _nearest(self, vectors: Vectors, k: int, where: Any) -> Sequence[Iterable[Found]]:
        return [self._found(self._wanted(one), k, where) for one in vectors]

    def _nearest_to(self, query: Any, k: int) -> list[Passage]:
        with self._turn():
            return ranked(self._found(self._wanted(query), k, None), self._cosine)

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        with self._lock:
            if self._words.stale(self.count()):
                self._words.forget()
            return self._words.find(query, k, condition)


def safe_name(given: Any, option: str = "collection") -> str:
    """Return a name of a collection or table that every store takes as it is.

    Raises:
        RetrieverError: Another one.
    """
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise RetrieverError(
            f"{option}={given!r:.60} is not a safe name",
            hint=f'use small letters, digits and underscores, e.g. {option}="topics"',
        )
    return given
