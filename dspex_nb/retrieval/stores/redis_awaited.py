"""`AwaitedRedis`: an index of Redis, by its asyncio client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dspex_nb.passages import Passage
from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.stores.redis import FIELDS, decoded, fields_of, matched, rows_of

if TYPE_CHECKING:
    from dspex_nb.retrieval.stores.redis import Redis

_MOST = 16  # connections of a loop: further searches wait for one


class AwaitedRedis(Awaited):
    """An index, as one event loop reaches it.

    Args:
        store: Knows the commands.
        name: The index's name.
        client: Awaits them.
    """

    def __init__(self, store: Redis, name: str, client: Any) -> None:
        self._store, self._name, self._client = store, name, client

    async def write(self, rows: Block) -> None:
        """Store rows."""
        async with self._client.pipeline() as pipeline:
            for row in rows:
                pipeline.hset(self._store.key(row.key), mapping=fields_of(row))
            await pipeline.execute()

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._client.unlink(*(self._store.key(key_of(one)) for one in ids))

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.exists(self._store.key(key_of(one)))
            return [one for one, there in zip(ids, await pipeline.execute(), strict=True) if there]

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows."""
        keys = {key async for key in self._client.scan_iter(match=self._store.key("*"), count=1000)}
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hmget(key, FIELDS)
            return decoded(await pipeline.execute())

    async def size(self) -> int:
        """Return how many rows there are."""
        return int((await self._client.execute_command("FT.SEARCH", self._name, "*", "LIMIT", 0, 0))[0])

    async def found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        return rows_of(await self._client.execute_command(*self._store.to_find(vector, k, where)))

    async def words(self, query: str, k: int, where: Any) -> list[Passage]:
        """Return the best passages by words."""
        asked = self._store.to_match(query, k, where)
        return [] if asked is None else matched(await self._client.execute_command(*asked))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose(close_connection_pool=True)


def opened(store: Redis, name: str, reached: dict[str, Any]) -> AwaitedRedis:
    """Reach an index in the running loop; it connects when first asked."""
    from redis import asyncio as redis

    pool = redis.BlockingConnectionPool.from_url(**reached, max_connections=_MOST, timeout=None)
    return AwaitedRedis(store, name, redis.Redis(connection_pool=pool))
