"""What a call gave, as a plain value or as plain iteration: coroutines are run, asynchronous generators read."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any


def whole(value: Any) -> Any:
    """Return the value, a coroutine's after running it."""
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def each(value: Any) -> Iterator[Any]:
    """Return an iterator over a generator's, an asynchronous generator's or any iterable's items."""
    return _of_async(value) if hasattr(value, "__aiter__") else iter(value)


def _of_async(items: AsyncIterator[Any]) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    yield runner.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                runner.run(_await(close()))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


async def _await(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await awaitable
