"""How much may be asked at once and a minute; one limiter is shared by threads and by tasks of any loop.

What holds over several processes is kept in an `Account` of the leases; a limiter without one, or whose book cannot be used,
keeps to the limits by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from dspex_nb.leases import Account, Claim
from dspex_nb.scopes import CancelToken

WINDOW_S = 60.0
RECHECK_S = 0.25  # an answer may have used fewer tokens than were set aside for it
Cost = Callable[[], float]


class Start:
    """A call that began at `at`; `tokens` is what was set aside for it, until its answer says what it used.

    Attributes:
        cost: US dollars it cost, once its answer says so.
        claim: What the account set aside for it.
    """

    __slots__ = ("at", "claim", "cost", "tokens")

    def __init__(self, at: float, tokens: int, claim: Claim | None = None) -> None:
        self.at, self.tokens, self.claim = at, tokens, claim
        self.cost: float | None = None


class Limiter:
    """Lets at most `max_concurrency` calls run at once, first come first served, and keeps to rates.

    Args:
        max_concurrency: Calls at once.
        rpm: Requests that may start in any 60 s, None for no limit.
        tpm: Tokens that may be asked for in any 60 s, None for no limit; a single larger request waits for an empty minute.
        account: What all processes share; None for this process alone.
    """

    def __init__(
        self, max_concurrency: int = 64, rpm: int | None = None, tpm: int | None = None, account: Account | None = None
    ) -> None:
        if max_concurrency < 1 or (rpm is not None and rpm < 1) or (tpm is not None and tpm < 1):
            raise ValueError(f"limits must be at least 1, got max_concurrency={max_concurrency}, rpm={rpm}, tpm={tpm}")
        self.max_concurrency, self.rpm, self.tpm, self.account = max_concurrency, rpm, tpm, account
        self._lock = threading.Lock()
        self._free = max_concurrency
        self._waiting: deque[_Waiter] = deque()
        self._starts: deque[Start] = deque()
        self._not_before = 0.0

    def slot(self, cancel: CancelToken, tokens: int = 0, cost: Cost = float) -> Slot:
        """Return a turn to hold with `with` (blocks this thread) or `async with` (waits on the running loop).

        It gives the `Start` that was counted against the limits, or None without any; put there the tokens really used and
        what they cost. `cost` says what the call may cost, and is asked only while there is a budget. Waiting raises
        `Cancelled` when stopped, and `BudgetExceededError` where the budget does not allow the call.
        """
        return Slot(self, cancel, tokens, cost)

    def pause(self, seconds: float) -> None:
        """Let nobody start for `seconds`: a provider that asked one caller to slow down asked them all."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def reserve(self, tokens: int, cost: Cost = float) -> tuple[float, Start | None]:
        """Count a start now and return 0 and the start, or return the seconds after which to ask again."""
        account = self.account
        if account is not None and (account.limited or account.budget() is not None) and account.book.usable:
            return self._reserve_shared(account, tokens, cost)
        return self._reserve(tokens)

    def settle(self, start: Start) -> None:
        """A call has ended: correct what was set aside for it, and write down what it cost."""
        if self.account is not None and start.claim is not None:
            self.account.settle(start.claim, start.tokens, start.cost)

    def paid(self, cost: float) -> None:
        """Write down what a call cost for which nothing was set aside."""
        if self.account is not None:
            self.account.settle(None, 0, cost)

    def _reserve_shared(self, account: Account, tokens: int, cost: Cost) -> tuple[float, Start | None]:
        now = time.monotonic()
        if self._not_before > now:
            return self._not_before - now, None
        budget = account.budget()
        try:
            found = account.claim(WINDOW_S, tokens, budget, cost() if budget is not None else 0.0)
        except (OSError, sqlite3.Error):  # said already; from now on `usable` says it too
            return self._reserve(tokens)
        if not isinstance(found, Claim):
            return min(found, RECHECK_S), None
        start = Start(now, tokens, found)
        if self.rpm is not None or self.tpm is not None:
            with self._lock:  # counted here too, should the book become unusable
                self._forget_old(now)
                self._starts.append(start)
        return 0.0, start

    def _forget_old(self, now: float) -> None:
        while self._starts and self._starts[0].at <= now - WINDOW_S:
            self._starts.popleft()

    def _reserve(self, tokens: int) -> tuple[float, Start | None]:
        if self.rpm is None and self.tpm is None and not self._not_before:
            return 0.0, None
        with self._lock:
            now = time.monotonic()
            if self._not_before > now:
                return self._not_before - now, None
            self._not_before = 0.0
            if self.rpm is None and self.tpm is None:
                return 0.0, None
            self._forget_old(now)
            wait_s = self._wait_s(now, tokens)
            if wait_s > 0:
                return wait_s if self.tpm is None else min(wait_s, RECHECK_S), None
            start = Start(now, tokens)
            self._starts.append(start)
            return 0.0, start

    def _wait_s(self, now: float, tokens: int) -> float:
        wait_s = 0.0
        if self.rpm is not None and len(self._starts) >= self.rpm:
            wait_s = self._starts[-self.rpm].at + WINDOW_S - now
        if self.tpm is not None and self._starts:
            spare = self.tpm - sum(start.tokens for start in self._starts)
            for start in self._starts:
                if spare >= tokens:
                    break
                spare += start.tokens
                wait_s = max(wait_s, start.at + WINDOW_S - now)
        return wait_s

    def _take_free(self) -> bool:
        """Take a slot if one is free: the usual case, without the cost of what waits."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            return False

    def _join_queue(self, wake: Callable[[], None]) -> _Waiter | None:
        """Take a free slot (None), or stand in the queue."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return None
            waiter = _Waiter(wake)
            self._waiting.append(waiter)
            return waiter

    def give_back(self) -> None:
        """Free the slot for the first who waits."""
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
        self.give_back()  # it was granted while its owner gave up

    def take_blocking(self, cancel: CancelToken) -> None:
        """Take a slot, blocking this thread until one is free."""
        cancel.check()
        if self._take_free():
            return
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

    async def take_async(self, cancel: CancelToken) -> None:
        """Take a slot, waiting on the running loop until one is free."""
        cancel.check()
        if self._take_free():
            return
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


