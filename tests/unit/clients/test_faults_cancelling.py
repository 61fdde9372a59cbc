"""A stop, and a reader who leaves, close the socket: the server sees the client go, on every way to ask."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing

import pytest

from dspex_nb.clients import connect
from dspex_nb.errors import Cancelled
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

ASK = Request([{"role": "user", "content": "Capital of France?"}])


def blocking(client, scope):
    client.complete(ASK, scope=scope)


def on_a_loop(client, scope):
    asyncio.run(client.acomplete(ASK, scope=scope))


def streamed(client, scope):
    list(client.stream(ASK, scope=scope))


def streamed_on_a_loop(client, scope):
    async def gather():
        return [piece async for piece in client.astream(ASK, scope=scope)]

    asyncio.run(gather())


ways = pytest.mark.parametrize("ask", [blocking, on_a_loop, streamed, streamed_on_a_loop])


def watch(bad, gone, *, first=b""):
    """Return a script that sends `first`, then waits for the client to go and says so."""

    def script(peer):
        peer.sendall(first)
        peer.settimeout(10)
        try:
            if peer.recv(1) == b"":
                gone.set()
        except OSError:
            gone.set()
        return "close"

    return script


BEGUN = b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {"choices": [{"delta": {"content": "Par"}}]}\n\n'
HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"choices": '


@ways
@pytest.mark.parametrize("first", [b"", HALF, BEGUN], ids=["before the answer", "in the answer", "in the stream"])
def test_a_stop_closes_the_socket_and_sends_nothing_more(bad, ask, first):
    gone, scope = threading.Event(), Scope("t")
    with bad.BadServer(watch(bad, gone, first=first), bad.GOOD) as server:
        client = connect("openai/x", api_base=server.url)
        stopped = []

        def stop():
            while not server.requests:
                time.sleep(0.005)
            time.sleep(0.05)
            stopped.append(time.monotonic())
            scope.cancel.cancel()

        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(Cancelled):
            ask(client, scope)
        assert gone.wait(1)
        assert time.monotonic() - stopped[0] < 1
        assert len(server.requests) == 1
    assert (client._circuit.failures, client._circuit.opened) == (0, False)
    assert client._limiter._free == client._limiter.max_concurrency


def test_a_reader_who_leaves_a_stream_closes_the_socket(bad):
    gone = threading.Event()
    with bad.BadServer(watch(bad, gone, first=BEGUN)) as server:
        client = connect("openai/x", api_base=server.url)
        pieces = client.stream(ASK, scope=Scope("t"))
        assert next(pieces) == "Par"
        pieces.close()
        assert gone.wait(1)
    assert client._limiter._free == client._limiter.max_concurrency


def test_a_reader_who_leaves_a_stream_on_a_loop_closes_the_socket(bad):
    gone = threading.Event()

    async def read_one(client):
        async with aclosing(client.astream(ASK, scope=Scope("t"))) as pieces:
            async for piece in pieces:
                assert piece == "Par"
                break
        return await asyncio.to_thread(gone.wait, 1)

    with bad.BadServer(watch(bad, gone, first=BEGUN)) as server:
        client = connect("openai/x", api_base=server.url)
        assert asyncio.run(read_one(client))
    assert client._limiter._free == client._limiter.max_concurrency


@pytest.mark.parametrize("first", [b"", BEGUN])
def test_a_task_cancelled_by_its_owner_closes_the_socket_and_stays_cancelled(bad, first):
    gone = threading.Event()

    def arrived():
        while not server.requests:
            time.sleep(0.005)
        time.sleep(0.05)

    async def main(client):
        async def read():
            return [piece async for piece in client.astream(ASK, scope=Scope("t"))]

        task = asyncio.create_task(read() if first else client.acomplete(ASK, scope=Scope("t")))
        await asyncio.to_thread(arrived)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await asyncio.to_thread(gone.wait, 1)

    with bad.BadServer(watch(bad, gone, first=first)) as server:
        client = connect("openai/x", api_base=server.url)
        assert asyncio.run(main(client))
    assert client._circuit.failures == 0
    assert client._limiter._free == client._limiter.max_concurrency
