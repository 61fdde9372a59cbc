"""What a call carries down the floors: whose run it is, where events go, and whether the user has stopped it."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dspex_nb.errors import Cancelled
from dspex_nb.events import Bus, Event, Ledger
from dspex_nb.messages import Exchange


def stopped() -> Cancelled:
    """Return the error of work that the user stopped."""
    return Cancelled("stopped", hint="what was finished is kept; run again to go on")


class CancelToken:
    """A stop that reaches blocking calls: each registers how to break off, and cancelling calls them all."""

    __slots__ = ("_callbacks", "_lock", "_next", "cancelled")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.cancelled = False

    def cancel(self) -> None:
        """Stop: later `check` calls raise, and every registered callback runs once. Idempotent."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = list(self._callbacks.values()), {}
        for callback in callbacks:
            with contextlib.suppress(Exception):  # e.g. a socket that closed meanwhile
                callback()

    def check(self) -> None:
        """Raise `Cancelled` if the user has stopped this work."""
        if self.cancelled:
            raise stopped()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Register how to break off (at once if already cancelled); the returned callable unregisters."""
        with self._lock:
            if not self.cancelled:
                number, self._next = self._next, self._next + 1
                self._callbacks[number] = callback
                return lambda: self._forget(number)
        callback()
        return lambda: None

    def _forget(self, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)


@dataclass(slots=True, eq=False)
class Scope:
    """The run a call belongs to. Passed as an argument, so it survives every thread and process boundary.

    Nobody changes one. It is not frozen all the same: that would triple what making one costs, and each step makes its own.

    Attributes:
        trial: The trial of a study, `index` the example there.
        tokens: Whether the texts that models write are wanted as they come, as `TokenReceived` events.
        trace: Given each model call whole, prompt and answer, where someone keeps them; events carry neither.
        ledger: Counts what the run's LM calls took, of every step, attempt and function.
        admit: Called before a request is sent (never for a cache hit); raises `NotSent` where a budget has no room for it.
    """

    run_id: str
    bus: Bus = field(default_factory=lambda: Bus(keep=0))
    cancel: CancelToken = field(default_factory=CancelToken)
    step: str = ""
    trial: int | None = None
    index: int | None = None
    tokens: bool = False
    trace: Callable[[Exchange], None] | None = None
    admit: Callable[[], None] | None = None
    ledger: Ledger | None = None

    def publish(self, event: Event) -> None:
        """Put an event on the run's bus."""
        if self.ledger is not None:
            self.ledger.take(event)
        self.bus.publish(event)

    def at_step(self, step: str) -> Scope:
        """Return the same scope inside `step`."""
        return self._with(step, self.ledger)

    def counting(self) -> Scope:
        """Return the same scope with a ledger of its own."""
        return self._with(self.step, Ledger())

    def _with(self, step: str, ledger: Ledger | None) -> Scope:
        # Not `replace`, which takes three times as long: each run, and each step in a pool, passes here.
        return Scope(
            self.run_id, self.bus, self.cancel, step, self.trial, self.index, self.tokens, self.trace, self.admit, ledger
        )


_ID_BITS = 48
_ids = itertools.count()


def _begin_ids() -> None:
    """Begin at a place of this process's own; not by `random`, which a notebook's `random.seed(0)` would make repeat itself."""
    global _ids  # noqa: PLW0603 - one row of ids a process
    _ids = itertools.count(secrets.randbits(_ID_BITS))


_begin_ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_ids)


def new_run_id() -> str:
    """Return a fresh run id: 12 hex digits.

    A process counts on from a random place: ids that follow each other lie side by side in the store's index, so that what is
    written at once touches one page of it and not one a run; and two rows meet less often than that many random numbers would.
    """
    return f"{next(_ids) % (1 << _ID_BITS):012x}"
