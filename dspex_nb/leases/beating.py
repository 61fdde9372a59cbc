"""A heartbeat: does something every few seconds for as long as anybody wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_IDLE = 2


class Heartbeat:
    """Calls `act` every `every_s` seconds in a thread of its own while a token is kept.

    The thread outlives the last token a little: one serves a burst of calls, not each call.
    """

    def __init__(self, name: str, every_s: float, act: Callable[[], None]) -> None:
        self._name, self._every_s, self._act = name, every_s, act
        self._lock = threading.Lock()
        self._tokens: set[object] = set()
        self._thread: threading.Thread | None = None

    def keep(self, token: object) -> None:
        """Go on until this token is dropped."""
        with self._lock:
            self._tokens.add(token)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def drop(self, token: object) -> None:
        """No longer for this token."""
        with self._lock:
            self._tokens.discard(token)

    def tokens(self) -> list[object]:
        """Return the tokens kept now."""
        with self._lock:
            return list(self._tokens)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(self._every_s)
            with self._lock:
                idle = 0 if self._tokens else idle + 1
                if idle == _IDLE:
                    self._thread = None
                    return
            if not idle:
                self._act()
