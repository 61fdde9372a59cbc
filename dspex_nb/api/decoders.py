"""Decoding in the `multimodal` pool: what a bad file breaks there is a worker; who asked gets an error that says so."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from dspex_nb.api.pools import pool
from dspex_nb.decoding import thumbnail
from dspex_nb.errors import DataError, DSPexError, MemoryLimitError, PoolError, TaskTimeoutError, WorkerDiedError
from dspex_nb.pools import PoolFuture
from dspex_nb.retrieval.reading import provide_process
from dspex_nb.views.media_views import THUMBNAIL_PX, provide_thumbnails

_POOL = "multimodal"
_LONGEST_S = 300.0
_SHOWN_S = 10.0  # a cell's display waits no longer, a worker's start included
_AGAIN_S = 60.0
_HINT = "open it in a viewer and save it again"
_not_before = 0.0  # a pool that did not answer is left alone until then


def decode_apart(fn: Callable[..., Any], *args: Any, what: str = "it", timeout_s: float = _LONGEST_S) -> Any:
    """Return `fn(*args)` as a worker of the pool does it.

    Args:
        fn: What decodes.
        *args: Its arguments.
        what: What it decodes, for messages.
        timeout_s: Seconds that the worker has; it is waited for twice as long, since others may be before it.

    Raises:
        DataError: What `fn` raises, or the file killed the worker, took too long or too much memory.
        PoolError: The pool cannot be used.
    """
    future = _submitted(timeout_s, fn, *args)
    try:
        return _waited(future, 2 * timeout_s, what)
    except TimeoutError:
        future.cancel()
        raise PoolError(f"the pool {_POOL!r} did not get to {what} in {2 * timeout_s:g} s", hint="see dx.status()") from None


def _submitted(timeout_s: float, fn: Callable[..., Any], *args: Any) -> PoolFuture:
    return pool(_POOL).options(timeout_s=timeout_s).submit(fn, *args)


def _waited(future: PoolFuture, wait_s: float, what: str) -> Any:
    try:
        return future.result(wait_s)
    except WorkerDiedError as error:
        if not error.began:
            raise  # not the file's fault: the worker did not start
        raise DataError(f"{what} broke what decodes it: its process ended", hint=_HINT) from None
    except TaskTimeoutError as error:
        raise DataError(f"decoding {what} took too long and was broken off: {error.message}", hint=_HINT) from None
    except MemoryLimitError as error:
        raise DataError(f"decoding {what} took too much memory: {error.message}", hint="make it smaller first") from None


def _thumbnails(images: Sequence[bytes]) -> list[bytes | str]:
    """Return each image small, or why there is none: a display neither fails nor waits for long."""
    global _not_before  # noqa: PLW0603 - one pool a process
    if time.monotonic() < _not_before:
        return ["the multimodal pool does not answer; it is asked again in a minute"] * len(images)
    until = time.monotonic() + _SHOWN_S
    found: list[bytes | str] = []
    try:
        futures = [_submitted(_SHOWN_S, thumbnail, raw, THUMBNAIL_PX) for raw in images]
    except PoolError as error:
        return [error.message] * len(images)
    for future in futures:
        try:
            found.append(_waited(future, max(0.0, until - time.monotonic()), "the image"))
        except TimeoutError:
            future.cancel()
            found.append(f"the multimodal pool did not come to it in {_SHOWN_S:g} s")
        except DSPexError as error:
            found.append(error.message)
    if time.monotonic() >= until and not pool(_POOL).stats().done:  # it never did a thing: no worker can start
        _not_before = time.monotonic() + _AGAIN_S
    return found


def _read(reader: Callable[..., Any], content: bytes, how: Any) -> Any:
    try:
        return decode_apart(reader, content, how)
    except PoolError as error:
        warnings.warn(f"a PDF is read in this process: {error.message}", RuntimeWarning, stacklevel=2)
        return reader(content, how)


provide_thumbnails(_thumbnails)
provide_process(_read)
