"""`AwaitedFalkorDb`: a graph of FalkorDB, by its asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.cypher import ALL, HELD, REMOVING, SIZE, values_of

_MOST = 16  # connections of a loop: further searches wait for one


class AwaitedFalkorDb(Awaited):
    """A graph, as one event loop reaches it.

    Args:
        graph: The client's graph.
        pool: Its connections.
        said: Fills in a statement's label and condition.
        putting: The statement that stores rows.
        finding: The one that finds the nearest.
    """

    def __init__(self, graph: Any, pool: Any, said: Callable[..., str], putting: str, finding: str) -> None:
        self._graph, self._pool, self._said = graph, pool, said
        self._putting, self._finding = putting, finding

    async def write(self, rows: Block) -> None:
        """Store rows."""
        await self._run(self._said(self._putting), values_of(rows))

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._run(self._said(REMOVING), {"ids": ids})

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        return [row[0] for row in await self._run(self._said(HELD), {"ids": ids})]

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows."""
        return await self._run(self._said(ALL))

    async def size(self) -> int:
        """Return how many rows there are."""
        return int((await self._run(self._said(SIZE)))[0][0])

    async def found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        return await self._run(self._said(self._finding, where or "true"), {"vector": vector, "k": k})

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _run(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        return (await self._graph.query(statement, values or {})).result_set  # type: ignore[no-any-return]


async def opened(name: str, reached: dict[str, Any], said: Callable[..., str], putting: str, finding: str) -> AwaitedFalkorDb:
    """Reach a graph in the running loop."""
    from falkordb.asyncio import FalkorDB
    from redis.asyncio import BlockingConnectionPool

    pool = BlockingConnectionPool(max_connections=_MOST, timeout=None, protocol=2, decode_responses=True, **reached)
    client = await asyncio.to_thread(FalkorDB, connection_pool=pool)  # it looks for a cluster, without being awaited
    return AwaitedFalkorDb(client.select_graph(name), pool, said, putting, finding)
