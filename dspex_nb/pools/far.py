"""A worker process on another machine, talked to through an agent there as if it were here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dspex_nb.errors import PoolError, WorkerDiedError
from dspex_nb.pools.agent import Frame, packed, unpacked
from dspex_nb.pools.child import describe_exit

_OBEYS_S = 3.0


class Line(Protocol):
    """What an engine gives: the way to one agent."""

    def tell(self, data: bytes, arrived: Callable[[], None]) -> None:
        """Send, without waiting; `arrived` is called once it is there or lost. One at a time, so that order is kept."""
        ...

    def listen(self) -> bytes:
        """Wait for what the agent says, a second or two at most; raises if it is out of reach."""
        ...

    def close(self) -> None:
        """Let the agent go."""
        ...


class Link:
    """One agent, with the thread that hears it and what is to be told to it.

    Attributes:
        lost: Why it is out of reach, empty while it is not.
    """

    def __init__(self, line: Line, name: str) -> None:
        self._line, self.lost = line, ""
        self._lock = threading.Lock()
        self._outbox: list[Frame] = []
        self._sending = self._closed = False
        self._children: dict[int, FarChild] = {}
        self._numbers = 0
        self._thread = threading.Thread(target=self._hear, name=f"dspex-far-{name}", daemon=True)
        self._thread.start()

    def tell(self, message: Mapping[str, Any], blob: bytes | None = None) -> None:
        """Send a message after those before it."""
        with self._lock:
            self._outbox.append((message, blob))
            if self._sending:
                return
            self._sending = True
        self._send()

    def admit(self, child: FarChild) -> int:
        """Return a number for a new process, whose words it hears from now on."""
        with self._lock:
            self._numbers += 1
            self._children[self._numbers] = child
            return self._numbers

    def lose(self, why: str) -> None:
        """Count it, and what runs there, as out of reach."""
        with self._lock:
            self.lost = self.lost or why
            children, self._children = list(self._children.values()), {}
        for child in children:
            child.end(None, lost=True, tail=self.lost)
        self._line.close()

    def close(self) -> None:
        """Let the agent go, and its processes with it."""
        self._closed = True
        if not self.lost:
            self.tell({"to": 0, "wake": True})  # it answers at once, so that no question is left open
            self._thread.join(_OBEYS_S)
        self.lose("it was let go")

    def _send(self) -> None:
        """Send what has come together; when that is there, the next."""
        with self._lock:
            frames, self._outbox = self._outbox, []
            self._sending = bool(frames) and not self.lost
            if not self._sending:
                return
        self._line.tell(packed(frames), self._send)

    def _hear(self) -> None:
        while not (self.lost or self._closed):
            try:
                data = self._line.listen()
            except Exception as error:  # noqa: BLE001 - each engine has its own: the agent cannot be reached
                if not self._closed:
                    self.lose(f"{type(error).__name__}: {error}")
                return
            for message, blob in unpacked(data):
                self._deliver(message, blob)

    def _deliver(self, message: dict[str, Any], blob: bytes | None) -> None:
        number = message["from"]
        child = self._children.get(number)
        if child is None:
            return
        if "exit" in message or "failed" in message:
            with self._lock:
                self._children.pop(number, None)
        child.hear(message, blob)


class FarChild:
    """The process at the far end; it has `ChildProcess`'s calls. Construct it and it runs.

    Args:
        link: The way to its agent.
        wanted: `module`, `args`, `env` and `python`, as for a `ChildProcess`.
        start_s: Seconds it may take to start.

    Raises:
        PoolError: It could not be started.
    """

    def __init__(self, link: Link, wanted: Mapping[str, Any], start_s: float) -> None:
        self._link = link
        self.pid, self.rss_bytes = 0, 0
        self.returncode: int | None = None
        self.lost = False
        self._tail = self._failed = ""
        self._lock = threading.Lock()
        self._up, self._over = threading.Event(), threading.Event()
        self._early: list[dict[str, Any]] = []
        self._callback: Callable[[dict[str, Any]], None] | None = None
        self._exit_callbacks: list[Callable[[int], None]] = []
        self.number = link.admit(self)
        link.tell({"to": self.number, "start": wanted})
        if not self._up.wait(start_s):
            link.lose(f"no process was up after {start_s:g} s")
        if self._failed or self.lost:
            raise PoolError(self._failed or link.lost, hint="look at the cluster's own log")

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as is known."""
        return not self._over.is_set()

    def send(self, message: Mapping[str, Any], blob: bytes | None = None) -> None:
        """Send one command.

        Raises:
            WorkerDiedError: It has ended.
        """
        if self._over.is_set():
            raise WorkerDiedError(f"process {self.pid} {describe_exit(self.returncode)}", hint="start it again")
        self._link.tell({"to": self.number, "message": message}, blob)

    def on_message(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call `callback` with each message, in order, in the thread that hears the agent; those before it at once."""
        with self._lock:
            early, self._early = self._early, []
            for message in early:
                callback(message)
            self._callback = callback
        return lambda: None

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the exit code once, after the last message."""
        with self._lock:
            if not self._over.is_set():
                self._exit_callbacks.append(callback)
                return
        callback(self.returncode or 0)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end."""
        self._over.wait(timeout_s)
        return self.returncode

    def terminate(self, grace_s: float = 2.0) -> int | None:
        """Tell it to end; the agent kills it if it does not within `grace_s`."""
        self._link.tell({"to": self.number, "end": grace_s})
        return self.wait(grace_s + 1.0)

    def kill(self, wait_s: float = 2.0) -> int | None:
        """Have it killed; an agent that does not obey within three seconds is given up."""
        if self.alive:
            self._link.tell({"to": self.number, "kill": True})
            timer = threading.Timer(_OBEYS_S, self._give_up)
            timer.daemon = True
            timer.start()
            self.on_exit(lambda _: timer.cancel())
        return self.wait(wait_s) if wait_s else self.returncode

    def tail(self, max_bytes: int = 2000) -> str:
        """Return the end of what it printed, or why it is out of reach; known when it has ended."""
        return self._tail[-max_bytes:]

    def hear(self, message: dict[str, Any], blob: bytes | None) -> None:
        """Take what the agent says of it."""
        if "message" in message:
            told = message["message"]
            if blob is not None:
                told["blob"] = blob
            with self._lock:
                callback = self._callback
                if callback is None:
                    self._early.append(told)
            if callback is not None:
                with contextlib.suppress(Exception):  # a broken listener must not stop the others
                    callback(told)
        elif "pid" in message:
            self.pid = message["pid"]
            self._up.set()
        elif "rss" in message:
            self.rss_bytes = message["rss"]
        elif "failed" in message:
            self._failed = message["failed"]
            self._up.set()
        else:
            self.end(message["exit"], tail=message["tail"])

    def end(self, code: int | None, *, lost: bool = False, tail: str = "") -> None:
        """Note its end."""
        with self._lock:
            if self._over.is_set():
                return
            self.returncode, self.lost, self._tail = code, lost, tail
            self._over.set()
            callbacks, self._exit_callbacks = self._exit_callbacks, []
        self._up.set()
        for callback in callbacks:
            with contextlib.suppress(Exception):  # the others must still hear of it
                callback(code or 0)

    def _give_up(self) -> None:
        if self.alive:
            self._link.lose(f"its agent did not end it within {_OBEYS_S:g} s")
