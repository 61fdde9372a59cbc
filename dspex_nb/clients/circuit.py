"""A circuit: after repeated failure a model is left alone for a while, and callers are told so at once."""

from __future__ import annotations

import threading
import time
import weakref

from dspex_nb.errors import LMConnectionError, LMError, LMServerError, LMTimeoutError, LMUnavailableError

FAILURES = 8
LEAST_S = 5.0
WINDOW_S = 60.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0
_OUTAGES = (LMConnectionError, LMTimeoutError, LMServerError)


_circuits: weakref.WeakValueDictionary[tuple[object, ...], Circuit] = weakref.WeakValueDictionary()
_making = threading.Lock()


def circuit_of(key: tuple[object, ...]) -> Circuit:
    """Return the circuit of a key (which model at which server); all who ask for the same share it."""
    with _making:
        found = _circuits.get(key)
        if found is None:
            found = _circuits[key] = Circuit()
        return found


class Circuit:
    """Counts a model's failures in a row, and refuses new calls while it is taken to be down.

    It opens after `FAILURES` failures in a row (no connection, a timeout, a 5xx) that last at least `LEAST_S`, so that a
    short hiccup under many calls is left to their retries. While open it lets one call through at the end of each pause,
    and the pauses grow; whatever the server answers then, a refusal included, closes it. Shared by threads and tasks.

    Attributes:
        opened: New calls must ask `enter` first.
        failures: Failures in a row; 0 while all is well.
    """

    def __init__(self) -> None:
        self.opened = False
        self.failures = 0
        self._lock = threading.Lock()
        self._began = self._latest = self._try_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._reason = ""

    def enter(self, model: str) -> None:
        """Let this call through as the probe if the pause is over.

        Raises:
            LMUnavailableError: It is not; names the failures, the last reason and the time of the next try.
        """
        with self._lock:
            left_s = self._try_at - time.monotonic()
            if not self.opened:
                return
            if left_s <= 0:
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
                self._try_at = time.monotonic() + self._pause_s
                return
            count, reason = self.failures, self._reason
        raise LMUnavailableError(
            f"{model} failed {count} times in a row and is left alone for now (last: {reason}); nothing was sent",
            hint=f"the next call from {left_s:.0f} s on is tried; wait, or use another model",
            model=model, retry_after_s=left_s,
        )  # fmt: skip

    def succeed(self) -> None:
        """The model answered: all is well again."""
        with self._lock:
            self.opened, self.failures, self._pause_s = False, 0, FIRST_PAUSE_S

    def fail(self, error: LMError) -> None:
        """Count an outage; an answer of another kind (a refused key, a rate limit) shows that the server lives."""
        if isinstance(error, LMUnavailableError):
            return
        if not isinstance(error, _OUTAGES):
            if self.failures and error.status is not None:
                self.succeed()
            return
        with self._lock:
            now = time.monotonic()
            if now - self._latest > WINDOW_S and not self.opened:
                self.failures = 0
            self.failures += 1
            self._latest, self._reason = now, error.message
            if self.failures == 1:
                self._began = now
            if not self.opened and self.failures >= FAILURES and now - self._began >= LEAST_S:
                self.opened, self._try_at = True, now + self._pause_s

    def __repr__(self) -> str:
        return f"Circuit({'open' if self.opened else 'closed'}, failures={self.failures})"
