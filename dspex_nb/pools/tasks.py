"""A task for a pool, and the slot that is held for a session's tasks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.events import LogWritten
from dspex_nb.pools.channels import Channel
from dspex_nb.pools.futures import PoolFuture
from dspex_nb.scopes import Scope


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
class Lease:
    """A slot held for one key.

    Attributes:
        lane: The slot's index.
        initializer: Builds the state in a new worker, None if only the session's own calls do.
        ttl_s: Seconds without a call after which it ends, also while a `with` block is open; None: it ends with the block.
        holders: Open `with` blocks.
        waiting: Calls not over yet.
        generation: Of the worker that has the state, None before the first call.
        over: Why it is no longer valid, empty while it is.
    """

    key: str
    lane: int
    initializer: Task | None = None
    ttl_s: float | None = None
    holders: int = 1
    waiting: int = 0
    generation: int | None = None
    over: str = ""
    used_at: float = field(default_factory=time.monotonic)

    def left_s(self, now: float) -> float:
        """Return the seconds after which it ends if no call comes."""
        return float("inf") if self.ttl_s is None or self.waiting else self.used_at + self.ttl_s - now


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
        counts: Whether it is a task of the user's, to be counted.
        follows: Whether it is submitted where another task ends, and nobody there waits for it.
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
    counts: bool = True
    follows: bool = False
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
