"""A function step's call: sync, async, generator and async generator functions, here or in a pool.

Async functions run as tasks of the process's one loop, so that several at once overlap; generators are read to the end, and
each item is an event as it comes, from another process too. A stopped step's task is cancelled, its generator closed. What a
function asks of a model belongs to its run: events land there, and the run's stop reaches it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, wait
from contextvars import Context
from dataclasses import replace
from types import FunctionType
from typing import Any

from dspex_nb.ambient import Session, running
from dspex_nb.events import ItemYielded
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import Pool, Task, crew
from dspex_nb.pools.channels import BUFFER, Channel
from dspex_nb.pools.loop import loop_thread
from dspex_nb.pools.streams import PoolStream
from dspex_nb.scopes import CancelToken, Scope

_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_WHOLE = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
_SPECIAL = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_LOOK_S = 0.2  # an interrupt does not end a wait on every system


def is_async(function: Any) -> bool:
    """Return whether calling it gives something to await, or to iterate with `async for`."""
    return _is(function, inspect.iscoroutinefunction) or _is(function, inspect.isasyncgenfunction)


def _is(function: Any, test: Callable[[Any], bool]) -> bool:
    return test(function) or (not inspect.isroutine(function) and test(getattr(type(function), "__call__", None)))  # noqa: B004


def _is_plain(function: Any) -> bool:
    """Whether a function certainly just returns; asked at each call, so it looks at flags and asks `inspect` nothing."""
    return type(function) is FunctionType and not function.__code__.co_flags & _SPECIAL and not function.__dict__


def call_function(step: Step, session: Session, scope: Scope, name: str, values: dict[str, Any]) -> Any:
    """Call a step's function and return its value: what it returned, awaited, or the list of what it yielded.

    Args:
        step: The step, whose kind is `"function"`.
        session: Where its pool is.
        scope: Whose events and cancellation these are.
        name: The step's full name, for events.
        values: Its arguments by name; those it takes by position only are taken out.
    """
    args = _positional(step, values)
    if step.pool is None:
        return call_here(step, scope, name, values, args)
    token = running.set((scope, name))
    try:
        task, pool = Task(step.callable, args, values, step.timeout_s), pool_of(step, session)
        _make_whole_there(task, scope, name, separate=pool.separate)
        return call_in_pool(pool, scope, name, task)
    finally:
        running.reset(token)


def is_call(step: Step) -> bool:
    """Whether a step is one call of a plain function in this thread: nothing before it, nothing after it."""
    asks_more = step.pool or step.retry or step.over or step.timeout_s is not None or step.when or step.positional
    return step.kind == "function" and not asks_more and _is_plain(step.callable)


def call_here(step: Step, scope: Scope, name: str, values: dict[str, Any], args: tuple[Any, ...] = ()) -> Any:
    """Call a step's function in this thread; all there is to do for a step that `is_call`."""
    token = running.set((scope, name))
    try:
        return _whole(step.callable(*args, **values), scope, name)
    finally:
        running.reset(token)


def is_task(step: Step) -> bool:
    """Whether a step is one call of a plain function in a pool: nothing before it, nothing after it."""
    return step.kind == "function" and step.pool is not None and not step.retry and not step.over and _is_plain(step.callable)


def task_of(step: Step, scope: Scope, name: str, values: dict[str, Any], context: Context) -> Task:
    """Return the call of a step that `is_task`.

    Args:
        step: The step.
        scope: Whose events and cancellation these are.
        name: The step's full name.
        values: As for `call_function`.
        context: The context variables of who runs the pipeline: the calling thread may be another one.
    """
    own = context.copy()
    own.run(running.set, (scope, name))
    return Task(step.callable, _positional(step, values), values, step.timeout_s, context=own)


def _positional(step: Step, values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values.pop(name) for name in step.positional if name in values) if step.positional else ()


def _make_whole_there(task: Task, scope: Scope, name: str, *, separate: bool) -> None:
    """See to what a generator or a coroutine comes to: neither can leave its process, their items and values can."""
    function: Any = task.fn
    if _is_plain(function):
        return
    if separate:  # a worker awaits what is to be awaited
        if any(_is(function, test) for test in _GENERATORS):
            task.channel = Channel(BUFFER)
    elif is_async(function) or _is(function, inspect.isgeneratorfunction):
        task.fn = _Named(functools.partial(_here, _until_over(task, scope), name), function)


