"""A session: one worker of a pool for as long as it lasts, and the state that calls leave in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dspex_nb.errors import PoolError, SessionLostError
from dspex_nb.pools.calls import Calls, TaskOptions
from dspex_nb.pools.tasks import Task

if TYPE_CHECKING:
    from dspex_nb.pools.pool import Pool


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


class Session(Calls):
    """Calls that all run on one slot, which runs nothing else meanwhile. The same key, open twice, is the same session.

    If the slot's worker dies, the state is lost: later calls raise SessionLostError instead of meeting an empty worker,
    unless an initializer was given, which then builds it anew.
    """

    def __init__(
        self,
        pool: Pool,
        key: str,
        *,
        initializer: Callable[..., Any] | str | None = None,
        initargs: tuple[Any, ...] = (),
        ttl_s: float | None = None,
        wait_s: float | None = None,
        options: TaskOptions | None = None,
    ) -> None:
        super().__init__(pool, options or TaskOptions())
        self.pool, self.key, self.ttl_s, self.wait_s = pool, key, ttl_s, wait_s
        self._initializer = None if initializer is None else Task(initializer, initargs)
        self._lease: Lease | None = None

    def open(self) -> Self:
        """Take the slot: `with` does it. A session opened so ends by `close` or after its `ttl_s`."""
        if self._lease is None:
            self._lease = self.pool.lease(self.key, self._initializer, self.ttl_s, self.wait_s)
        return self

    def close(self) -> None:
        """Give the slot back, at once or, with `ttl_s`, when that has passed: until then the same key finds its state again."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self.pool.release(lease)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.key!r} of {self.pool!r}{' open' if self._lease else ''}>"

    @property
    def _width(self) -> int:
        return 2  # one slot

    def _with(self, options: TaskOptions) -> Calls:
        held = _Held(self._pool, options)
        held.held = self
        return held

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None = None) -> Task:
        return self.bind(super()._task(fn, args, kwargs, timeout_s))

    def bind(self, task: Task) -> Task:
        """Pin a task to the session's slot.

        Raises:
            PoolError: The session is not open.
            SessionLostError: It ended meanwhile.
        """
        if self._lease is None:
            raise PoolError(f"session {self.key!r} is not open", hint="use it as `with pool.session(key) as s: s.call(…)`")
        if self._lease.over:
            raise SessionLostError(f"session {self.key!r} {self._lease.over}, its state is gone", hint="open it again")
        task.lease = self._lease
        return task


class _Held(Calls):
    """A session's calls with other options."""

    held: Session

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None = None) -> Task:
        return self.held.bind(super()._task(fn, args, kwargs, timeout_s))
