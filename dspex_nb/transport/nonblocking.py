"""The async transport: one aiohttp session an event loop, closed when its loop shuts down."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from dspex_nb.errors import LMInvalidResponseError
from dspex_nb.scopes import CancelToken, stopped
from dspex_nb.transport.dialing import proxy_for
from dspex_nb.transport.records import Reply, connection_error, timeout_error
from dspex_nb.transport.redaction import host_of

if TYPE_CHECKING:
    import aiohttp

KEEPALIVE_S = 4.0  # llama.cpp's server closes idle connections after 5 s; leaving first avoids writing into a closed one
_sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()


async def apost(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float = 120.0, cancel: CancelToken | None = None
) -> Reply:
    """Send `body` and return the whole reply, whatever its status; the async twin of `post`, with the same errors."""
    return await _asend("POST", url, headers, body, timeout_s, cancel)


async def aget(url: str, *, headers: Mapping[str, str], timeout_s: float = 120.0, cancel: CancelToken | None = None) -> Reply:
    """Return the whole reply to a GET; the async twin of `get`."""
    return await _asend("GET", url, headers, None, timeout_s, cancel)


async def _asend(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, cancel: CancelToken | None
) -> Reply:
    cancel = cancel or CancelToken()
    cancel.check()
    with _Guard(url, timeout_s, cancel):
        session = await _session()
        async with session.request(
            method, url, data=body, headers=headers, timeout=_in_all(timeout_s), proxy=_proxy(url), allow_redirects=False
        ) as response:
            content = await response.read()
            return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, content)


async def astream_lines(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float = 120.0, cancel: CancelToken | None = None
) -> AsyncGenerator[bytes | Reply, None]:
    """Send `body` and yield the reply's lines as they come; the async twin of `stream_lines`."""
    import aiohttp

    cancel = cancel or CancelToken()
    cancel.check()
    with _Guard(url, timeout_s, cancel) as breaker:
        session = await _session()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s)
        asked = session.post(url, data=body, headers=headers, timeout=timeout, proxy=_proxy(url), allow_redirects=False)
        async with asyncio.timeout(timeout_s):
            response = await asked
        async with response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                async with asyncio.timeout(timeout_s):
                    content = await response.read()
                reply = Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, content)
                with breaker.resting():
                    yield reply
                return
            pending = b""
            while True:
                # Not aiohttp's readline: it refuses long lines, and waits for ever on one that drips.
                async with asyncio.timeout(timeout_s):
                    lines, pending = await _more_lines(response.content, pending)
                if not lines:
                    return
                for line in lines:
                    with breaker.resting():
                        yield line.rstrip(b"\r\n")
                    cancel.check()


async def _more_lines(content: aiohttp.StreamReader, pending: bytes) -> tuple[list[bytes], bytes]:
    """Read on until a line is whole; return the whole lines and what was read of the next. No line means the end."""
    pieces = [pending]
    while piece := await content.readany():
        pieces.append(piece)
        if b"\n" in piece:
            *lines, rest = b"".join(pieces).split(b"\n")
            return lines, rest
    last = b"".join(pieces)
    return ([last] if last else []), b""


def _plain(error: Exception) -> BaseException:
    import aiohttp

    if isinstance(error, aiohttp.ClientPayloadError):
        return ConnectionError("the connection broke off in the middle of the answer")
    inner = getattr(error, "os_error", None)
    return inner if isinstance(inner, OSError) else error


class _Guard:
    """Cancels the task that entered it when the token is cancelled, from whichever thread, and names what failed."""

    __slots__ = ("_armed", "_cancel", "_fired", "_loop", "_task", "_timeout_s", "_unregister", "_url")

    def __init__(self, url: str, timeout_s: float, cancel: CancelToken) -> None:
        self._url, self._timeout_s, self._cancel = url, timeout_s, cancel
        self._fired = self._armed = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._armed = True
        self._unregister = self._cancel.on_cancel(self._from_any_thread)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> Literal[False]:
        self._armed = False
        self._unregister()
        if error is not None:
            self._translate(error)
        return False

    def _translate(self, error: BaseException) -> None:
        import aiohttp

        if isinstance(error, asyncio.CancelledError):
            if self._fired:
                if self._task is not None:
                    self._task.uncancel()  # the cancellation was ours: the task itself goes on, with `Cancelled`
                raise stopped() from None
        elif isinstance(error, TimeoutError):
            raise timeout_error(self._url, self._timeout_s) from error
        elif isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            raise connection_error(self._url, _plain(error)) from error
        elif isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | ValueError):
            raise LMInvalidResponseError(
                f"{host_of(self._url)} does not speak HTTP as expected",
                hint="check scheme (http or https) and port of api_base",
            ) from error

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Leave the task alone while a stream's reader has the turn: what it awaits then is not ours to break off."""
        self._armed = False
        yield
        self._armed, self._task = True, asyncio.current_task()

    def _from_any_thread(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
            self._loop.call_soon_threadsafe(self._on_loop)

    def _on_loop(self) -> None:
        if self._armed and self._task is not None:
            self._fired = True
            self._task.cancel()


@functools.lru_cache(maxsize=64)
def _in_all(timeout_s: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=timeout_s)


@functools.lru_cache(maxsize=64)
def _proxy(url: str) -> str | None:
    # Not aiohttp's trust_env: that reads ~/.netrc in a thread at every request, which doubles a short call.
    parts = urlsplit(url)
    return proxy_for(parts.scheme, parts.hostname or "")


async def _session() -> aiohttp.ClientSession:
    loop = asyncio.get_running_loop()
    held = _sessions.get(loop)
    if held is None or held[0].closed:
        keeper = _keep_session()
        held = _sessions[loop] = (await anext(keeper), keeper)
    return held[0]


async def _keep_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Hold the loop's session; asyncio closes async generators when a loop shuts down, and the session with this one."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)  # limits are the Limiter's
    session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
    try:
        yield session
    finally:
        await session.close()
