"""`Beside`: our BM25 over the passages of a store that finds by vectors alone, made when first asked for and kept in step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dspex_nb.passages import Passage
from dspex_nb.retrieval.bm25 import BM25
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.filters import Condition


class Beside:
    """An index by words beside one by vectors.

    Args:
        everything: Gives all passages that the store holds; asked once, at the first search.
    """

    def __init__(self, everything: Callable[[], Iterable[Passage]]) -> None:
        self._everything = everything
        self._index: BM25 | None = None

    def put(self, given: Columns) -> None:
        """Take up what the store was given."""
        if self._index is not None:
            self._index.add(given.passages())

    def stale(self, count: int) -> bool:
        """Return whether the store holds another number of passages than this: someone else changed it."""
        return self._index is not None and self._index.count() != count

    def forget(self) -> None:
        """Begin anew at the next search."""
        self._index = None

    def drop(self, ids: list[str]) -> None:
        """Forget what the store removed."""
        if self._index is not None:
            self._index.delete(ids)

    def find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        """Return the best passages by BM25."""
        if self._index is None:
            self._index = BM25()
            self._index.add(list(self._everything()))
        return self._index._find(query, k, condition)  # noqa: SLF001 - the condition is read already
