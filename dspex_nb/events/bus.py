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

    Attributes:
        quick: Whether every subscriber is, so that events may be published in a thread that others wait for.
    """

    __slots__ = ("_hearing", "_lock", "_subscribers", "faults", "quick", "recent")

    def __init__(self, keep: int = 1000) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[tuple[Subscriber, tuple[type[Event], ...], bool], ...] = ()
        self._hearing: dict[type[Event], tuple[Subscriber, ...]] = {}  # who hears which kind, looked up once
        self.quick = True
        self.recent: deque[Event] = deque(maxlen=keep)
        self.faults: deque[Exception] = deque(maxlen=20)

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber."""
        self.recent.append(event)
        kind = type(event)
        hearing = self._hearing.get(kind)
        for subscriber in self._hearers(kind) if hearing is None else hearing:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001 - whatever a view raises, the run goes on
                self.faults.append(error)
                self.unsubscribe(subscriber)

    def subscribe(self, subscriber: Subscriber, *kinds: type[Event], quick: bool = False) -> Callable[[], None]:
        """Add a subscriber; the returned callable removes it.

        Args:
            subscriber: Called with each event.
            *kinds: Of which kinds; of all if none is given.
            quick: It only takes a note: it never waits, asks a pool, or stops a run, as a user's own function may.
        """
        with self._lock:
            self._become((*self._subscribers, (subscriber, kinds or (Event,), quick)))
        return lambda: self.unsubscribe(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; removing one twice is no error."""
        with self._lock:
            self._become(tuple(each for each in self._subscribers if each[0] != subscriber))

    def _become(self, subscribers: tuple[tuple[Subscriber, tuple[type[Event], ...], bool], ...]) -> None:
        self._subscribers, self.quick = subscribers, all(quick for _, _, quick in subscribers)
        self._hearing = {}

    def _hearers(self, kind: type[Event]) -> tuple[Subscriber, ...]:
        hearing = self._hearing  # taken before the subscribers, which change first: an old answer goes into the old table
        found = hearing[kind] = tuple(subscriber for subscriber, kinds, _ in self._subscribers if issubclass(kind, kinds))
        return found
