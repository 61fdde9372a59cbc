"""`AwaitedQdrant`: a collection on a Qdrant server, by its asyncio client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.stores.qdrant import PAGE, asked, ids_of, named, passages_of, points_of, rows_of


class AwaitedQdrant(Awaited):
    """A collection, as one event loop reaches it."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    async def write(self, rows: Block) -> None:
        """Store rows."""
        await self._client.upsert(self._name, points_of(rows), wait=True)

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._client.delete(self._name, named(ids), wait=True)

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        return ids_of(await self._client.retrieve(self._name, [key_of(one) for one in ids], with_payload=["id"]))

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows."""
        found: list[tuple[str, str, str]] = []
        offset: Any = None
        while True:
            points, offset = await self._client.scroll(self._name, offset=offset, **PAGE)
            found += passages_of(points)
            if offset is None:
                return found

    async def size(self) -> int:
        """Return how many rows there are."""
        return int((await self._client.count(self._name, exact=True)).count)

    async def found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        return rows_of((await self._client.query_points(self._name, **asked(vector, k, where))).points)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def opened(name: str, reached: dict[str, Any]) -> AwaitedQdrant:
    """Reach a collection in the running loop; it connects when first asked."""
    from qdrant_client import AsyncQdrantClient

    return AwaitedQdrant(AsyncQdrantClient(**reached), name)
