"""What a client sends through: a `Wire` takes an OpenAI-shaped body and returns an OpenAI-shaped answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol

from dspex_nb.scopes import CancelToken


class Wire(Protocol):
    """One way to a model. Every method raises the `LMError`s of `errors.py`, or `Cancelled`; none retries."""

    native_n: bool
    """The far side takes `n` itself; otherwise the client asks once a candidate."""

    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait in this thread."""
        ...

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait on the running loop."""
        ...

    def stream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Iterator[Mapping[str, Any]]:
        """Ask and yield the chunks as they come."""
        ...

    def astream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> AsyncIterator[Mapping[str, Any]]:
        """Ask and yield the chunks on the running loop."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Return what no text may show: the key, and whatever else was given in confidence."""
        ...

    def missing_key(self) -> str:
        """Return the variable that should hold the key and does not, or an empty text."""
        ...

    def warm_up(self) -> None:
        """Make ready what the first call would wait for."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...
