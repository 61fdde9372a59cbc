"""The thread that watches a pool: time limits, memory, signs of life, sessions that are left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TICK_S = 0.1


class Watch:
    """Calls `look(now)` when something is due; `look` returns when the next look is due, infinity for never."""

    def __init__(self, name: str, look: Callable[[float], float]) -> None:
        self._name, self._look = name, look
        self._lock = threading.Lock()
        self._nudged = threading.Event()
        self._thread: threading.Thread | None = None
        self._next = float("inf")
        self._over = False

    def by(self, when: float) -> None:
        """Have a look at `when` (`time.monotonic()`) at the latest."""
        if when >= self._next and self._thread is not None:
            return
        with self._lock:
            self._next = min(when, self._next)
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._run, name=f"dspex-pool-{self._name}-watch", daemon=True)
                self._thread.start()
        self._nudged.set()

    def close(self) -> None:
        """End the thread."""
        self._over = True
        self._nudged.set()

    def _run(self) -> None:
        while not self._over:
            left = self._next - time.monotonic()
            if left > 0:
                self._nudged.wait(None if left == float("inf") else left)
                self._nudged.clear()
                continue
            with self._lock:
                self._next = float("inf")
            following = self._look(time.monotonic())
            with self._lock:
                self._next = min(self._next, following)
