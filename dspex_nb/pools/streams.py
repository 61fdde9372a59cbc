"""The items of a generator that runs in a pool: in order, as they are yielded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, wait
from types import TracebackType
from typing import Any, Self

from dspex_nb.pools.channels import Channel
from dspex_nb.pools.futures import PoolFuture

_GRACE_S = 0.5


class PoolStream:
    """Iterate it, with `for` or `async for`; leave it early with `close`, or use it in a `with` block.

    Attributes:
        future: The task itself: its value is how many items there were, its error what the generator raised.
    """

    def __init__(self, future: PoolFuture, channel: Channel) -> None:
        self.future, self._channel = future, channel
        future.add_done_callback(lambda _: channel.end())

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            found = self._channel.take()
        except KeyboardInterrupt:
            self.future.interrupt()
            raise
        if found:
            return found[0]
        self.future.result()
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            changed = loop.create_future()

            def tell(changed: asyncio.Future[None] = changed) -> None:
                loop.call_soon_threadsafe(_settle, changed)

            found = self._channel.take(tell)
            if found:
                return found[0]
            if found is not None:
                self.future.result()
                raise StopAsyncIteration
            try:
                await changed
            except asyncio.CancelledError:
                self.future.cancel()
                raise

    def close(self) -> None:
        """Have the generator closed; one that does not come to its next `yield` in half a second is broken off."""
        if self.future.done():
            return
        if not self.future.running():
            self.future.cancel()
            return
        self._channel.stop()
        wait([self.future], _GRACE_S)
        self.future.cancel()

    async def aclose(self) -> None:
        """Close without blocking the running event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.future.done():  # dropped by its reader: its slot must not wait for ever
            with contextlib.suppress(Exception, CancelledError):
                self._channel.stop()


def _settle(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)
