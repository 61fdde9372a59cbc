"""What crosses the transport: a reply, and the failures of the way there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dspex_nb.errors import LMConnectionError, LMTimeoutError
from dspex_nb.transport.redaction import host_of


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply read to its end; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """A point in time by which something must be done; `restart` moves it (streams restart it at every line)."""

    __slots__ = ("_end", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def restart(self) -> None:
        """Give it the whole `timeout_s` again."""
        self._end = time.monotonic() + self.timeout_s

    def left_s(self) -> float:
        """Seconds left.

        Raises:
            TimeoutError: None are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def connection_error(url: str, error: BaseException) -> LMConnectionError:
    """Name the server that could not be reached, why, and what to do."""
    host = host_of(url)
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
    return LMConnectionError(
        f"no answer from {host}: {reason}",
        hint=f"check that the server at {host} is running and that api_base is right, then run again",
    )


def timeout_error(url: str, timeout_s: float) -> LMTimeoutError:
    """Name the server that was too slow."""
    return LMTimeoutError(
        f"{host_of(url)} gave no whole answer within {timeout_s:g} s",
        hint="raise timeout_s on the LM, lower max_tokens, or run again",
    )
