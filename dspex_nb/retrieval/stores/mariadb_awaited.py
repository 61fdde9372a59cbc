"""`AwaitedMariaDb`: a table of MariaDB, by its connector's asyncio connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from dspex_nb.passages import Passage
from dspex_nb.retrieval.awaited import Awaited
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.sql import ALL, SIZE, Statement
from dspex_nb.retrieval.stores.mariadb import matched

if TYPE_CHECKING:
    from dspex_nb.retrieval.stores.mariadb import MariaDb

_MOST = 16  # connections of a loop: further searches wait for one, and the server keeps room for others
_KEPT = 8


class AwaitedMariaDb(Awaited):
    """A table, as one event loop reaches it.

    Args:
        store: Knows the statements.
        reached: How to connect.
    """

    def __init__(self, store: MariaDb, reached: dict[str, Any]) -> None:
        self._store, self._reached = store, reached
        self._idle: deque[Any] = deque()
        self._leave, self._writing = asyncio.Semaphore(_MOST), asyncio.Lock()

    async def write(self, rows: Block) -> None:
        """Store rows, all or none."""
        await self._run_all(self._store.to_put(rows))

    async def remove(self, ids: list[str]) -> None:
        """Remove rows."""
        await self._run_all(self._store.to_remove(ids))

    async def held(self, ids: list[str]) -> Iterable[str]:
        """Return which ids are there."""
        return [row[0] for row in await self._run(*self._store.to_look(ids))]

    async def rows(self) -> Iterable[tuple[str, str, str]]:
        """Return all rows."""
        return await self._run(self._said(ALL))

    async def size(self) -> int:
        """Return how many rows there are."""
        return int((await self._run(self._said(SIZE)))[0][0])

    async def found(self, vector: Any, k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        """Return the nearest rows."""
        return await self._run(*self._store.to_find(vector, k, where))

    async def words(self, query: str, k: int, where: Statement | None) -> list[Passage]:
        """Return the best passages by words."""
        asked = self._store.to_match(query, k, where)
        return [] if asked is None else matched(await self._run(*asked))

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.popleft().close()

    def _said(self, statement: str) -> str:
        return self._store._said(statement)  # noqa: SLF001 - its own statements, awaited

    async def _run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        async with self._cursor() as cursor:
            await cursor.execute(statement, tuple(values))
            return list(await cursor.fetchall())

    async def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        async with self._writing, self._cursor() as cursor:  # two that write the same rows would wait in a circle
            await cursor.execute("START TRANSACTION")
            for statement, rows in statements:
                await cursor.executemany(statement, rows)
            await cursor.execute("COMMIT")

    @asynccontextmanager
    async def _cursor(self) -> AsyncIterator[Any]:
        """Lend a connection's cursor; one that broke off is closed, and the server undoes what was not committed."""
        async with self._leave:
            connection = await self._taken()
            kept = False
            try:
                cursor = connection.cursor()
                yield cursor
                await cursor.close()
                kept = len(self._idle) < _KEPT
            finally:
                if kept:
                    self._idle.append(connection)
                else:
                    await connection.close()

    async def _taken(self) -> Any:
        while self._idle:
            connection = self._idle.popleft()
            with suppress(Exception):  # the server may have been restarted since
                await connection.ping()
                return connection
            await connection.close()
        # The package's quicker one, in C, keeps the event loop busy as long as a connection is open.
        from mariadb.async_connection import AsyncConnection

        return await AsyncConnection.connect(**self._reached)
