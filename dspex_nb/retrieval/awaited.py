"""`AwaitedCollection`: a collection whose client can be awaited: all that is asked of it waits on the network, and no thread."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Filter, names_of
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import Collection
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.facts import compiled, has_orders
from dspex_nb.retrieval.filters import Condition, matches, read_filter
from dspex_nb.retrieval.hits import Found
from dspex_nb.retrieval.loops import OfLoops
from dspex_nb.retrieval.metadata import metadata_of

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors


class Awaited(ABC):
    """A store's client in one event loop: what `Collection` asks of the called one, awaited."""

    @abstractmethod
    async def write(self, rows: Block) -> None:
        """Store rows, replacing those with the same id."""

    @abstractmethod
    async def remove(self, ids: list[str]) -> None:
        """Remove the rows with these ids, all of which are there."""

    @abstractmethod
    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which of these ids are there."""

    @abstractmethod
    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return id, text and metadata of all rows."""

    @abstractmethod
    async def size(self) -> int:
        """Return how many rows there are."""

    @abstractmethod
    async def found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return id, text, metadata and the store's number of the nearest rows that satisfy `where` (None: all)."""

    async def words(self, query: str, k: int, where: Any) -> list[Passage]:
        """Return the best passages by words."""
        raise NotImplementedError  # a store that finds by words has it

    @abstractmethod
    async def close(self) -> None:
        """Give back connections."""


class AwaitedCollection(Collection):
    """Base of collections with a client that is awaited where `concurrent` says so; only to make a collection takes a thread."""

    def __init__(self, index: Any = None, **options: Any) -> None:
        self._awaited_clients: OfLoops[Awaited] = OfLoops(self._aopen)
        super().__init__(index, **options)

    @abstractmethod
    async def _aopen(self) -> Awaited:
        """Connect in the running loop to the collection, which is there."""

    async def acount(self) -> int:
        """Return what `count` does, awaited."""
        if not self.concurrent:
            return await super().acount()
        if self._dimension is None:
            return 0
        with self._asking("counting"):
            return await (await self._awaited_clients.client()).size()

    async def adelete(self, ids: str | Iterable[str]) -> int:
        """Do what `delete` does, awaited."""
        if not self.concurrent:
            return await super().adelete(ids)
        names = names_of(ids)
        if not names or self._dimension is None:
            return 0
        with self._asking("deleting"):
            client = await self._awaited_clients.client()
            there = list(await client.held(names))
            if there:
                await client.remove(there)
        self._words.drop(there)
        return len(there)

    def close(self) -> None:
        """Close the connections: those of other event loops when they next run."""
        self._awaited_clients.close()

    async def _awrite_rows(self, given: Columns, vectors: Vectors) -> None:
        if not self.concurrent:
            await super()._awrite_rows(given, vectors)
            return
        with self._asking("adding"):
            if self._dimension is None:
                await asyncio.to_thread(self._made_for, vectors.shape[1])
            client = await self._awaited_clients.client()
            for start in range(0, len(given), self.batch_size):
                part = slice(start, start + self.batch_size)
                await client.write(Block(given[part], vectors[part], self._given))
        self._words.put(given)

    def _made_for(self, dimension: int) -> None:
        with self._lock:
            if self._dimension is None:
                self._create(dimension)
                self._dimension = dimension

    async def _anearest(self, vectors: Vectors, k: int, where: Any) -> Sequence[Iterable[Found]]:
        client = await self._awaited_clients.client()
        return await asyncio.gather(*(client.found(self._wanted(one), k, where) for one in vectors))

    async def _asparse(self, query: str, k: int, filter: Filter | None) -> list[Passage]:  # noqa: A002
        if self.words_by != "store":
            return await super()._asparse(query, k, filter)
        condition = read_filter(filter)
        if self._dimension is None:
            return []
        with self._asking("searching"):
            where = None if condition is None else await self._awhere(condition)
            return await (await self._awaited_clients.client()).words(query, k, where)

    async def _awhere(self, condition: Condition) -> Any:
        if not self.going_through or not has_orders(condition, self.dialect):
            return self._where(condition)
        told = await self._atold()
        return compiled(condition, self.dialect, lambda asked: [name for name, metadata in told if matches(asked, metadata)])

    async def _atold(self) -> list[tuple[str, dict[str, Any]]]:
        """Return every passage's id and metadata."""
        rows = await (await self._awaited_clients.client()).rows()
        return [(name, metadata_of(text)) for name, _, text in rows]
