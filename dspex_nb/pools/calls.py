"""The ways to have calls made, the same for a pool, for a pool with options, and for a session."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from dspex_nb.errors import PoolError
from dspex_nb.pools.channels import BUFFER, Channel
from dspex_nb.pools.futures import PoolFuture
from dspex_nb.pools.streams import PoolStream
from dspex_nb.pools.tasks import Task
from dspex_nb.scopes import Scope

Work = Callable[..., Any] | str
ReturnAs = Literal["list", "generator", "generator_unordered"]


class TakesTasks(Protocol):
    """What calls need of a pool."""

    @property
    def size(self) -> int:
        """How many slots it has."""
        ...

    def run(self, task: Task) -> PoolFuture:
        """Have `task` done."""
        ...


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What holds for the tasks of one `pool.options(…)`; see `Task`."""

    priority: int = 0
    timeout_s: float | None = None
    idempotent: bool = False
    scope: Scope | None = None


_PLAIN = TaskOptions()


class Calls:
    """submit, call, map and stream, and their asynchronous forms. `pool.options(priority=1)` gives them with options."""

    def __init__(self, pool: TakesTasks, options: TaskOptions = _PLAIN) -> None:
        self._pool, self._options = pool, options

    def options(self, **changes: Any) -> Calls:
        """Return the same calls with other options.

        Args:
            **changes: `priority` (a higher one goes first), `timeout_s`, `idempotent` (may run again if its worker dies),
                `scope` (the run whose log takes what the worker says).

        Raises:
            PoolError: An option that does not exist.
        """
        try:
            return self._with(replace(self._options, **changes))
        except TypeError as error:
            raise PoolError(f"{error}", hint="options: priority, timeout_s, idempotent, scope") from error

    def submit(self, fn: Work, /, *args: Any, **kwargs: Any) -> PoolFuture:
        """Have `fn(*args, **kwargs)` called on a free slot; the future can be awaited, too.

        Raises:
            PoolFullError: The queue is full.
            PoolClosedError: The pool is closed.
            TransferError: The call cannot be sent to a worker process.
        """
        return self._pool.run(self._task(fn, args, kwargs))

    def call(self, fn: Work, /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` in the pool and return its value."""
        return self.submit(fn, *args, **kwargs).result()

    async def acall(self, fn: Work, /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` in the pool without blocking the running event loop; cancelling this ends the task."""
        return await self.submit(fn, *args, **kwargs)

    def map(self, fn: Work, *iterables: Iterable[Any], timeout_s: float | None = None, return_as: ReturnAs = "generator") -> Any:
        """Call `fn` with each item; at most two tasks a slot are in the pool at once, so inputs may be endless.

        Args:
            fn: The function.
            *iterables: Its arguments, as for the built-in `map`.
            timeout_s: Seconds one call may take.
            return_as: `"generator"` in order, `"generator_unordered"` as they finish, or `"list"`. A generator that is not
                read holds the work back.
        """
        tasks = (self._task(fn, args, {}, timeout_s) for args in zip(*iterables, strict=False))
        results = self._as_finished(tasks) if return_as == "generator_unordered" else self._in_order(tasks)
        return list(results) if return_as == "list" else results

    async def amap(
        self, fn: Work, items: Iterable[Any] | AsyncIterable[Any], *, timeout_s: float | None = None, ordered: bool = True
    ) -> AsyncIterator[Any]:
        """Yield `fn` of each item, in order or as they finish, reading at most two items a slot ahead."""
        waiting: deque[PoolFuture] = deque()
        try:
            async for item in _asynchronous(items):
                waiting.append(self._pool.run(self._task(fn, (item,), {}, timeout_s)))
                while len(waiting) >= self._width:
                    yield await (await _next_of(waiting, ordered=ordered))
            while waiting:
                yield await (await _next_of(waiting, ordered=ordered))
        finally:
            for future in waiting:
                future.cancel()

    def stream(self, fn: Work, /, *args: Any, **kwargs: Any) -> PoolStream:
        """Run a generator function (asynchronous ones too) in the pool and return its items as they come, in order."""
        task = self._task(fn, args, kwargs)
        task.channel = Channel(BUFFER)
        return PoolStream(self._pool.run(task), task.channel)

    def _task(self, fn: Work, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None = None) -> Task:
        chosen = self._options
        if chosen is _PLAIN and timeout_s is None:
            return Task(fn, args, kwargs)
        limit = chosen.timeout_s if timeout_s is None else timeout_s
        return Task(fn, args, kwargs, timeout_s=limit, priority=chosen.priority, idempotent=chosen.idempotent, scope=chosen.scope)

    def _with(self, options: TaskOptions) -> Calls:
        return Calls(self._pool, options)

    @property
    def _width(self) -> int:
        return 2 * self._pool.size

    def _in_order(self, tasks: Iterator[Task]) -> Iterator[Any]:
        waiting: deque[PoolFuture] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.run(task))
                if len(waiting) >= self._width:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, an interrupt, or a consumer that went away: nothing may run on
            for future in waiting:
                future.cancel()

    def _as_finished(self, tasks: Iterator[Task]) -> Iterator[Any]:
        waiting: set[PoolFuture] = set()
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            for task in tasks:
                waiting.add(future := self._pool.run(task))
                future.add_done_callback(finished.put)
                if len(waiting) >= self._width:
                    waiting.discard(done := finished.get())
                    yield done.result()
            while waiting:
                waiting.discard(done := finished.get())
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


async def _asynchronous(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _next_of(waiting: deque[PoolFuture], *, ordered: bool) -> PoolFuture:
    """Take the future whose turn it is out of `waiting`."""
    if ordered:
        return waiting.popleft()
    if not any(future.done() for future in waiting):
        await asyncio.wait({asyncio.ensure_future(_over(future)) for future in waiting}, return_when=asyncio.FIRST_COMPLETED)
    found = next(future for future in waiting if future.done())
    waiting.remove(found)
    return found


async def _over(future: PoolFuture) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(over.set))
    await over.wait()
