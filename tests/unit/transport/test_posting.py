"""Both transports against servers that misbehave, on real sockets."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
import time
from pathlib import Path

import pytest

from dspex_nb.errors import Cancelled, LMConnectionError, LMInvalidResponseError, LMTimeoutError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import Reply, apost, astream_lines, post, stream_lines

_spec = importlib.util.spec_from_file_location("misbehaving", Path(__file__).with_name("misbehaving.py"))
bad = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bad)


def blocking(url, **options):
    return post(url, {}, b"{}", **options)


def on_a_loop(url, **options):
    return asyncio.run(apost(url, {}, b"{}", **options))


both = pytest.mark.parametrize("send", [blocking, on_a_loop])


@both
def test_a_reply_comes_whole_whatever_its_status(send):
    with bad.BadServer(bad.http(503, b"busy", {"Retry-After": "3"})) as server:
        assert send(server.url) == Reply(
            503, {"content-type": "application/json", "content-length": "4", "retry-after": "3"}, b"busy"
        )


@both
@pytest.mark.parametrize("script", [bad.reset, bad.hang_up_silently, bad.cut])
def test_a_broken_connection_is_named_with_host_and_port(send, script):
    with bad.BadServer(script) as server, pytest.raises(LMConnectionError, match=f"127.0.0.1:{server.port}") as caught:
        send(server.url)
    assert "running" in caught.value.hint


@both
def test_a_server_that_is_down(send):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(LMConnectionError, match=f"127.0.0.1:{port}.*refused"):
        send(f"http://127.0.0.1:{port}/v1")


@both
def test_a_name_that_does_not_resolve(send):
    with pytest.raises(LMConnectionError, match=r"no-such-host\.invalid:80"):
        send("http://no-such-host.invalid/v1")


@both
@pytest.mark.parametrize("script", [bad.silence, bad.drip])
def test_silence_and_a_slow_drip_end_at_the_total_timeout(send, script):
    started = time.monotonic()
    with bad.BadServer(script) as server, pytest.raises(LMTimeoutError, match=r"0\.3 s"):
        send(server.url, timeout_s=0.3)
    assert time.monotonic() - started < 2


@both
def test_what_is_not_http(send):
    with bad.BadServer(b"SSH-2.0-OpenSSH_9\r\n\r\n") as server, pytest.raises((LMInvalidResponseError, LMConnectionError)):
        send(server.url, timeout_s=2)


@both
def test_ten_megabytes_arrive(send):
    with bad.BadServer(bad.http(200, b"x" * 10_000_000)) as server:
        assert len(send(server.url).body) == 10_000_000


@both
def test_a_stop_breaks_the_call_off_and_closes_the_socket(send):
    cancel = CancelToken()
    with bad.BadServer(bad.silence) as server:
        threading.Timer(0.15, cancel.cancel).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            send(server.url, timeout_s=30, cancel=cancel)
        assert time.monotonic() - started < 1


def test_a_stop_breaks_off_connecting_too():
    # A listener whose queue is full does not answer the handshake.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        cancel = CancelToken()
        threading.Timer(0.15, cancel.cancel).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}", timeout_s=10, cancel=cancel)
        assert time.monotonic() - started < 1
        for one in waiting:
            one.close()


def test_a_connection_is_kept_and_a_closed_one_replaced_unnoticed():
    with bad.BadServer(bad.GOOD, bad.answer_then_close, bad.GOOD) as server:
        ports = []
        for _ in range(3):
            assert blocking(server.url).status == 200
            time.sleep(0.03)
            ports.append(len(server.requests))
        assert ports == [1, 2, 3]


def test_threads_share_idle_connections():
    with bad.BadServer(bad.GOOD) as server:
        blocking(server.url)
        thread = threading.Thread(target=blocking, args=(server.url,))
        thread.start()
        thread.join()
        from dspex_nb.transport.blocking import _idle

        assert [len(idle) for origin, idle in _idle.items() if origin.port == server.port] == [1]


def lines_blocking(url, **options):
    return list(stream_lines(url, {}, b"{}", **options))


def lines_on_a_loop(url, **options):
    async def gather():
        return [line async for line in astream_lines(url, {}, b"{}", **options)]

    return asyncio.run(gather())


both_streams = pytest.mark.parametrize("read", [lines_blocking, lines_on_a_loop])


@both_streams
def test_lines_come_as_sent(read):
    with bad.BadServer(bad.stream("a", "b")) as server:
        data = [line for line in read(server.url) if line.startswith(b"data")]
    assert [b'"a"' in data[0], b'"b"' in data[1], data[2]] == [True, True, b"data: [DONE]"]


@both_streams
def test_a_refused_stream_is_one_reply(read):
    with bad.BadServer(bad.http(401, b"no")) as server:
        assert [(reply.status, reply.body) for reply in read(server.url)] == [(401, b"no")]


@both_streams
def test_a_stream_is_stopped(read):
    cancel = CancelToken()

    def slow(peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: 1\n")
        return bad.silence(peer)

    with bad.BadServer(slow) as server:
        threading.Timer(0.15, cancel.cancel).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            read(server.url, cancel=cancel)
        assert time.monotonic() - started < 1


def test_a_stop_while_the_reader_has_the_turn_leaves_its_task_alone():
    cancel = CancelToken()

    async def read():
        async for _ in astream_lines(server.url, {}, b"{}", cancel=cancel):
            cancel.cancel()
            await asyncio.sleep(0.05)  # must not be cancelled: it is the reader's own

    with bad.BadServer(bad.stream("a", "b")) as server, pytest.raises(Cancelled):
        asyncio.run(read())


def test_a_task_cancelled_by_its_owner_stays_cancelled():
    async def main():
        task = asyncio.create_task(apost(server.url, {}, b"{}"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with bad.BadServer(bad.silence) as server:
        asyncio.run(main())


@both
def test_a_proxy_named_in_the_environment_is_used(send, monkeypatch):
    from dspex_nb.transport import nonblocking

    nonblocking._proxy.cache_clear()
    with bad.BadServer(bad.GOOD) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "inside.example")
        assert send("http://outside.example/v1/x").status == 200
    assert proxy.requests[0][0].startswith(b"POST http://outside.example/v1/x HTTP/1.1")
