"""The blocking transport: connections kept alive and shared by all threads of the process.

A call blocks in its own thread, because crossing to an event loop costs 1.4 to 1.6 times as much. A connection is
taken from the idle ones of its origin or opened, and put back only after a whole reply; every other way out closes it.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httptools

from dspex_nb.errors import LMAuthError, LMInvalidResponseError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport.dialing import dial, hang_up, proxy_for
from dspex_nb.transport.exchange import Exchange, active, request_bytes
from dspex_nb.transport.records import Deadline, Reply, connection_error, timeout_error
from dspex_nb.transport.redaction import basic_auth, host_of

_IN_A_PATH = "/?:@!$&'()*+,;=%[]"  # beside letters and digits; a space would end the request line's address
_idle: dict[_Origin, deque[socket.socket]] = {}
_guard = threading.Lock()


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


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


def send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout_s: float = 120.0,
    cancel: CancelToken | None = None,
) -> Reply:
    """Send a request of any method and return the whole reply, whatever its status; raises as `post` does."""
    return _exchange(method, url, headers, body, timeout_s, cancel or CancelToken())


def stream_lines(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float = 120.0, cancel: CancelToken | None = None
) -> Iterator[bytes | Reply]:
    """Send `body` and yield the reply's lines as they come; a status other than 200 is yielded once, as a `Reply`.

    `timeout_s` limits each wait, not the whole stream. Leaving the iterator closes the socket. Raises as `post` does.
    """
    cancel = cancel or CancelToken()
    with _translated(url, timeout_s, cancel):
        exchange = _open("POST", url, headers, body, Deadline(timeout_s), cancel)
        try:
            while not exchange.headed:
                exchange.read()
            if exchange.status != 200:  # noqa: PLR2004 - HTTP's OK
                yield exchange.whole()
                return
            for line in exchange.lines():
                cancel.check()
                yield line
            cancel.check()  # a socket that was hung up reads as an end
        finally:
            exchange.leave()
            exchange.sock.close()


def close_idle() -> None:
    """Close every connection that waits for reuse."""
    with _guard:
        waiting = [sock for idle in _idle.values() for sock in idle]
        _idle.clear()
    for sock in waiting:
        sock.close()


def hang_up_all() -> None:
    """Break off every call under way in this process; each ends with an error at once."""
    for sock in tuple(active):
        hang_up(sock)


def _exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, cancel: CancelToken
) -> Reply:
    cancel.check()
    with _translated(url, timeout_s, cancel):
        exchange = _open(method, url, headers, body, Deadline(timeout_s), cancel)
        reusable = False
        try:
            reply = exchange.whole()
            cancel.check()  # a socket that was hung up reads as an end
            reusable = True
            return reply
        finally:
            if exchange.leave() and reusable:
                _idle.setdefault(_origin(url), deque()).append(exchange.sock)
            else:
                exchange.sock.close()


def _open(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline, cancel: CancelToken
) -> Exchange:
    """Return an exchange of which the request is sent and the reply has begun."""
    origin = _origin(url)
    request = request_bytes(_start(method, url, _proxy(origin)), headers, body)
    kept = _take_idle(origin)
    if kept is not None:
        try:
            return _sent(kept, request, deadline, cancel)
        except ConnectionError:
            # Nothing came back on a connection that had waited: the server closed it meanwhile, and a fresh one decides.
            if cancel.cancelled:
                raise
    return _sent(_connect(origin, deadline, cancel), request, deadline, cancel)


def _sent(sock: socket.socket, request: bytes, deadline: Deadline, cancel: CancelToken) -> Exchange:
    exchange = Exchange(sock, deadline, cancel)
    try:
        exchange.send(request)
    except BaseException:
        exchange.leave()
        sock.close()
        raise
    return exchange


class _translated:  # noqa: N801 - used as a function; a generator's context manager would cost twice as much a call
    """Turns the failures of the way into the errors users read."""

    __slots__ = ("_cancel", "_timeout_s", "_url")

    def __init__(self, url: str, timeout_s: float, cancel: CancelToken) -> None:
        self._url, self._timeout_s, self._cancel = url, timeout_s, cancel

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, OSError | httptools.HttpParserError | ValueError):
            return
        self._cancel.check()
        if isinstance(error, TimeoutError):
            raise timeout_error(self._url, self._timeout_s) from error
        if isinstance(error, OSError):
            raise connection_error(self._url, _plain(error)) from error
        if isinstance(error, httptools.HttpParserError):
            raise LMInvalidResponseError(
                f"{host_of(self._url)} does not speak HTTP as expected",
                hint="check scheme (http or https) and port of api_base",
            ) from error
        raise LMAuthError(
            f"a header for {host_of(self._url)} cannot be sent: it holds a line break or a character outside Latin-1",
            hint="look at the API key and at headers=: a key copied with its line end must be stripped",
        ) from None  # its words would show the key


def _plain(error: BaseException) -> BaseException:
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
def _start(method: str, url: str, proxy: str | None) -> bytes:
    """Return the request line and the headers that the address decides."""
    parts = urlsplit(url)
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_A_PATH)
    host = parts.netloc.rpartition("@")[2]
    through = proxy is not None and parts.scheme == "http"
    lines = [
        f"{method} {f'http://{host}{path}' if through else path} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        *(_proxy_auth(proxy) if through else ()),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _proxy(origin: _Origin) -> str | None:
    return proxy_for(origin.scheme, origin.host)


def _proxy_auth(proxy: str | None) -> list[str]:
    return [f"Proxy-{name}: {value}" for name, value in basic_auth(proxy or "").items()]


def _take_idle(origin: _Origin) -> socket.socket | None:
    idle = _idle.get(origin)
    while idle:
        try:
            sock = idle.pop()
        except IndexError:  # another thread took the last one
            return None
        if not _readable(sock):
            return sock
        sock.close()  # readable while idle means the server closed it
    return None


def _readable(sock: socket.socket) -> bool:
    poll = select.poll() if hasattr(select, "poll") else None
    if poll is None:
        return bool(select.select([sock], [], [], 0)[0])
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _connect(origin: _Origin, deadline: Deadline, cancel: CancelToken) -> socket.socket:
    proxy = _proxy(origin)
    there = urlsplit(proxy) if proxy else None
    host, port = (there.hostname or "", there.port or 8080) if there else (origin.host, origin.port)
    sock = dial(host, port, deadline, cancel)
    if origin.scheme == "http":
        return sock
    unregister = cancel.on_cancel(functools.partial(hang_up, sock))
    try:
        if proxy:
            _tunnel(sock, origin, proxy, deadline)
        sock.settimeout(deadline.left_s())
        return _tls().wrap_socket(sock, server_hostname=origin.host)
    except BaseException:
        sock.close()
        raise
    finally:
        unregister()


def _tunnel(sock: socket.socket, origin: _Origin, proxy: str, deadline: Deadline) -> None:
    """Have a proxy connect this socket to the origin."""
    where = f"{origin.host}:{origin.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *_proxy_auth(proxy)]
    sock.settimeout(deadline.left_s())
    sock.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        sock.settimeout(deadline.left_s())
        byte = sock.recv(1)  # no more than the head: what follows belongs to TLS
        if not byte or len(head) > 65536:  # noqa: PLR2004 - far beyond any head
            raise ConnectionError("the proxy broke the connection off")
        head += byte
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split()[1:2] != ["200"]:
        raise ConnectionError(f"the proxy {host_of(proxy)} answered {status!r}")


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _after_fork() -> None:
    # A forked child must not talk on its parent's sockets.
    _idle.clear()
    active.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
