"""A client against a server that misbehaves: what it retries, what it says, what it never shows."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.errors import (
    Cancelled,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConnectionError,
    LMInvalidRequestError,
    LMInvalidResponseError,
    LMServerError,
)
from dspex_nb.events import Bus
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

KEY = "sk-secret-0123456789abcdef"
ASK = Request([{"role": "user", "content": "Capital of France?"}])


def blocking(client, request=ASK, scope=None, cache=None):
    return client.complete(request, scope=scope or Scope("t"), cache=cache)


def on_a_loop(client, request=ASK, scope=None, cache=None):
    return asyncio.run(client.acomplete(request, scope=scope or Scope("t"), cache=cache))


def streamed(client, request=ASK, scope=None, cache=None):
    return "".join(client.stream(request, scope=scope or Scope("t"), cache=cache))


both = pytest.mark.parametrize("ask", [blocking, on_a_loop])


def client_of(server, **options):
    return connect("openai/gpt-4o-mini", api_base=server.url, api_key=KEY, **options)


@both
def test_429_waits_as_long_as_the_server_asks(bad, ask):
    with bad.BadServer(bad.http(429, {"error": {"message": "slow"}}, {"Retry-After": "0.3"}), bad.GOOD) as server:
        started = time.monotonic()
        assert ask(client_of(server)).text == "Paris"
        assert time.monotonic() - started >= 0.3
        assert len(server.requests) == 2


@both
@pytest.mark.parametrize("name", ["reset", "cut", "hang_up_silently"])
def test_a_broken_connection_is_tried_again(bad, ask, name):
    with bad.BadServer(getattr(bad, name), bad.http(500, b"oops"), bad.http(429, b""), bad.GOOD) as server:
        assert ask(client_of(server)).text == "Paris"
        assert len(server.requests) == 4


@both
def test_retries_end_and_say_how_many(bad, ask):
    with bad.BadServer(bad.http(503, b"busy")) as server, pytest.raises(LMServerError, match=r"503.*after 3 attempts"):
        ask(client_of(server, num_retries=2))
    assert len(server.requests) == 3


@both
@pytest.mark.parametrize(
    ("status", "body", "kind", "hint"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, LMAuthError, "OPENAI_API_KEY"),
        (
            400,
            {"error": {"message": "maximum context length is 8192", "code": "context_length_exceeded"}},
            ContextWindowExceededError,
            "shorten",
        ),
        (400, {"error": {"message": "temperature must be"}}, LMInvalidRequestError, "options"),
        (404, {"detail": "Not Found"}, LMInvalidRequestError, "/v1"),
        (
            429,
            {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
            LMBillingError,
            "credit",
        ),
        (302, b"", LMInvalidResponseError, "api_base"),
    ],
)
def test_what_cannot_get_better_is_not_tried_again(bad, ask, status, body, kind, hint):
    with bad.BadServer(bad.http(status, body)) as server, pytest.raises(kind) as caught:
        ask(client_of(server))
    assert len(server.requests) == 1
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert caught.value.status in (status, None)
    assert "secret" not in str(caught.value)


@both
@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b"<!DOCTYPE html><html><title>nginx</title>", "a web page"),
        (b'{"choices": [', "not a chat completion"),
        (b'{"choices": []}', "not a chat completion"),
        (b"[1]", "not a chat completion"),
        (b"[" * 100_000, "not a chat completion"),
        (b'{"choices": [{"text": "x"}]}', "not a chat completion"),
    ],
)
def test_what_is_no_answer(bad, ask, body, seen):
    with (
        bad.BadServer(bad.http(200, body, content_type="text/html")) as server,
        pytest.raises(LMInvalidResponseError, match=seen),
    ):
        ask(client_of(server))
    assert len(server.requests) == 1


def test_a_server_that_is_down_is_named_with_the_next_act(bad):
    with bad.BadServer(bad.GOOD) as server:
        client = client_of(server)
    started = time.monotonic()
    with pytest.raises(LMConnectionError, match=f"127.0.0.1:{server.port}") as caught:
        blocking(client)
    assert "run again" in caught.value.hint
    assert time.monotonic() - started < 3


def test_a_stop_breaks_off_the_call_a_wait_and_a_queue_within_a_second(bad):
    with bad.BadServer(bad.silence) as server, bad.BadServer(bad.http(429, b"", {"Retry-After": "60"})) as limited:
        one_slot = client_of(server, max_concurrency=1)
        scopes = [Scope("t") for _ in range(3)]
        outcomes = []

        def work(client, scope):
            try:
                blocking(client, scope=scope)
            except Cancelled:
                outcomes.append("cancelled")

        clients = [one_slot, one_slot, client_of(limited)]
        threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, scopes, strict=True)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        for scope in scopes:
            scope.cancel.cancel()
        started = time.monotonic()
        for thread in threads:
            thread.join(2)
        assert time.monotonic() - started < 1
        assert outcomes == ["cancelled"] * 3
        assert len(server.requests) == 1  # neither retried nor sent from the queue


def test_a_followed_call_whose_leader_is_stopped_goes_on_with_another_leader(bad):
    with bad.BadServer(bad.silence, bad.GOOD) as server:
        client, cache, first = client_of(server), Cache(), Scope("t")

        def lead():
            with pytest.raises(Cancelled):
                blocking(client, scope=first, cache=cache)

        leader = threading.Thread(target=lead)
        leader.start()
        while not server.requests:
            time.sleep(0.005)
        answers = []
        follower = threading.Thread(target=lambda: answers.append(blocking(client, cache=cache).text))
        follower.start()
        time.sleep(0.05)
        first.cancel.cancel()
        follower.join(2)
        leader.join(2)
    assert answers == ["Paris"]


def test_a_blocking_call_on_the_loops_thread_does_not_wait_for_that_loop(bad):
    def slow(peer):
        time.sleep(0.1)
        peer.sendall(bad.GOOD)

    async def main():
        background = asyncio.create_task(client.acomplete(ASK, scope=Scope("t"), cache=cache))
        await asyncio.sleep(0.03)
        here = client.complete(ASK, scope=Scope("t"), cache=cache)  # as a cell does while a task runs
        return here.text, (await background).text

    with bad.BadServer(slow) as server:
        client, cache = client_of(server), Cache()
        assert asyncio.run(asyncio.wait_for(main(), 3)) == ("Paris", "Paris")


def test_the_answer_is_in_the_cache_before_it_is_returned_and_errors_are_not(bad):
    with bad.BadServer(bad.http(400, b"no"), bad.GOOD) as server:
        client, cache = client_of(server), Cache()
        with pytest.raises(LMInvalidRequestError):
            blocking(client, cache=cache)
        assert blocking(client, cache=cache).cached is None
        hit = cache.get(client.key(ASK))
        assert hit.value["outputs"][0]["text"] == "Paris"
        assert KEY not in str(dict(hit.value))


def test_cache_false_asks_anew(bad):
    with bad.BadServer(bad.GOOD) as server:
        client, cache = client_of(server, cache=False), Cache()
        assert [blocking(client, cache=cache).cached for _ in range(2)] == [None, None]


def test_failed_calls_are_published_without_the_key(bad):
    bus = Bus()
    with bad.BadServer(bad.http(401, {"error": {"message": f"bad key {KEY}"}})) as server, pytest.raises(LMAuthError):
        blocking(client_of(server), scope=Scope("t", bus))
    (event,) = bus.recent
    assert event.error.startswith("LMAuthError")
    assert "secret" not in event.error


def test_a_stream_is_tried_again_only_before_its_first_piece(bad):
    with bad.BadServer(bad.http(503, b""), bad.stream("Par", "is")) as server:
        assert streamed(client_of(server)) == "Paris"
    with bad.BadServer(bad.stream("Par", done=False), bad.stream("x")) as server:
        pieces = client_of(server).stream(ASK, scope=Scope("t"))
        assert next(pieces) == "Par"
        with pytest.raises(LMInvalidResponseError, match="ended before"):
            list(pieces)
        assert len(server.requests) == 1


def test_a_streamed_answer_is_cached_whole(bad):
    with bad.BadServer(bad.stream("Par", "is")) as server:
        client, cache = client_of(server), Cache()
        assert streamed(client, cache=cache) == "Paris"
        assert blocking(client, cache=cache).cached == "memory"


def test_the_body_holds_what_was_asked_and_no_more(bad):
    import json

    with bad.BadServer(bad.GOOD) as server:
        client = connect("openai/gpt-5-mini", api_base=server.url, api_key=KEY, temperature=None, max_tokens=7, top_p=0.5)
        blocking(client, Request(ASK.messages, {"top_p": 0.9, "n": 1}, rollout=4))
        head, body = server.requests[0]
    assert json.loads(body) == {
        "model": "gpt-5-mini",
        "messages": [dict(ASK.messages[0])],
        "max_completion_tokens": 7,
        "top_p": 0.9,
    }
    assert f"Bearer {KEY}".encode() in head
