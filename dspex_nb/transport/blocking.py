"""The blocking transport: http.client connections, kept alive and shared by all threads of the process.

A call blocks in its own thread, because crossing to an event loop costs 1.4 to 1.6 times as much. A connection is
taken from the idle ones of its origin or opened, and put back only after a whole reply; every other way out closes it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import os
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dspex_nb.errors import LMInvalidResponseError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport.dialing import dial, hang_up, proxy_for
from dspex_nb.transport.records import Deadline, Reply, connection_error, timeout_error
from dspex_nb.transport.redaction import host_of

MAX_BODY_BYTES = 256 * 1024 * 1024
_idle: dict[_Origin, deque[http.client.HTTPConnection]] = {}
_guard = threading.Lock()
_active: set[socket.socket] = set()


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class _Stale(Exception):  # noqa: N818 - a signal inside this module
    """A kept-alive connection that the server had closed meanwhile; a fresh one decides."""


def post(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float = 120.0, cancel: CancelToken | None = None
) -> Reply:
    """Send `body` and return the whole reply, whatever its status.

    Args:
        url: An http or https URL.
        headers: Sent as they are, beside Host and Content-Length.
        body: The request's bytes.
        timeout_s: Limit of the whole exchange, a slow drip included.
        cancel: Cancelling it closes the socket at once, from any thread.

    Raises:
        LMConnectionError: The server cannot be reached or broke the connection off.
        LMTimeoutError: No whole reply in time.
        Cancelled: `cancel` was cancelled.
    """
    return _exchange("POST", url, headers, body, timeout_s, cancel or CancelToken())


def get(
    url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0, cancel: CancelToken | None = None
) -> Reply:
    """Fetch `url`; for health checks. Raises as `post` does."""
    return _exchange("GET", url, headers or {}, None, timeout_s, cancel or CancelToken())


def stream_lines(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float = 120.0, cancel: CancelToken | None = None
) -> Iterator[bytes | Reply]:
    """Send `body` and yield the reply's lines as they come; a status other than 200 is yielded once, as a `Reply`.

    `timeout_s` limits each wait, not the whole stream. Leaving the iterator closes the socket. Raises as `post` does.
    """
    cancel = cancel or CancelToken()
    deadline = Deadline(timeout_s)
    with _translated(url, timeout_s, cancel):
        connection, response, unregister = _open("POST", url, headers, body, deadline, cancel)
        try:
            if response.status != http.HTTPStatus.OK:
                yield _read(response)
                return
            while line := response.readline():
                deadline.restart()
                cancel.check()  # a socket that was hung up reads as an end
                yield line.rstrip(b"\r\n")
            cancel.check()
            if response.length or (response.chunked and response.chunk_left is not None):
                raise http.client.IncompleteRead(b"", response.length)
        finally:
            unregister()
            response.close()
            connection.close()


def close_idle() -> None:
    """Close every connection that waits for reuse."""
    with _guard:
        waiting = [connection for idle in _idle.values() for connection in idle]
        _idle.clear()
    for connection in waiting:
        connection.close()


def _exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, cancel: CancelToken
) -> Reply:
    cancel.check()
    with _translated(url, timeout_s, cancel):
        connection, response, unregister = _open(method, url, headers, body, Deadline(timeout_s), cancel)
        whole = False
        try:
            reply = _read(response)
            cancel.check()  # a socket that was hung up reads as an end
            whole = True
            return reply
        finally:
            unregister()
            if whole and connection.sock is not None and not cancel.cancelled:
                _idle.setdefault(_origin(url), deque()).append(connection)
            else:
                response.close()
                connection.close()


def _open(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline, cancel: CancelToken
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, Any]:
    kept = _take_idle(_origin(url))
    if kept is not None:
        with contextlib.suppress(_Stale):
            return _ask(kept, method, url, headers, body, deadline, cancel, kept_alive=True)
    return _ask(_connect(url, deadline, cancel), method, url, headers, body, deadline, cancel, kept_alive=False)


def hang_up_all() -> None:
    """Break off every call under way in this process; each ends with an error at once."""
    for sock in tuple(_active):
        hang_up(sock)


def _ask(
    connection: http.client.HTTPConnection, method: str, url: str, headers: Mapping[str, str], body: bytes | None,
    deadline: Deadline, cancel: CancelToken, *, kept_alive: bool,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, Any]:  # fmt: skip
    sock = connection.sock
    _active.add(sock)
    forget = cancel.on_cancel(lambda: hang_up(sock))

    def unregister() -> None:
        _active.discard(sock)
        forget()

    connection.response_class = functools.partial(_DeadlinedResponse, deadline=deadline)  # type: ignore[assignment]
    try:
        sock.settimeout(deadline.left_s())
        connection.request(method, _target(connection, url), body, headers=dict(headers))
        return connection, connection.getresponse(), unregister
    except (ConnectionError, http.client.BadStatusLine) as error:
        unregister()
        connection.close()
        if kept_alive and not cancel.cancelled and isinstance(error, ConnectionError):
            raise _Stale from error
        raise
    except BaseException:
        unregister()
        connection.close()
        raise


def _read(response: http.client.HTTPResponse) -> Reply:
    body = response.read(MAX_BODY_BYTES + 1) if response.length is None else response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    if len(body) > MAX_BODY_BYTES:
        raise LMInvalidResponseError(f"the answer is larger than {MAX_BODY_BYTES >> 20} MB", hint="check what api_base points to")
    if not response.isclosed():
        response.close()
    return Reply(response.status, headers, body)


@contextlib.contextmanager
def _translated(url: str, timeout_s: float, cancel: CancelToken) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        cancel.check()
        raise timeout_error(url, timeout_s) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cancel.check()
        if isinstance(error, ValueError | http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
            raise LMInvalidResponseError(
                f"{host_of(url)} does not speak HTTP as expected", hint="check scheme (http or https) and port of api_base"
            ) from error
        raise connection_error(url, _plain(error)) from error


def _plain(error: BaseException) -> BaseException:
    """`IncompleteRead(12 bytes read…)` and the like, in words."""
    if isinstance(error, http.client.IncompleteRead):
        return ConnectionError("the connection broke off in the middle of the answer")
    if isinstance(error, ssl.SSLError):
        return ConnectionError(f"no secure connection ({error.reason or error})")
    return error


@functools.lru_cache(maxsize=64)
def _origin(url: str) -> _Origin:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConnectionError(f"{parts.scheme}://{parts.hostname} is not an http or https address")
    return _Origin(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


@functools.lru_cache(maxsize=64)
def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _target(connection: http.client.HTTPConnection, url: str) -> str:
    return url if getattr(connection, "through_proxy", False) else _path(url)


def _take_idle(origin: _Origin) -> http.client.HTTPConnection | None:
    idle = _idle.get(origin)
    while idle:
        try:
            connection = idle.pop()
        except IndexError:  # another thread took the last one
            return None
        if connection.sock is not None and not _readable(connection.sock):
            return connection
        connection.close()  # readable while idle means the server closed it
    return None


def _readable(sock: socket.socket) -> bool:
    poll = select.poll() if hasattr(select, "poll") else None
    if poll is None:
        return bool(select.select([sock], [], [], 0)[0])
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _connect(url: str, deadline: Deadline, cancel: CancelToken) -> http.client.HTTPConnection:
    origin = _origin(url)
    proxy = _proxy(origin)
    there = proxy or origin
    secure = origin.scheme == "https"
    connection: http.client.HTTPConnection = (
        _HTTPSConnection(there.host, there.port, context=_tls()) if secure else _HTTPConnection(there.host, there.port)
    )
    if proxy and secure:
        connection.set_tunnel(origin.host, origin.port)
    connection.through_proxy = bool(proxy and not secure)  # type: ignore[attr-defined]
    connection._create_connection = lambda address, *_: dial(address[0], address[1], deadline, cancel)  # type: ignore[attr-defined] # noqa: SLF001 - the hook http.client offers for this
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _proxy(origin: _Origin) -> _Origin | None:
    found = proxy_for(origin.scheme, origin.host)
    if found is None:
        return None
    parts = urlsplit(found)
    return _Origin("http", parts.hostname or "", parts.port or 8080)


class _OneWrite(http.client.HTTPConnection):
    """Sends head and body in one piece: two writes wake the server twice and cost a third of a short call."""

    _pieces: list[bytes] | None = None

    def send(self, data: Any) -> None:
        if self._pieces is None:  # a proxy's CONNECT
            super().send(data)
        else:
            self._pieces.append(data)

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._pieces = []
        try:
            super().request(*args, **kwargs)
            self.sock.sendall(b"".join(self._pieces))
        finally:
            self._pieces = None


class _HTTPConnection(_OneWrite):
    pass


class _HTTPSConnection(_OneWrite, http.client.HTTPSConnection):
    pass


class _DeadlinedReader(io.RawIOBase):
    """Reads a socket, giving each read only the time that is left in all."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._inner = sock.makefile("rb", buffering=0)  # counts as a user of the socket, so that it stays open while we read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left_s())
        return self._inner.readinto(buffer) or 0

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


class _Deadlined:
    """A socket as http.client's response wants it: something with `makefile`."""

    __slots__ = ("_deadline", "_sock")

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlinedReader(self._sock, self._deadline), 65536)


class _DeadlinedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **kwargs: Any) -> None:
        super().__init__(_Deadlined(sock, deadline), *args, **kwargs)  # type: ignore[arg-type]


if hasattr(os, "register_at_fork"):
    # A forked child must not talk on its parent's sockets.
    os.register_at_fork(after_in_child=_idle.clear)
    os.register_at_fork(after_in_child=_active.clear)
