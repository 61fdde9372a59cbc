"""One HTTP/1.1 exchange on a socket: the request goes out in one write, llhttp (through httptools) reads the reply."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping

import httptools

from dspex_nb.errors import LMInvalidResponseError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport.dialing import hang_up
from dspex_nb.transport.records import Deadline, Reply

MAX_BODY_BYTES = 256 * 1024 * 1024
_PIECE_BYTES = 65536
_OK_OR_LATER = 200  # smaller ones announce the reply to come, but for one
_SWITCHING = 101  # the last that is HTTP
active: set[socket.socket] = set()
"""Sockets with a call under way."""


class Exchange:
    """A request sent and its reply being read; used by one thread, stopped from any.

    Attributes:
        status: The reply's status, once `headed`.
        headers: Its headers, names in lower case.
        headed: Whether the head has come whole.
        done: Whether the reply has come whole.
    """

    __slots__ = (
        "_begun", "_cancel", "_deadline", "_forget", "_kept", "_parser", "_pieces", "_size", "done", "headed", "headers", "sock",
        "status",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, deadline: Deadline, cancel: CancelToken) -> None:
        self.sock, self._deadline, self._cancel = sock, deadline, cancel
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self.headers: dict[str, str] = {}
        self._begun = self._kept = self.headed = self.done = False
        self._size = self.status = 0
        active.add(sock)
        self._forget: Callable[[], None] = cancel.on_cancel(lambda: hang_up(sock))

    def send(self, request: bytes) -> None:
        """Write the request and read what first comes back."""
        self.sock.settimeout(self._deadline.left_s())
        self.sock.sendall(request)
        self.read()

    def read(self) -> None:
        """Wait for more of the reply and take it in.

        Raises:
            TimeoutError: The deadline passed.
            ConnectionError: The connection ended too early.
            LMInvalidResponseError: The reply is too large.
            httptools.HttpParserError: What came is no HTTP.
        """
        self.sock.settimeout(self._deadline.left_s())
        data = self.sock.recv(_PIECE_BYTES)
        if data:
            self._begun = True
            self._feed(data)
        elif self.headed and not self._says_its_end():
            self.done = True  # such a reply ends with its connection
        else:
            raise ConnectionError(
                "the connection broke off in the middle of the answer" if self._begun else "the connection was closed"
            )

    def whole(self) -> Reply:
        """Return the reply, read to its end."""
        while not self.done:
            self.read()
        return Reply(self.status, self.headers, b"".join(self._pieces))

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines as they come; each may take the whole of the deadline."""
        unended = 0  # pieces that hold no line's end are not joined until it comes, or a long line would be copied at each
        while True:
            if any(b"\n" in piece for piece in self._pieces[unended:]):
                *lines, rest = b"".join(self._pieces).split(b"\n")
                self._pieces = [rest]
                for line in lines:
                    self._size = 0
                    self._deadline.restart()
                    yield line.rstrip(b"\r")
            unended = len(self._pieces)
            if self.done:
                break
            self.read()
        if rest := b"".join(self._pieces):
            yield rest

    def leave(self) -> bool:
        """End the exchange; returns whether the connection may serve another."""
        active.discard(self.sock)
        self._forget()
        # A socket that was hung up is no good, though the reply may have come whole.
        return self._kept and not self._cancel.cancelled

    def _says_its_end(self) -> bool:
        return "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.done:  # more came than the reply: it stands, but who knows what comes next on this connection
                self._kept = False
            elif isinstance(error, httptools.HttpParserCallbackError):
                raise (error.__context__ or error) from None
            else:
                raise

    # What the parser calls

    def on_message_begin(self) -> None:
        """Refuse a second reply: nothing asked for it, and its headers and body must not mix with the first one's."""
        if self.done:
            raise ConnectionError("a reply that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what trails the body is not one."""
        if not self.headed:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take note that the body begins."""
        self.status = self._parser.get_status_code()
        self.headed = self.status >= _OK_OR_LATER or self.status == _SWITCHING
        with contextlib.suppress(ValueError):
            self._check_size(int(self.headers.get("content-length", 0)))

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(data)
        self._check_size(self._size)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Take note that the reply, or what announced it, is over."""
        if self.headed:
            self.done, self._kept = True, bool(self._parser.should_keep_alive())
        else:
            self.headers.clear()

    def _check_size(self, size: int) -> None:
        if size > MAX_BODY_BYTES:
            raise LMInvalidResponseError(
                f"the answer is larger than {MAX_BODY_BYTES >> 20} MB", hint="check what api_base points to"
            )


def request_bytes(start: bytes, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return a request in one piece.

    Args:
        start: The request line and the headers that the address decides.
        headers: Further headers.
        body: The content, None for a request without.

    Raises:
        ValueError: A header holds a line break, or what HTTP's headers cannot hold.
    """
    head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if head.count("\n") != len(headers) or head.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return b"".join((start, head.encode("latin-1"), length, b"\r\n", body or b""))
