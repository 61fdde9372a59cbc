"""`AwaitedConnections`: connections to PostgreSQL that are awaited, each in the event loop that made it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, proxy

if TYPE_CHECKING:
    import psycopg

    from dspex_nb.retrieval.postgres_connections import Connections

_MOST = 16  # open at once in a loop: further searches wait for one, and the server keeps room for others
_KEPT = 8


@dataclass(slots=True)
class _OfLoop:
    """The idle connections of one event loop, and leave to open more."""

    idle: deque[psycopg.AsyncConnection[Any]] = field(default_factory=deque)
    leave: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST))


class AwaitedConnections:
    """Lends connections to awaited searches; a loop that ended takes its own with it.

    Args:
        blocking: Those that are not awaited: how to connect, and how errors are told.
    """

    def __init__(self, blocking: Connections) -> None:
        self._blocking: Connections = proxy(blocking)  # which holds this: forgotten, it closes its connections at once
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = WeakKeyDictionary()

    @staticmethod
    def possible() -> bool:
        """Return whether the running loop can wait for psycopg's sockets: Windows' usual one cannot."""
        return not isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ()))

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend a connection that commits each statement by itself; raises what `Connections.borrow` does."""
        import psycopg

        mine = self._mine()
        async with mine.leave:
            try:
                connection = await self._take(mine)
                try:
                    yield connection
                finally:
                    clean = not connection.closed and connection.info.transaction_status.name == "IDLE"
                    if clean and len(mine.idle) < _KEPT:
                        mine.idle.append(connection)
                    else:
                        await connection.close()
            except psycopg.Error as error:
                raise self._blocking.told(error) from None  # the original may hold the connection string

    def close(self) -> None:
        """Close the idle connections of all loops."""
        for loop in list(self._loops):
            self._finish(loop)

    def _mine(self) -> _OfLoop:
        for loop in list(self._loops):
            if loop.is_closed():
                self._finish(loop)
        return self._loops.setdefault(asyncio.get_running_loop(), _OfLoop())

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        found = self._loops.pop(loop, None)
        while found is not None and found.idle:
            connection = found.idle.popleft()
            connection._closed = True  # noqa: SLF001 - its own `close` would have to be awaited in a loop that is gone
            connection.pgconn.finish()

    async def _take(self, mine: _OfLoop) -> psycopg.AsyncConnection[Any]:
        import psycopg

        while mine.idle:
            connection = mine.idle.popleft()
            try:
                await connection.execute("SELECT 1")  # the server may have been restarted since
            except psycopg.Error:
                await connection.close()
            else:
                return connection
        options, limit, values = self._blocking.begin
        connection = await psycopg.AsyncConnection.connect(**options)
        await connection.execute(limit, values)
        return connection
