"""A client's limits: tokens corrected by the answer, shared by clients of one model and key."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dspex_nb.clients import connect
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope
from dspex_nb.transport import limits

ASK = Request([{"role": "user", "content": "Capital of France?"}], {"max_tokens": 800})


def blocking(client):
    return client.complete(ASK, scope=Scope("t")).text


def test_what_was_set_aside_is_corrected_by_what_the_answer_used(bad, ask, good):
    with bad.BadServer(good) as server:
        client = connect("openai/x", api_base=server.url, tpm=1000)
        started = time.monotonic()
        for _ in range(5):  # 800 are set aside for each: without the correction the second would wait a minute
            assert ask(client, ASK) == "Paris"
        assert time.monotonic() - started < 5
    assert [start.tokens for start in client._limiter._starts] == [15] * 5


def test_an_image_is_not_counted_by_its_bytes(bad):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    asked = Request([{"role": "user", "content": [{"type": "text", "text": "What is it? "}, picture]}])
    with bad.BadServer(bad.http(400, b"no")) as server:
        client = connect("openai/x", api_base=server.url, tpm=100_000)
        with pytest.raises(Exception, match="400"):
            client.complete(asked, scope=Scope("t"))
    assert client._limiter._starts[0].tokens == 1003


def test_a_failed_call_keeps_what_was_set_aside(bad):
    with bad.BadServer(bad.http(400, b"no")) as server:
        client = connect("openai/x", api_base=server.url, tpm=1000)
        with pytest.raises(Exception, match="400"):
            blocking(client)
    assert [start.tokens > 800 for start in client._limiter._starts] == [True]


def test_a_cell_that_is_run_again_keeps_to_the_rate(bad, monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_S", 0.4)
    with bad.BadServer(bad.GOOD) as server:
        started = time.monotonic()
        lm = None
        for _ in range(3):  # `lm = dx.LM(…, rpm=2)` each time
            lm = connect("openai/x", api_base=server.url, rpm=2)
            blocking(lm)
        assert time.monotonic() - started > 0.35


def test_max_concurrency_holds_for_all_clients_of_a_model_in_threads_and_tasks(bad):
    lock, inside, most = threading.Lock(), 0, 0

    def slow(peer):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.03)
        with lock:
            inside -= 1
        peer.sendall(bad.GOOD)

    async def many(client):
        await asyncio.gather(*(client.acomplete(ASK, scope=Scope("t")) for _ in range(6)))

    with bad.BadServer(slow) as server:
        one, other = (connect("openai/x", api_base=server.url, max_concurrency=2) for _ in range(2))
        threads = [threading.Thread(target=blocking, args=(one,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        asyncio.run(many(other))
        for thread in threads:
            thread.join()
        assert (most, len(server.requests)) == (2, 12)


def test_a_429_holds_everybody_back(bad):
    with bad.BadServer(bad.http(429, b"", {"Retry-After": "0.4"}), bad.GOOD) as server:
        client = connect("openai/x", api_base=server.url)
        first = threading.Thread(target=blocking, args=(client,))
        first.start()
        while not client._limiter._not_before:
            time.sleep(0.005)
        started = time.monotonic()
        blocking(client)
        first.join()
        assert time.monotonic() - started > 0.3
