"""The result to come of one task: resolved once, and cancellable also while it runs."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import Any

_OVER = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})
_making = threading.Lock()  # held for a look and a note, never while another lock is taken


class PoolFuture(Future[Any]):
    """The result to come of one task; also to be awaited.

    Unlike a plain `Future`, `cancel` works on a running task too: its worker process is killed, or its thread abandoned
    and the result discarded. It stays in the pending state while it runs, which is what lets `concurrent.futures.wait`
    and `asyncio.wrap_future` see that cancellation as any other; ask `running()` for the truth.

    The condition that those who wait share is made by the first of them: most tasks of a run are over before anybody waits,
    and making and notifying it would be a fifth of their way through a thread.

    Attributes:
        abandoned: Whether it was broken off in a thread, which cannot be killed and runs on unheeded.
    """

    # Of the class until they are set, which spares each call a part of its way through a thread.
    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _made: threading.Condition | None = None
    _running = False
    _break_off: Callable[[], None] | None = None
    abandoned = False

    def __init__(self) -> None:  # not the base's, which makes the condition
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Any], object]] = []

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # what the base and `concurrent.futures.wait` ask for
        made = self._made
        if made is None:
            with _making:
                made = self._made
                if made is None:
                    made = self._made = threading.Condition()
        return made

    def done(self) -> bool:
        """Return whether the task is over or was cancelled."""
        return self._state in _OVER

    def cancelled(self) -> bool:
        """Return whether the task was cancelled."""
        return self._state in _OVER and self._state != FINISHED

    def running(self) -> bool:
        """Return whether the task has started and is not over."""
        return self._running and not self.done()

    @property
    def began(self) -> bool:
        """Whether the task was started."""
        return self._running

    @property
    def succeeded(self) -> bool:
        """Whether the task is over and gave a value."""
        return self._state == FINISHED and self._exception is None

    @property
    def value(self) -> Any:
        """What a task that `succeeded` gave; without the lock that `result` takes."""
        return self._result

    def tell(self, callback: Callable[[PoolFuture], None]) -> None:
        """Have `callback` called as by `add_done_callback`, where nobody else has the future yet: no lock is taken."""
        self._done_callbacks.append(callback)

    def result(self, timeout: float | None = None) -> Any:
        """Return the value, or raise the task's error; an interrupt (■) while it waits ends the task."""
        if self._state == FINISHED and self._exception is None:
            return self._result
        try:
            return Future.result(self, timeout)  # the shorter way to the base, which every call takes
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
        with self._condition:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            super().set_running_or_notify_cancel()
        if self._break_off is not None:
            self._break_off()
        return True

    def resolve(self, value: Any) -> bool:
        """Set the result; False if it was resolved already."""
        return self._settle(value, None)

    def fail(self, error: BaseException) -> bool:
        """Set the error; False if it was resolved already."""
        return self._settle(None, error)

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with _making:  # whoever makes the condition after this finds the task over
            waited = self._made
            if waited is None:
                if self._state != PENDING:
                    return False
                self._result, self._exception, self._state = value, error, FINISHED
        if waited is not None:
            with waited:
                if self._state != PENDING:
                    return False
                self._result, self._exception, self._state = value, error, FINISHED
                for waiter in self._waiters:
                    waiter.add_result(self) if error is None else waiter.add_exception(self)
                waited.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # of every `Future`, unknown to typeshed
        return True

    def started(self, break_off: Callable[[], None]) -> bool:
        """Note that the task starts; False if it is over already (cancelled while it waited).

        Without the lock, which every call would pay for: this notes how to break off and then looks at the state, `cancel`
        changes the state and then breaks off, so whichever comes second sees the other.
        """
        self._break_off = break_off
        self._running = self._state == PENDING
        return self._running

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in the running event loop; cancelling that wait cancels the task."""
        return asyncio.wrap_future(self).__await__()
