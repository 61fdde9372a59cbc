"""`Retriever`: what every index can do, and `Index`, which does the part that all of ours share."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.retrieval.batches import Listener, batches
from dspex_nb.retrieval.documents import passages_of
from dspex_nb.retrieval.extending import Extended
from dspex_nb.retrieval.filters import Condition, read_filter
from dspex_nb.retrieval.merging import rrf, weights_of

Query = str | Sequence[str]
Filter = Mapping[str, Any]
Way = str | Mapping[str, float]
Mode = Way | None
PLACES = {"memory": "in memory", "folder": "in a folder", "server": "on a server", "store": "where the store is"}
"""What `kept` says, in words."""
MODES = ("dense", "sparse", "hybrid")


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

    Attributes:
        name: What kind of index it is.
        modes: How it finds, its usual way first: `"dense"` by vectors, `"sparse"` by words, `"hybrid"` by both.
        filtering: Who keeps filters: the store itself (`"native"`), the store over ids that we found (`"by ids"`), or `"none"`.
        kept: Where passages are: in `"memory"`, a `"folder"`, or on a `"server"`.
        words_by: Who finds by words: the `"store"`, or our BM25 beside it (`"bm25"`).
        concurrent: Whether awaited searches wait on the network together; else each waits in a thread.
        batching: Whether the store takes many queries in one call.
        portable: Whether it can be sent to another process with all it holds.

    Args:
        index: What it holds from the start: anything that `add` takes.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
    """

    name = ""
    modes: tuple[str, ...] = ("sparse",)
    filtering: ClassVar[str] = "native"
    kept: str = "memory"
    words_by: ClassVar[str] = "store"
    concurrent: bool = False
    batching: ClassVar[bool] = False
    portable: ClassVar[bool] = True

    def __init__(self, index: Any = None, *, k: int = 5, text_field: str | None = None) -> None:
        self.k = counted(k)
        self._text_field = text_field
        if index is not None:
            self.add(index)

    @property
    @abstractmethod
    def version(self) -> str:
        """A hash of content and settings: the step cache's key."""

    def add(
        self,
        texts: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Any] | None = None,
        vectors: Any = None,
        *,
        on_progress: Listener = None,
    ) -> list[str]:
        """Add texts and return their ids; a passage whose id is there already is replaced.

        Args:
            texts: Texts, dicts, passages, documents, a DataFrame, or a dict from id to text.
            metadatas: One mapping a text.
            ids: One a text; else made from its content, so that adding it again changes nothing.
            vectors: One a text, for an index that finds by vectors; else its embedder makes them.
            on_progress: Told how many passages are added, after each 500. They are added in such parts then, and those that are
                in when it breaks off stay.

        Raises:
            DataError: Something that holds no text, or metadata that is not JSON.
            RetrieverError: Vectors that the index has no use for, or of another length than those it holds.
        """
        passages = self._given_passages(texts, metadatas, ids, vectors)
        for _, batch in batches(passages, on_progress):
            self._put(batch)
        return [one.id for one in passages]

    def search(
        self,
        query: Any,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[Passage]:
        """Return the best passages, highest score first; of several queries, each is searched and the results fused by rank.

        Args:
            query: What to look for: a text, a list of texts, or a vector where the index finds by vectors; an empty one finds
                nothing.
            k: At most so many; None means the retriever's own number.
            filter: Only passages whose metadata satisfies it: see `retrieval.filters`.
            mode: `"dense"`, `"sparse"` or `"hybrid"`, or how much each counts in a hybrid: `{"dense": 3, "sparse": 1}`; None
                means the index's usual way.

        Raises:
            FilterError: A filter that cannot be read, or that this store cannot keep.
            RetrieverError: A query that is no text, a mode that the index has not, or a store that failed.
        """
        condition = None if filter is None else read_filter(filter)
        way = self.modes[0] if mode is None else self._mode(mode)
        return self._search(query, self.k if k is None else counted(k), condition, way)

    def batch(
        self,
        queries: Iterable[Any],
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[list[Passage]]:
        """Return for each query what `search` does; a store that takes many queries at once is asked once."""
        asked = listed(queries)
        return self._batch(asked, self.k if k is None else counted(k), read_filter(filter), self._mode(mode))

    async def asearch(
        self,
        query: Any,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[Passage]:
        """Return what `search` does, without blocking the event loop: from a thread, unless the index is `concurrent`."""
        return await asyncio.to_thread(self.search, query, k, filter, mode)

    async def abatch(
        self,
        queries: Iterable[Any],
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[list[Passage]]:
        """Return what `batch` does, without blocking the event loop."""
        return await asyncio.to_thread(self.batch, queries, k, filter, mode)

    async def aadd(
        self,
        texts: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Any] | None = None,
        vectors: Any = None,
        *,
        on_progress: Listener = None,
    ) -> list[str]:
        """Do what `add` does, from a thread; `on_progress` is called in the event loop."""
        passages = await asyncio.to_thread(self._given_passages, texts, metadatas, ids, vectors)
        for _, batch in batches(passages, on_progress):
            await asyncio.to_thread(self._put, batch)
        return [one.id for one in passages]

    def delete(self, ids: str | Iterable[str]) -> int:
        """Remove passages by id and return how many there were; unknown ids are no error."""
        names = names_of(ids)
        return self._drop(names) if names else 0

    async def adelete(self, ids: str | Iterable[str]) -> int:
        """Do what `delete` does, from a thread."""
        return await asyncio.to_thread(self.delete, ids)

    @abstractmethod
    def count(self) -> int:
        """Return how many passages the index holds."""

    async def acount(self) -> int:
        """Return what `count` does, from a thread."""
        return await asyncio.to_thread(self.count)

    def persist(self) -> None:
        """See to it that what was added is there after this process; where each change is kept at once there is nothing to do.

        Raises:
            RetrieverError: The index is in memory alone.
        """
        if self.kept == "memory":
            takes_path = "path" in inspect.signature(type(self)).parameters
            hint = 'make it with path="a folder"' if takes_path else 'for one that lasts use e.g. "faiss" with path='
            raise RetrieverError(f"this {self.name} retriever is in memory only", hint=hint)

    async def apersist(self) -> None:
        """Do what `persist` does, from a thread."""
        await asyncio.to_thread(self.persist)

    def close(self) -> None:
        """Give back connections and files; what was kept stays."""

    def _given_passages(self, texts: Any, metadatas: Any, ids: Any, vectors: Any) -> list[Passage]:
        if vectors is not None:
            raise RetrieverError(f"{self.name} finds by words and keeps no vectors", hint="leave vectors= out")
        return passages_of(texts, metadatas, ids, text_field=self._text_field)

    def _search(self, query: Any, k: int, condition: Condition | None, mode: Way) -> list[Passage]:
        del mode  # an index that finds by words has one
        queries = texts_of(query)
        if not k or not queries:
            return []
        if len(queries) == 1:
            return self._find(queries[0], k, condition)
        return rrf([self._find(one, deeper(k), condition) for one in queries])[:k]

    def _batch(self, queries: list[Any], k: int, condition: Condition | None, mode: Way) -> list[list[Passage]]:
        return [self._search(one, k, condition, mode) for one in queries]

    def _mode(self, mode: Mode) -> Way:
        if mode is None:
            return self.modes[0]
        if isinstance(mode, Mapping) and "hybrid" in self.modes:
            ways = ("dense", "sparse")
            return dict(zip(ways, weights_of({**dict.fromkeys(ways, 0.0), **mode}, ways), strict=True))
        if mode not in self.modes:
            known = f"it has {', '.join(map(repr, self.modes))}"
            hint = (
                f'{known}; for both ways at once: parallel(…, merge="rrf")'
                if isinstance(mode, Mapping) or mode in MODES
                else did_you_mean(str(mode), MODES) + known
            )
            raise RetrieverError(f"the {self.name} retriever has no mode {mode!r}", hint=hint)
        return mode

    @abstractmethod
    def _put(self, passages: list[Passage]) -> None:
        """Store passages with different ids, replacing those that are there."""

    @abstractmethod
    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        """Return at most `k` passages by the words of a query that is not blank, highest score first, equal scores by id."""

    @abstractmethod
    def _drop(self, ids: list[str]) -> int:
        """Remove the passages with these ids and return how many there were."""


def deeper(k: int) -> int:
    """Return how deep to look in each of several rankings: what is second in every list may be first in the fused one."""
    return max(2 * k, 10)


def kept_at(path: Any) -> str:
    """Return where an index is kept that was given this path: `"memory"` where it is none or says so itself."""
    return "memory" if path is None or str(path) in (":memory:", "memory://") else "folder"


def counted(k: Any) -> int:
    """Return `k` if it says how many."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise RetrieverError(f"k={k!r}: expected how many passages, a whole number", hint="write e.g. k=5")
    return k


def texts_of(query: Any) -> list[str]:
    """Return the different texts of a query, blank ones left out."""
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


def names_of(ids: str | Iterable[str]) -> list[str]:
    """Return different ids, in order, of one or several."""
    return [ids] if isinstance(ids, str) else list(dict.fromkeys(map(str, ids)))


def listed(queries: Any) -> list[Any]:
    """Return the queries of a batch as a list.

    Raises:
        RetrieverError: It is one query, or none.
    """
    if isinstance(queries, str | Mapping) or not isinstance(queries, Iterable):
        raise RetrieverError(
            f"batch takes a list of queries, found a {type(queries).__name__}", hint='write e.g. ["loops", "files"]'
        )
    return list(queries)