_limiters: weakref.WeakValueDictionary[tuple[object, ...], Limiter] = weakref.WeakValueDictionary()
_making = threading.Lock()


def limiter_of(
    key: tuple[object, ...], max_concurrency: int, rpm: int | None, tpm: int | None, account: Account | None = None
) -> Limiter:
    """Return the limiter of a key (which account at which server) and these limits; all who ask for the same share it."""
    with _making:
        key = (*key, max_concurrency, rpm, tpm, account)
        found = _limiters.get(key)
        if found is None:
            found = _limiters[key] = Limiter(max_concurrency, rpm, tpm, account)
        return found


class Slot:
    """A turn among the calls of a limiter; one class for both kinds of `with`, as a generator each would cost more."""

    __slots__ = ("_cancel", "_cost", "_limiter", "_start", "_tokens")

    def __init__(self, limiter: Limiter, cancel: CancelToken, tokens: int, cost: Cost) -> None:
        self._limiter, self._cancel, self._tokens, self._cost = limiter, cancel, tokens, cost
        self._start: Start | None = None

    def __enter__(self) -> Start | None:
        self._limiter.take_blocking(self._cancel)
        try:
            while True:
                wait_s, self._start = self._limiter.reserve(self._tokens, self._cost)
                if wait_s <= 0:
                    return self._start
                sleep(wait_s, self._cancel)
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        self._end()

    async def __aenter__(self) -> Start | None:
        await self._limiter.take_async(self._cancel)
        try:
            while True:
                wait_s, self._start = self._limiter.reserve(self._tokens, self._cost)
                if wait_s <= 0:
                    return self._start
                await asleep(wait_s, self._cancel)
        except BaseException:
            self._end()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._limiter.give_back()
        if self._start is not None:
            self._limiter.settle(self._start)


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
