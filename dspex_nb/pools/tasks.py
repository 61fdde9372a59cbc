"""A task for a pool, and its future: resolved once, and cancellable also while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any


class PoolFuture(Future[Any]):
    """The result to come of one task.

    Unlike a plain `Future`, `cancel` works on a running task too: its worker process is killed, or its thread abandoned
    and the result discarded. It stays in the pending state while it runs, which is what lets `concurrent.futures.wait`
    and `asyncio.wrap_future` see that cancellation as any other; ask `running()` for the truth.
    """

    def __init__(self) -> None:
        super().__init__()
        self._once = threading.Lock()
        self._running = False
        self._break_off: Callable[[], None] = lambda: None

    def running(self) -> bool:
        """Return whether the task has started and is not over."""
        return self._running and not self.done()

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


@dataclass(slots=True, eq=False)
class Task:
    """One call to make: `fn(*args, **kwargs)`.

    Attributes:
        timeout_s: Seconds from its start after which it is broken off; None means the pool's own limit.
        lane: Index of the slot it must run on (a session's), None for any.
        meets: Asked with the worker's generation before the start; False refuses it, for a restarted worker has lost the
            session's state.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    lane: int | None = None
    meets: Callable[[int], bool] | None = None
    payload: Any = None
    future: PoolFuture = field(default_factory=PoolFuture)
    context: Context = field(default_factory=copy_context)

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__
