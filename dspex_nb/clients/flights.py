"""Single flight: of identical requests at the same time one is sent, and the others wait for its answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Any

from dspex_nb.messages import Response
from dspex_nb.scopes import CancelToken


class Flight:
    """A request under way. `outcome` resolves once: to the response, an error, or None if its leader was stopped."""

    __slots__ = ("loop_thread", "outcome")

    def __init__(self, loop_thread: int | None) -> None:
        self.outcome: Future[Response | None] = Future()
        self.loop_thread = loop_thread


class Flights:
    """The requests under way, by cache key."""

    __slots__ = ("_flying", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[str, Flight] = {}

    def join(self, key: str, *, on_loop: bool) -> tuple[Flight | None, bool]:
        """Return the flight to wait for and False, or one to lead and True; (None, True) means go alone.

        A blocking caller on a loop's own thread goes alone where an async leader needs that loop: waiting would hang both.
        """
        here = threading.get_ident()
        with self._lock:
            flight = self._flying.get(key)
            if flight is None:
                flight = self._flying[key] = Flight(here if on_loop else None)
                return flight, True
        if not on_loop and flight.loop_thread == here:
            return None, True
        return flight, False

    def land(self, key: str, flight: Flight, response: Response | None, error: BaseException | None = None) -> None:
        """Give the followers the outcome; None and no error lets one of them lead."""
        with self._lock:
            if self._flying.get(key) is flight:
                del self._flying[key]
        if error is not None:
            flight.outcome.set_exception(error)
        else:
            flight.outcome.set_result(response)

    def forget(self) -> None:
        """Drop every flight: after a fork their leaders are in the other process."""
        self._flying.clear()


def wait(flight: Flight, cancel: CancelToken) -> Response | None:
    """Block until the flight lands; raises its error, or `Cancelled` when this caller is stopped."""
    until_done(flight.outcome, cancel)
    return flight.outcome.result()


def until_done(future: Future[Any], cancel: CancelToken) -> None:
    """Block until the future is done; raises `Cancelled` when this caller is stopped."""
    woken = threading.Event()
    future.add_done_callback(lambda _: woken.set())
    unregister = cancel.on_cancel(woken.set)
    try:
        woken.wait()
    finally:
        unregister()
    cancel.check()


async def await_(flight: Flight, cancel: CancelToken) -> Response | None:
    """Wait on the running loop until the flight lands; as `wait`."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake(_: object = None) -> None:
        with contextlib.suppress(RuntimeError):  # this loop closed meanwhile
            loop.call_soon_threadsafe(woken.set)

    flight.outcome.add_done_callback(wake)
    unregister = cancel.on_cancel(wake)
    try:
        await woken.wait()
    finally:
        unregister()
    cancel.check()
    return flight.outcome.result()
