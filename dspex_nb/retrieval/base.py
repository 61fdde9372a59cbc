"""`Retriever`: what every index can do, and `Index`, which does the part that all of ours share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.documents import passages_of
from dspex_nb.retrieval.extending import Extended
from dspex_nb.retrieval.filters import Condition, read_filter
from dspex_nb.retrieval.merging import rrf

Query = str | Sequence[str]
Filter = Mapping[str, Any]


@runtime_checkable
class Retriever(Protocol):
    """An index of passages. Any object with these members is one; `testing.retriever_suite` tests what they promise."""

    @property
    def name(self) -> str:
        """What kind of index it is."""

    @property
    def version(self) -> str:
        """A hash of the index's content and settings: equal versions give equal results, in any process."""

    def add(
        self, texts: Any, metadatas: Iterable[Mapping[str, Any] | None] | None = None, ids: Iterable[Any] | None = None
    ) -> list[str]:
        """Add texts, replace those whose id is there, and return the ids."""

    def search(self, query: Query, k: int | None = None, filter: Filter | None = None) -> list[Passage]:  # noqa: A002 - the API's word
        """Return the best `k` passages that satisfy the filter, highest score first."""

    async def asearch(self, query: Query, k: int | None = None, filter: Filter | None = None) -> list[Passage]:  # noqa: A002
        """Return what `search` does, without blocking the event loop."""

    def delete(self, ids: str | Iterable[str]) -> int:
        """Remove passages by id and return how many there were."""

    def count(self) -> int:
        """Return how many passages the index holds."""


class Index(Extended, ABC):
    """Base of our retrievers: reads what it is given, fuses several queries, and leaves storing and finding to its subclass.

    Args:
        index: What it holds from the start: anything that `add` takes.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
    """

    name = ""

    def __init__(self, index: Any = None, *, k: int = 5, text_field: str | None = None) -> None:
        self.k = _count(k)
        self._text_field = text_field
        if index is not None:
            self.add(index)

    @property
    @abstractmethod
    def version(self) -> str:
        """A hash of content and settings: the step cache's key."""

    def add(
        self, texts: Any, metadatas: Iterable[Mapping[str, Any] | None] | None = None, ids: Iterable[Any] | None = None
    ) -> list[str]:
        """Add texts and return their ids; a passage whose id is there already is replaced.

        Args:
            texts: Texts, dicts, passages, documents, a DataFrame, or a dict from id to text.
            metadatas: One mapping a text.
            ids: One a text; else made from its content, so that adding it again changes nothing.

        Raises:
            DataError: Something that holds no text, or metadata that is not JSON.
        """
        passages = passages_of(texts, metadatas, ids, text_field=self._text_field)
        if passages:
            self._put(passages)
        return [one.id for one in passages]

    def search(self, query: Query, k: int | None = None, filter: Filter | None = None) -> list[Passage]:  # noqa: A002 - the API's word
        """Return the best passages, highest score first; of several queries, each is searched and the results fused by rank.

        Args:
            query: What to look for. An empty one finds nothing.
            k: At most so many; None means the retriever's own number.
            filter: Only passages whose metadata satisfies it: see `retrieval.filters`.

        Raises:
            FilterError: A filter that cannot be read, or that this store cannot keep.
            RetrieverError: A query that is no text, or a store that failed.
        """
        wanted = self.k if k is None else _count(k)
        condition = read_filter(filter)
        queries = _queries(query)
        if not wanted or not queries:
            return []
        if len(queries) == 1:
            return self._find(queries[0], wanted, condition)
        deep = max(2 * wanted, 10)  # what is second in every list may be first in the fused one
        return rrf([self._find(one, deep, condition) for one in queries])[:wanted]

    async def asearch(self, query: Query, k: int | None = None, filter: Filter | None = None) -> list[Passage]:  # noqa: A002
        """Return what `search` does, from a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.search, query, k, filter)

    def delete(self, ids: str | Iterable[str]) -> int:
        """Remove passages by id and return how many there were; unknown ids are no error."""
        names = [ids] if isinstance(ids, str) else [str(one) for one in ids]
        return self._drop(list(dict.fromkeys(names))) if names else 0

    @abstractmethod
    def count(self) -> int:
        """Return how many passages the index holds."""

    @abstractmethod
    def _put(self, passages: list[Passage]) -> None:
        """Store passages with different ids, replacing those that are there."""

    @abstractmethod
    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        """Return at most `k` passages for a query that is not blank, highest score first, equal scores by id."""

    @abstractmethod
    def _drop(self, ids: list[str]) -> int:
        """Remove the passages with these ids and return how many there were."""


def _count(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise RetrieverError(f"k={k!r}: expected how many passages, a whole number", hint="write e.g. k=5")
    return k


def _queries(query: Any) -> list[str]:
    given = [query] if isinstance(query, str) else query
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise RetrieverError(
            f"a query is a {type(query).__name__}, expected a text or a list of texts", hint='write e.g. "how to loop"'
        )
    found = list(given)
    for one in found:
        if not isinstance(one, str):
            raise RetrieverError(
                f"a query is {one!r:.60}, expected a text", hint="search for texts, e.g. [str(q) for q in queries]"
            )
    return [one for one in dict.fromkeys(found) if one.strip()]
