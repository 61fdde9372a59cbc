"""How much may be asked at once and a minute; one limiter is shared by threads and by tasks of any loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from dspex_nb.scopes import CancelToken

WINDOW_S = 60.0


class Limiter:
    """Lets at most `max_concurrency` calls run at once, first come first served, and keeps to rates.

    Args:
        max_concurrency: Calls at once.
        rpm: Requests that may start in any 60 s, None for no limit.
        tpm: Tokens that may be asked for in any 60 s, None for no limit; a single larger request waits for an empty minute.
    """

    def __init__(self, max_concurrency: int = 64, rpm: int | None = None, tpm: int | None = None) -> None:
        if max_concurrency < 1 or (rpm is not None and rpm < 1) or (tpm is not None and tpm < 1):
            raise ValueError(f"limits must be at least 1, got max_concurrency={max_concurrency}, rpm={rpm}, tpm={tpm}")
        self.max_concurrency, self.rpm, self.tpm = max_concurrency, rpm, tpm
        self._lock = threading.Lock()
        self._free = max_concurrency
        self._waiting: deque[_Waiter] = deque()
        self._starts: deque[tuple[float, int]] = deque()
        self._not_before = 0.0

    @contextlib.contextmanager
    def slot(self, cancel: CancelToken, tokens: int = 0) -> Iterator[None]:
        """Hold one of the slots, blocking this thread until it is this call's turn; raises `Cancelled` when stopped."""
        self._take_blocking(cancel)
        try:
            while (pause_s := self._reserve(tokens)) > 0:
                sleep(pause_s, cancel)
            yield
        finally:
            self._give_back()

    @contextlib.asynccontextmanager
    async def aslot(self, cancel: CancelToken, tokens: int = 0) -> AsyncIterator[None]:
        """Hold one of the slots, waiting on the running loop; the async twin of `slot`."""
        await self._take_async(cancel)
        try:
            while (pause_s := self._reserve(tokens)) > 0:
                await asleep(pause_s, cancel)
            yield
        finally:
            self._give_back()

    def pause(self, seconds: float) -> None:
        """Let nobody start for `seconds`: a provider that asked one caller to slow down asked them all."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _reserve(self, tokens: int) -> float:
        """Count a start now and return 0, or return the seconds after which to ask again."""
        if self.rpm is None and self.tpm is None and not self._not_before:
            return 0.0
        with self._lock:
            now = time.monotonic()
            if self._not_before > now:
                return self._not_before - now
            self._not_before = 0.0
            while self._starts and self._starts[0][0] <= now - WINDOW_S:
                self._starts.popleft()
            wait_s = self._wait_s(now, tokens)
            if wait_s <= 0 and (self.rpm is not None or self.tpm is not None):
                self._starts.append((now, tokens))
            return wait_s

    def _wait_s(self, now: float, tokens: int) -> float:
        wait_s = 0.0
        if self.rpm is not None and len(self._starts) >= self.rpm:
            wait_s = self._starts[-self.rpm][0] + WINDOW_S - now
        if self.tpm is not None and self._starts:
            spare = self.tpm - sum(used for _, used in self._starts)
            for at, used in self._starts:
                if spare >= tokens:
                    break
                spare += used
                wait_s = max(wait_s, at + WINDOW_S - now)
        return wait_s

    def _join_queue(self, wake: Callable[[], None]) -> _Waiter | None:
        """Take a free slot (None), or stand in the queue."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return None
            waiter = _Waiter(wake)
            self._waiting.append(waiter)
            return waiter

    def _give_back(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            waiter = self._waiting.popleft()
            waiter.granted = True
        waiter.wake()

    def _leave_queue(self, waiter: _Waiter) -> None:
        with self._lock:
            if not waiter.granted:
                self._waiting.remove(waiter)
                return
        self._give_back()  # it was granted while its owner gave up

    def _take_blocking(self, cancel: CancelToken) -> None:
        cancel.check()
        turn = threading.Event()
        waiter = self._join_queue(turn.set)
        if waiter is None:
            return
        unregister = cancel.on_cancel(turn.set)
        try:
            turn.wait()
            cancel.check()
        except BaseException:
            self._leave_queue(waiter)
            raise
        finally:
            unregister()

    async def _take_async(self, cancel: CancelToken) -> None:
        cancel.check()
        loop = asyncio.get_running_loop()
        turn = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the waiter's loop closed meanwhile
                loop.call_soon_threadsafe(turn.set)

        waiter = self._join_queue(wake)
        if waiter is None:
            return
        unregister = cancel.on_cancel(wake)
        try:
            await turn.wait()
            cancel.check()
        except BaseException:
            self._leave_queue(waiter)
            raise
        finally:
            unregister()


class _Waiter:
    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.granted = False


def sleep(seconds: float, cancel: CancelToken) -> None:
    """Sleep, waking at once with `Cancelled` when stopped."""
    woken = threading.Event()
    unregister = cancel.on_cancel(woken.set)
    try:
        woken.wait(seconds)
    finally:
        unregister()
    cancel.check()


async def asleep(seconds: float, cancel: CancelToken) -> None:
    """Sleep on the running loop, waking at once with `Cancelled` when stopped."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(woken.set)

    unregister = cancel.on_cancel(wake)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), seconds)
    finally:
        unregister()
    cancel.check()
