"""The bus: subscribers are called in the publishing thread, in order, and may not break a run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from dspex_nb.events.records import Event

Subscriber = Callable[[Event], None]


class Bus:
    """Carries events to subscribers and keeps the last `keep` of them.

    A subscriber that raises is dropped and its error kept in `faults`: a broken view must not fail a paid run.
    """

    __slots__ = ("_lock", "_subscribers", "faults", "recent")

    def __init__(self, keep: int = 1000) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[Subscriber, ...] = ()
        self.recent: deque[Event] = deque(maxlen=keep)
        self.faults: deque[Exception] = deque(maxlen=20)

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber."""
        self.recent.append(event)
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001 - whatever a view raises, the run goes on
                self.faults.append(error)
                self.unsubscribe(subscriber)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned callable removes it."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)
        return lambda: self.unsubscribe(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; removing one twice is no error."""
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s != subscriber)
