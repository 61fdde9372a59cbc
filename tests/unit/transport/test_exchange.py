"""What a server may send beside a plain reply, on real sockets: the reply is read right, and no other one is mixed into it."""

from __future__ import annotations

import importlib.util
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from dspex_nb.errors import LMConnectionError, LMInvalidResponseError
from dspex_nb.transport import blocking, close_idle, post, stream_lines

_spec = importlib.util.spec_from_file_location("misbehaving", Path(__file__).with_name("misbehaving.py"))
bad = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bad)

FIRST, SECOND = bad.http(200, b"first"), bad.http(200, b"second", {"X-Second": "yes"})
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kept: head\r\n\r\n3\r\nfir\r\n2;ext=1\r\nst\r\n0\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello"


@pytest.fixture(autouse=True)
def _alone():
    yield
    close_idle()


def ask(server, path=""):
    return post(f"{server.url}{path}", {}, b"{}", timeout_s=5)


def kept(server):
    return sum(len(idle) for origin, idle in blocking._idle.items() if origin.port == server.port)


def byte_by_byte(data):
    """Return a script that sends each byte by itself."""

    def script(peer):
        for byte in data:
            peer.sendall(bytes([byte]))
            time.sleep(0.0005)

    return script


@pytest.mark.parametrize(
    "reply",
    [
        FIRST,
        b"HTTP/1.1 100 Continue\r\n\r\n" + FIRST,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + FIRST,
        CHUNKED + b"\r\n",
        CHUNKED + b"X-Kept: trailer\r\nX-Sum: 1\r\n\r\n",
        FIRST + b"\r\n",  # old servers end so
    ],
)
@pytest.mark.parametrize("cut", [bytes, byte_by_byte], ids=["at once", "byte by byte"])
def test_a_whole_reply_leaves_its_connection_for_the_next(reply, cut):
    with bad.BadServer(cut(reply), SECOND) as server:
        first = ask(server)
        assert (first.status, first.body, kept(server)) == (200, b"first", 1)
        assert not {"link", "x-sum"} & set(first.headers)
        assert first.headers.get("x-kept") in {None, "head"}
        assert ask(server).body == b"second"


@pytest.mark.parametrize(
    "surplus", [SECOND, SECOND[:30], SECOND[:-3], b"garbage"], ids=["a reply", "part of a head", "part of a body", "garbage"]
)
@pytest.mark.parametrize("head", [FIRST, CHUNKED + b"\r\n", bad.http(200, b"first", {"Connection": "close"})])
def test_what_comes_after_a_reply_is_neither_part_of_it_nor_of_the_next(head, surplus):
    with bad.BadServer(head + surplus, bad.http(200, b"third")) as server:
        reply = ask(server)
        assert (reply.status, reply.body, "x-second" in reply.headers, kept(server)) == (200, b"first", False, 0)
        assert ask(server).body == b"third"
    with bad.BadServer(head + surplus) as server:
        assert list(stream_lines(server.url, {}, b"{}", timeout_s=5)) == [b"first"]


def test_a_reply_nobody_asked_for_that_comes_later_costs_its_connection():
    def late_surplus(peer):
        peer.sendall(FIRST)
        time.sleep(0.05)
        peer.sendall(SECOND)

    with bad.BadServer(late_surplus, bad.http(200, b"third")) as server:
        assert (ask(server).body, kept(server)) == (b"first", 1)
        time.sleep(0.15)
        assert ask(server).body == b"third"


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"])
def test_a_reply_without_a_body_ends_with_its_head(head):
    with bad.BadServer(head, SECOND) as server:
        assert (ask(server).body, kept(server)) == (b"", 1)
        assert ask(server).body == b"second"


def test_a_server_that_switches_protocols_is_a_reply_like_any_other():
    with bad.BadServer(SWITCHED) as server:
        reply = ask(server)
        assert (reply.status, reply.headers["upgrade"], reply.body, kept(server)) == (101, "websocket", b"", 0)
        assert [reply.status for reply in stream_lines(server.url, {}, b"{}", timeout_s=5)] == [101]


@pytest.mark.parametrize(
    "lengths",
    [b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"Content-Length: 3\r\nContent-Length: 5", b"Content-Length: -1"],
)
def test_lengths_that_disagree_are_refused(lengths):
    with bad.BadServer(b"HTTP/1.1 200 OK\r\n" + lengths + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n") as server:
        with pytest.raises(LMInvalidResponseError, match="does not speak HTTP"):
            ask(server)
        assert kept(server) == 0


def test_a_body_too_large_is_refused_before_it_comes():
    with (
        bad.BadServer(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n") as server,
        pytest.raises(LMInvalidResponseError, match="larger than 256 MB"),
    ):
        ask(server)


@pytest.mark.parametrize("word", [b"chunked", b"Chunked"])
@pytest.mark.parametrize("end", [b"", b"X-Sum: 1\r\n"], ids=["before the end", "in the trailers"])
def test_a_chunked_reply_that_lacks_its_end_is_broken_off(end, word):
    def cut(peer):
        peer.sendall(CHUNKED.replace(b"chunked", word) + end)
        return "close"

    with bad.BadServer(cut) as server, pytest.raises(LMConnectionError, match="broke off in the middle"):
        ask(server)


def test_a_long_line_takes_time_in_proportion():
    def seconds(megabytes):
        with bad.BadServer(bad.http(200, b"x" * (megabytes * 1_000_000) + b"\r\nend")) as server:
            began = time.process_time()
            assert [len(line) for line in stream_lines(server.url, {}, b"{}")] == [megabytes * 1_000_000, 3]
            return time.process_time() - began

    seconds(4)
    assert seconds(32) < 8 * 4 * max(seconds(4), 0.02)  # eight times the bytes; copying at each piece would take 64 times as long


def test_an_address_is_written_so_that_it_cannot_end_the_request_line():
    with bad.BadServer(FIRST) as server:
        assert ask(server, "/a b%20ü?q=[x] HTTP/1.1").status == 200
    assert server.requests[0][0].splitlines()[0] == b"POST /v1/a%20b%20%C3%BC?q=[x]%20HTTP/1.1 HTTP/1.1"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example"])
def test_a_host_that_is_no_name_is_said_at_once(host):
    started = time.monotonic()
    with pytest.raises(LMConnectionError, match="is no host name"):
        post(f"http://{host}/", {}, b"{}", timeout_s=5)
    assert time.monotonic() - started < 2


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A misbehaving server that speaks TLS, its certificate trusted."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-out", tmp_path / "certificate",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert made.returncode == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate")
    monkeypatch.setattr(blocking, "_tls", lambda: trusting)

    class Server(bad.BadServer):
        def __init__(self, *scripts):
            self.connections = 0
            super().__init__(*scripts)
            self.url = f"https://localhost:{self.port}/v1"

        def _talk(self, peer):
            self.connections += 1
            super()._talk(context.wrap_socket(peer, server_side=True))

    return Server


def test_tls_keeps_connections_and_replaces_closed_ones(tls):
    with tls(FIRST, bad.answer_then_close, FIRST + SECOND, bad.http(200, b"x" * 1_000_000)) as server:
        found = []
        for _ in range(4):
            reply = ask(server)
            found.append((len(reply.body), server.connections))
            time.sleep(0.03)
    assert [connections for _, connections in found] == [1, 1, 2, 3]
    assert found[3][0] == 1_000_000
