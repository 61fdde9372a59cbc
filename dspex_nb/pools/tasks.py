"""A task for a pool, and its future: resolved once, and cancellable also while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_nb.events import LogWritten
from dspex_nb.scopes import Scope

if TYPE_CHECKING:
    from dspex_nb.pools.sessions import Lease
    from dspex_nb.pools.streams import Channel


class PoolFuture(Future[Any]):
    """The result to come of one task; also to be awaited.

    Unlike a plain `Future`, `cancel` works on a running task too: its worker process is killed, or its thread abandoned
    and the result discarded. It stays in the pending state while it runs, which is what lets `concurrent.futures.wait`
    and `asyncio.wrap_future` see that cancellation as any other; ask `running()` for the truth.

    Attributes:
        abandoned: Whether it was broken off in a thread, which cannot be killed and runs on unheeded.
    """

    def __init__(self) -> None:
        super().__init__()
        self._once = threading.Lock()
        self._running = False
        self._break_off: Callable[[], None] = lambda: None
        self.abandoned = False

    def running(self) -> bool:
        """Return whether the task has started and is not over."""
        return self._running and not self.done()

    def result(self, timeout: float | None = None) -> Any:
        """Return the value, or raise the task's error; an interrupt (■) while it waits ends the task."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            self.interrupt()
            raise

    def interrupt(self) -> None:
        """Cancel because the user pressed ■, and say so where the work cannot be killed."""
        self.cancel()
        if self.abandoned:
            text = (
                "interrupted work runs on in its thread, which cannot be killed: it was abandoned, its result will be discarded"
            )
            warnings.warn(f"{text}; a pool with backend='loky' ends such work", RuntimeWarning, stacklevel=3)

    def cancel(self) -> bool:
        """Stop the task, also while it runs; False if it was over already."""
        with self._once:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            super().set_running_or_notify_cancel()
        self._break_off()
        return True

    def resolve(self, value: Any) -> bool:
        """Set the result; False if it was resolved already."""
        with contextlib.suppress(InvalidStateError):
            self.set_result(value)
            return True
        return False

    def fail(self, error: BaseException) -> bool:
        """Set the error; False if it was resolved already."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)
            return True
        return False

    def started(self, break_off: Callable[[], None]) -> bool:
        """Note that the task starts; False if it is over already (cancelled while it waited)."""
        with self._once:
            self._running, self._break_off = True, break_off
            return not self.done()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in the running event loop; cancelling that wait cancels the task."""
        return asyncio.wrap_future(self).__await__()


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a worker printed, logged or warned, at `at` (seconds since the epoch) during `task`."""

    at: float
    worker: str
    task: str
    source: str
    level: str
    text: str


@dataclass(slots=True, eq=False)
class Task:
    """One call to make: `fn(*args, **kwargs)`.

    Attributes:
        fn: The function, or for worker processes its import path `"package.module:function"`.
        timeout_s: Seconds from its start, all attempts together, after which it is broken off; None means the pool's own limit.
        priority: Among waiting tasks a higher one goes first.
        idempotent: Whether it may run again if its worker dies.
        lease: The session whose slot it must run on, None for any slot.
        channel: Where the items of a stream go, None for a plain call.
        scope: The run its events and its worker's log belong to, None for the pool's own log only.
        payload: What the worker's `pack` made of it.
        delivered: Whether the worker has resolved the future itself.
    """

    fn: Callable[..., Any] | str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    priority: int = 0
    idempotent: bool = False
    lease: Lease | None = None
    channel: Channel | None = None
    scope: Scope | None = None
    payload: Any = None
    delivered: bool = False
    log: deque[LogLine] | None = None
    future: PoolFuture = field(default_factory=PoolFuture)
    context: Context = field(default_factory=copy_context)

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        if isinstance(self.fn, str):
            return self.fn
        inner = getattr(self.fn, "func", self.fn)  # of a functools.partial
        return getattr(inner, "__qualname__", None) or type(inner).__qualname__

    def said(self, worker: str, source: str, level: str, text: str) -> None:
        """Take what its worker printed, logged or warned into the pool's log and the run's."""
        if self.log is not None:
            self.log.append(LogLine(time.time(), worker, self.name, source, level, text))
        if self.scope is not None:
            step = self.scope.step or self.name
            self.scope.publish(
                LogWritten(run_id=self.scope.run_id, step=step, worker=worker, source=source, level=level, text=text)
            )