def _until_over(task: Task, scope: Scope) -> Scope:
    """Return the scope, stopped also as the task ends: a time limit leaves its thread behind, but not its coroutine."""
    token = CancelToken()
    forget = scope.cancel.on_cancel(token.cancel)

    def over(_: object) -> None:
        forget()
        token.cancel()

    task.future.add_done_callback(over)
    return replace(scope, cancel=token)


def pool_of(step: Step, session: Session) -> Pool:
    """Return the pool that a step names."""
    found: Pool = session.pools.get(step.pool) if isinstance(step.pool, str) else step.pool
    return found


def call_in_pool(pool: Pool, scope: Scope, name: str, task: Task) -> Any:
    """Run a task of a step in its pool and return its value, a stream's as a list; a stop of the run ends it there."""
    task.scope = scope if scope.step == name else scope.at_step(name)
    future = pool.run(task)

    def stop() -> None:
        future.cancel()

    forget = scope.cancel.on_cancel(stop)
    try:
        if task.channel is not None:
            return _collected(PoolStream(future, task.channel), scope, name)
        return future.result()
    except BaseException:
        future.cancel()
        scope.cancel.check()
        raise
    finally:
        forget()


class _Named:
    """A call made in a way of ours, under the name of the user's function; it may travel to another process."""

    def __init__(self, whole: Callable[..., Any], function: Callable[..., Any]) -> None:
        self.whole, self.function = whole, function
        self.__qualname__ = getattr(function, "__qualname__", None) or type(function).__qualname__

    def __call__(self, *args: Any, **values: Any) -> Any:
        return self.whole(self.function, *args, **values)


def _here(scope: Scope, name: str, function: Callable[..., Any], /, *args: Any, **values: Any) -> Any:
    return _whole(function(*args, **values), scope, name)


def _whole(value: Any, scope: Scope, name: str) -> Any:
    """Return what a call gave, made whole."""
    if type(value) in _WHOLE:  # most are, and the questions below take longer than a small step
        return value
    if inspect.isgenerator(value):
        return _collected(value, scope, name)
    if inspect.isasyncgen(value):
        return _awaited(_all(value, _Teller(scope, name)), scope.cancel)
    if inspect.isawaitable(value):
        return _awaited(_of(value), scope.cancel)
    return value


class _Teller:
    """Publishes the items of one step."""

    __slots__ = ("count", "name", "scope")

    def __init__(self, scope: Scope, name: str) -> None:
        self.scope, self.name, self.count = scope, name, 0

    def __call__(self, item: Any) -> None:
        self.scope.publish(ItemYielded(run_id=self.scope.run_id, step=self.name, index=self.count, item=item))
        self.count += 1


def _collected(items: Generator[Any, Any, Any] | PoolStream, scope: Scope, name: str) -> list[Any]:
    tell, found = _Teller(scope, name), []
    try:
        for item in items:
            found.append(item)
            tell(item)
            if scope.cancel.cancelled:
                scope.cancel.check()
    finally:
        items.close()
    return found


async def _all(items: AsyncIterator[Any], tell: Callable[[Any], None]) -> list[Any]:
    found = []
    async for item in items:
        found.append(item)
        tell(item)
    return found


async def _of(value: Any) -> Any:
    return await value


def _awaited(coroutine: Coroutine[Any, Any, Any], cancel: CancelToken) -> Any:
    """Run a coroutine on the process's loop, with this thread's context variables, and return its value."""
    loop = loop_thread.get()
    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - the public call raises; this thread must not wait for itself
        return crew.start(asyncio.run, coroutine).result()
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)

    def stop() -> None:
        future.cancel()

    forget = cancel.on_cancel(stop)
    try:
        while not future.done():
            wait([future], _LOOK_S)
        return future.result()
    except CancelledError:
        cancel.check()
        raise
    finally:
        forget()
        future.cancel()  # pressed ■, a time limit: the task must not go on
