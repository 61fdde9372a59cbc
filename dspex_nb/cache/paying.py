"""Who pays: of all who want the same answer at the same time, on this machine and others, one asks and the others wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dspex_nb.leases import Lease, NamedLeases, book_at

if TYPE_CHECKING:
    from dspex_nb.cache.redis_tier import RedisTier

BOOK = "leases.sqlite"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.005, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """The right to ask for a key."""

    key: str
    local: Lease | None = None
    remote: tuple[str, str] | None = None


class Payers:
    """Gives one process at a time the turn to ask for a key.

    Args:
        directory: The disk tier's: all processes that share it share the turns. None: this process's caches are its own.
        remote: The shared tier, None without one.
    """

    def __init__(self, directory: Path | None, remote: RedisTier | None) -> None:
        self._local = NamedLeases(book_at(directory / BOOK, quiet=True)) if directory is not None else None
        self._remote = remote
        self._loops: dict[str, int] = {}

    def take(self, key: str, loop_thread: int | None = None) -> Turn | None:
        """Return the turn, None while somebody else has it.

        Args:
            key: What is asked for.
            loop_thread: The thread whose event loop the caller's task runs on. A blocking caller on that thread gets a turn
                beside that task's, as waiting would hang both.
        """
        if loop_thread is None and self._loops.get(key) == threading.get_ident():
            return Turn("")
        local = self._local.take(key) if self._local is not None else None
        if self._local is not None and local is None:
            return None
        remote = self._remote.take(key) if self._remote is not None else None
        if self._remote is not None and remote is None:
            if local is not None and self._local is not None:
                self._local.give_back(local)
            return None
        if loop_thread is not None:
            self._loops[key] = loop_thread
        return Turn(key, local, remote)

    def give_back(self, turn: Turn) -> None:
        """Let others have it."""
        if not turn.key:
            return
        self._loops.pop(turn.key, None)
        if turn.remote is not None and self._remote is not None:
            self._remote.give_back(turn.remote)
        if turn.local is not None and self._local is not None:
            self._local.give_back(turn.local)


class Asking:
    """One caller's turn at a key; given back also where the caller left while it was still being taken, in another thread."""

    __slots__ = ("_key", "_lock", "_loop_thread", "_over", "_payers", "_turn")

    def __init__(self, payers: Payers, key: str, loop_thread: int | None) -> None:
        self._payers, self._key, self._loop_thread = payers, key, loop_thread
        self._lock = threading.Lock()
        self._turn: Turn | None = None
        self._over = False

    def begin(self) -> bool:
        """Take the turn; False while somebody else has it."""
        turn = self._payers.take(self._key, self._loop_thread)
        with self._lock:
            if not self._over:
                self._turn = turn
                return turn is not None
        if turn is not None:
            self._payers.give_back(turn)
        return False

    def end(self) -> None:
        """Let others ask: the answer has been kept, or there is none."""
        with self._lock:
            self._over, turn, self._turn = True, self._turn, None
        if turn is not None:
            self._payers.give_back(turn)


def waits() -> Iterator[float]:
    """Give the seconds to wait between one look and the next."""
    wait_s = _FIRST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
