"""The way of a stream's items from the worker to the reader, never more than a few ahead of it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

BUFFER = 256
"""Items the generator may be ahead of the reader."""


class Channel:
    """The way of a stream's items from the worker to the reader.

    Attributes:
        buffer: Items that may lie in it.
        given: Items put in so far.
        stopped: Whether the reader has gone; the generator is closed at its next `yield`.
        grant: Tells the worker that so many more items may be sent.
        stop_worker: Tells the worker that the reader has gone.
    """

    def __init__(self, buffer: int) -> None:
        self.buffer = buffer
        self.given = 0
        self.stopped = self.over = False
        self.grant: Callable[[int], None] = lambda _: None
        self.stop_worker: Callable[[], None] = lambda: None
        self._change = threading.Condition()
        self._items: deque[Any] = deque()
        self._taken = 0
        self._readers: list[Callable[[], None]] = []

    def put(self, item: Any) -> None:
        """Take an item; the worker keeps to the number granted, so this does not wait."""
        with self._change:
            self.given += 1
            self._items.append(item)
            self._tell()

    def offer(self, item: Any) -> bool:
        """Take an item when there is room; False once the reader has gone."""
        with self._change:
            while len(self._items) >= self.buffer and not self.stopped:
                self._change.wait()
            if self.stopped:
                return False
        self.put(item)
        return True

    def stop(self) -> None:
        """Have the generator closed."""
        with self._change:
            self.stopped = True
            self._change.notify_all()
        self.stop_worker()

    def end(self) -> None:
        """Note that no item follows."""
        with self._change:
            self.over = True
            self._tell()

    def take(self, on_change: Callable[[], None] | None = None) -> list[Any] | None:
        """Return the next item in a list, an empty list at the end; waits, or calls `on_change` later and returns None."""
        with self._change:
            while not self._items:
                if self.over:
                    return []
                if on_change is not None:
                    self._readers.append(on_change)
                    return None
                self._change.wait()
            item = self._items.popleft()
            self._taken += 1
            granted, self._taken = (self._taken, 0) if self._taken >= self.buffer // 2 or not self._items else (0, self._taken)
            self._change.notify_all()
        if granted:
            self.grant(granted)
        return [item]

    def _tell(self) -> None:
        self._change.notify_all()
        readers, self._readers = self._readers, []
        for reader in readers:
            with contextlib.suppress(RuntimeError):  # its event loop has ended
                reader()
