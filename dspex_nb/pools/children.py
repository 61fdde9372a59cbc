"""A worker process as it is talked to, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

MODULE = "dspex_nb.pools.slot"
"""What a worker process runs."""


class Child(Protocol):
    """A worker process as it is talked to: `ChildProcess` on this machine, `FarChild` on another.

    Attributes:
        lost: Whether it is out of reach, so that nobody knows what it does.
    """

    @property
    def pid(self) -> int:
        """Its process id, where it runs."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    @property
    def lost(self) -> bool:
        """Whether it is out of reach."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs or if nobody knows."""
        ...

    def send(self, message: Mapping[str, Any], blob: bytes | None = None) -> None:
        """Send one command; raises WorkerDiedError if it has ended."""
        ...

    def on_message(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call `callback` with each message, in order."""
        ...

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the exit code once, after the last message."""
        ...

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end."""
        ...

    def terminate(self, grace_s: float = 2.0) -> int | None:
        """Tell it to end, and kill it if it does not."""
        ...

    def kill(self, wait_s: float = 2.0) -> int | None:
        """Kill it and what it started."""
        ...

    def tail(self, max_bytes: int = 2000) -> str:
        """Return the end of what it printed."""
        ...
