"""`OfLoops`: something that belongs to one event loop, opened for each that asks and closed when the loop ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast


class Closes(Protocol):
    """What can be closed by being awaited."""

    async def close(self) -> Any:
        """Give back connections."""


Client = TypeVar("Client", bound=Closes)


@dataclass(slots=True)
class _Life(Generic[Client]):
    """What one loop has of it: the client while it is open, and the course that closes it."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    client: Client | None = None
    course: AsyncGenerator[Client, None] | None = None


class OfLoops(Generic[Client]):
    """One client for each event loop.

    `asyncio.run` ends the async generators of its loop before the loop itself, so a client lives in one: a script's next loop
    finds no connection of the last, and a notebook's loop keeps its client.

    Args:
        opened: Opens a client in the running loop.
    """

    def __init__(self, opened: Callable[[], Awaitable[Client]]) -> None:
        self._opened = opened
        self._lives: dict[asyncio.AbstractEventLoop, _Life[Client]] = {}
        self._lock = threading.Lock()

    async def client(self) -> Client:
        """Return the running loop's client; of many that ask at once, one opens it."""
        life = self._life()
        if life.client is not None:
            return life.client
        async with life.opening:
            if life.client is None:
                life.course = self._course(life)
                await anext(life.course)
            return cast("Client", life.client)

    def close(self) -> None:
        """Close all clients, each in its own loop."""
        with self._lock:
            lives = list(self._lives.items())
        for loop, life in lives:
            if life.course is not None and not loop.is_closed():
                loop.call_soon_threadsafe(_end, life.course)

    def _life(self) -> _Life[Client]:
        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [one for one in self._lives if one.is_closed()]:
                del self._lives[other]
            return self._lives.setdefault(loop, _Life())

    async def _course(self, life: _Life[Client]) -> AsyncGenerator[Client, None]:
        client = life.client = await self._opened()
        try:
            yield client
        finally:
            life.client = None
            await client.close()


def _end(course: AsyncGenerator[Any, None]) -> None:
    task = asyncio.ensure_future(course.aclose())
    _ENDING.add(task)
    task.add_done_callback(_ENDING.discard)


_ENDING: set[asyncio.Future[None]] = set()  # a loop holds its tasks weakly
