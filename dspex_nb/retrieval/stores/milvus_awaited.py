"""`AwaitedMilvus`: a collection on a Milvus server, by its asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.stores.milvus import FIELDS, fields_of, ids_of, rows_of, told_of

_PAGE = 1000
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class AwaitedMilvus(Awaited):
    """A collection, as one event loop reaches it."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    async def write(self, rows: Block) -> None:
        """Store rows."""
        await self._client.upsert(self._name, fields_of(rows))

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._client.delete(self._name, ids=[key_of(one) for one in ids])

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        return ids_of(await self._client.get(self._name, ids=[key_of(one) for one in ids], output_fields=FIELDS))

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows, page by page in the order of their keys, as the called client's iterator does."""
        found: list[tuple[str, str, str]] = []
        after = ""
        while True:
            page = await self._client.query(
                self._name,
                filter=f'key > "{after}"',
                output_fields=["key", *FIELDS],
                limit=_PAGE,
                iterator="True",
                reduce_stop_for_best="True",
            )
            found += map(told_of, page)
            if len(page) < _PAGE:
                return found
            after = max(row["key"] for row in page)

    async def size(self) -> int:
        """Return how many rows there are."""
        found = await self._client.query(self._name, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    async def found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        found = await self._client.search(self._name, [vector], limit=k, filter=where or "", output_fields=FIELDS)
        return rows_of(found)

    async def close(self) -> None:
        """Close the connection."""
        async with _turn():
            await self._client.close()


async def opened(name: str, reached: dict[str, Any]) -> AwaitedMilvus:
    """Reach a collection on a server in the running loop."""
    from pymilvus import AsyncMilvusClient

    client = AsyncMilvusClient(**reached, dedicated=True)
    async with _turn():
        await client.has_collection(name)  # connects
    return AwaitedMilvus(client, name)


def _turn() -> asyncio.Lock:
    """Return what lets one client of a loop connect or close at a time.

    Milvus does so under a lock that it finds by the loop's address in memory; had two waited for it, a later loop at the same
    address could not use it.
    """
    return _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())
