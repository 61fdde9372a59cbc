"""`AwaitedChroma`: a collection on a Chroma server, by its asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.stores.chroma import asked, fields_of, quiet, rows_of, told_of


class AwaitedChroma(Awaited):
    """A collection, as one event loop reaches it."""

    def __init__(self, client: Any, collection: Any) -> None:
        self._client, self._collection, self._writing = client, collection, asyncio.Lock()

    async def write(self, rows: Block) -> None:
        """Store rows."""
        async with self._writing:  # of two that replace the same record, the second must see the first's fields
            there = await self._collection.get(ids=rows.ids, include=["metadatas"])
            await self._collection.upsert(**fields_of(rows, there))

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._collection.delete(ids=ids)

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        there: list[str] = (await self._collection.get(ids=ids, include=[]))["ids"]
        return there

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows."""
        found = await self._collection.get(include=["metadatas"])
        return told_of(found["ids"], found["metadatas"])

    async def size(self) -> int:
        """Return how many rows there are."""
        return int(await self._collection.count())

    async def found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        from chromadb.errors import InternalError

        try:
            return rows_of(await self._collection.query(**asked(vector, k, where)))
        except InternalError:  # the collection was made a moment ago and holds nothing yet
            return rows_of(await self._collection.query(**asked(vector, k, where))) if await self.size() else []

    async def close(self) -> None:
        """Close the connections."""
        await self._client.__aexit__(None, None, None)  # its only public way


async def opened(name: str, server: dict[str, Any]) -> AwaitedChroma:
    """Reach a collection on a server in the running loop.

    Chroma keeps the connections of all its asyncio clients in one dict, by the loop's address in memory: a client may send
    another's token, and a new loop may get a dead one's connections. So this one is made of its parts, with its own dict.
    """
    from chromadb.api import ServerAPI
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.config import System

    settings = quiet()
    settings.chroma_api_impl = "chromadb.api.async_fastapi.AsyncFastAPI"
    settings.chroma_server_host, settings.chroma_server_http_port = server["host"], server["port"]
    settings.chroma_server_ssl_enabled, settings.chroma_server_headers = server["ssl"], server["headers"]
    client: Any = System(settings).instance(ServerAPI)
    client._clients = {}  # noqa: SLF001 - there is no public way
    return AwaitedChroma(client, AsyncCollection(client=client, model=await client.get_collection(name), embedding_function=None))
