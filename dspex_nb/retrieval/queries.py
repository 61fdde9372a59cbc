"""`Queries`: a list of texts and vectors on its way to one call of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Real  # NumPy's scalars are of it too
from typing import TYPE_CHECKING, Any

from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import texts_of

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Queries:
    """The vectors of a list of queries: those given, and those of `texts` once they are filled in; blank texts have none.

    Attributes:
        texts: What has to be embedded.
        rows: One vector a query that is not blank; None where its text is not embedded yet.

    Args:
        queries: Texts and vectors.
        checked: Makes a given vector one of the index's.
    """

    def __init__(self, queries: list[Any], checked: Callable[[Any, int | None], Vectors]) -> None:
        self.texts: list[str] = []
        self.rows: list[Any] = []
        self._places: list[int | None] = []
        for query in queries:
            found = None if is_vector(query) else texts_of(query)
            self._places.append(None if found == [] else len(self.rows))
            if found is None:
                self.rows.append(checked(query, None)[0])
            elif found:
                self.texts.append(found[0])
                self.rows.append(None)

    def fill(self, vectors: Iterable[Any]) -> None:
        """Take the vectors of `texts`."""
        made = iter(vectors)
        self.rows = [next(made) if row is None else row for row in self.rows]

    @property
    def vectors(self) -> Vectors:
        """All vectors, one a row."""
        import numpy as np

        stacked: Vectors = np.stack(self.rows)
        return stacked

    def answers(self, found: list[list[Passage]]) -> list[list[Passage]]:
        """Return the answers in the order of the queries."""
        return [[] if at is None else found[at] for at in self._places]


def is_vector(query: Any) -> bool:
    """Return whether a query is one vector: an array, or numbers."""
    if isinstance(query, str) or query is None:
        return False
    if type(query).__module__ == "numpy" and hasattr(query, "ndim"):
        return query.dtype.kind in "fiu" and query.ndim == 1
    return isinstance(query, list | tuple) and bool(query) and isinstance(query[0], Real) and not isinstance(query[0], bool)


def are_several(query: Any) -> bool:
    """Return whether a query is several texts, whose answers are fused."""
    return not isinstance(query, str) and not is_vector(query) and len(texts_of(query)) > 1
