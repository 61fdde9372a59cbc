"""A session: one worker of a pool for as long as it lasts, and the state that calls leave in it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from dspex_nb.errors import PoolError, SessionLostError
from dspex_nb.pools.calls import Calls, TakesTasks, TaskOptions
from dspex_nb.pools.tasks import Lease, Task


class LendsSlots(TakesTasks, Protocol):
    """What a session needs of its pool."""

    def lease(self, key: str, initializer: Task | None, ttl_s: float | None, wait_s: float | None) -> Lease:
        """Hold a slot for `key`, or join those who hold it."""
        ...

    def release(self, lease: Lease) -> None:
        """Give it back."""
        ...


class Session(Calls):
    """Calls that all run on one slot, which runs nothing else meanwhile. The same key, open twice, is the same session.

    If the slot's worker dies, the state is lost: later calls raise SessionLostError instead of meeting an empty worker,
    unless an initializer was given, which then builds it anew.
    """

    def __init__(
        self,
        pool: LendsSlots,
        key: str,
        *,
        initializer: Callable[..., Any] | str | None = None,
        initargs: tuple[Any, ...] = (),
        ttl_s: float | None = None,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(pool)
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
