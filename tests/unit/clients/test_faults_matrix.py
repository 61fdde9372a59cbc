"""Every fault on every way to ask: what kind of error comes, what it says, and how often the server was asked."""

from __future__ import annotations

import json
import socket
import time

import pytest

from dspex_nb.clients import connect
from dspex_nb.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMInvalidResponseError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
)

KEY = "sk-secret-0123456789abcdef"
streams = pytest.mark.parametrize("ask", ["streamed", "streamed_on_a_loop"], indirect=True)


def said(message, **more):
    return {"error": {"message": message, **more}}


# name: (what the server sends, the error's kind, what its message holds, requests seen with one retry)
FAULTS = {
    "429": (lambda b: b.http(429, said("slow down")), LMRateLimitError, "answered 429 for gpt-4o-mini: slow down", 2),
    "429 that says when": (lambda b: b.http(429, said("slow"), {"Retry-After": "0.2"}), LMRateLimitError, "429", 2),
    "429 for an hour": (lambda b: b.http(429, said("slow"), {"Retry-After": "3600"}), LMRateLimitError, "429", 1),
    "no credit": (lambda b: b.http(429, said("pay", code="insufficient_quota")), LMBillingError, "pay", 1),
    "no credit (402)": (lambda b: b.http(402, said("Insufficient Balance")), LMBillingError, "Insufficient", 1),
    "500": (lambda b: b.http(500, b"oops"), LMServerError, "answered 500 for gpt-4o-mini: oops", 2),
    "502 in HTML": (lambda b: b.http(502, b"<html>bad", content_type="text/html"), LMServerError, "502", 2),
    "503": (lambda b: b.http(503, said("busy")), LMServerError, "503", 2),
    "504": (lambda b: b.http(504, b""), LMTimeoutError, r"504.*\(no message\)", 2),
    "reset": (lambda b: b.reset, LMTransportError, "no answer from 127.0.0.1", 2),
    "hung up": (lambda b: b.hang_up_silently, LMTransportError, "no answer from 127.0.0.1", 2),
    "cut": (lambda b: b.cut_in_the_middle, LMTransportError, "broke off in the middle", 2),
    "silence": (lambda b: b.silence, LMTimeoutError, r"within 0\.25 s", 2),
    "drip": (lambda b: b.drip, LMTimeoutError, r"within 0\.25 s", 2),
    "invalid JSON": (lambda b: b.events(b'{"choices": ['), LMInvalidResponseError, "127.0.0.1", 1),
    "a maze": (lambda b: b.events(b"[" * 100_000), LMInvalidResponseError, "127.0.0.1", 1),
    "HTML": (lambda b: b.http(200, b"<!DOCTYPE html><title>x", content_type="text/html"), LMInvalidResponseError, "web page", 1),
    "nothing": (lambda b: b.http(200, b""), LMInvalidResponseError, "127.0.0.1", 1),
    "no HTTP": (lambda b: b.http(200, b"").replace(b"HTTP/1.1 200", b"SSH-2.0-x"), LMInvalidResponseError, "speak HTTP", 1),
    "expired key": (lambda b: b.http(401, said(f"Expired: {KEY}")), LMAuthError, r"401.*Expired: \*\*\*", 1),
    "forbidden": (lambda b: b.http(403, said("no access")), LMAuthError, "403", 1),
    "context": (lambda b: b.http(400, said("x", code="context_length_exceeded")), ContextWindowExceededError, "400", 1),
    "no such model": (lambda b: b.http(404, said("x", code="model_not_found")), LMUnsupportedModelError, "404", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(bad, ask, name):
    script, kind, words, requests = FAULTS[name]
    with bad.BadServer(script(bad)) as server:
        client = connect("openai/gpt-4o-mini", api_base=server.url, api_key=KEY, num_retries=1, timeout_s=0.25)
        started = time.monotonic()
        with pytest.raises(kind, match=words) as caught:
            ask(client)
    error = caught.value
    assert type(error) is kind
    assert len(server.requests) == requests
    assert ("after 2 attempts" in error.message) is (requests == 2)
    assert error.hint
    assert error.model in {"gpt-4o-mini", "openai/gpt-4o-mini"}
    assert time.monotonic() - started < 3
    assert "secret" not in str(error) + repr(error)
    if name == "429 that says when":
        assert (error.retry_after_s, time.monotonic() - started > 0.2) == (0.2, True)
    if name == "429 for an hour":
        assert (error.retry_after_s, "3600 s" in error.hint) == (3600, True)


def test_a_server_that_is_down(bad, ask):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(LMTransportError, match=rf"127\.0\.0\.1:{port}.*refused.*after 2 attempts"):
        ask(connect("openai/x", api_base=f"http://127.0.0.1:{port}/v1", num_retries=1))


def test_a_name_that_does_not_resolve(ask):
    with pytest.raises(LMTransportError, match=r"no-such-host\.invalid:80.*after 2 attempts"):
        ask(connect("openai/x", api_base="http://no-such-host.invalid/v1", num_retries=1))


@pytest.mark.parametrize("ask", ["blocking", "on_a_loop"], indirect=True)
def test_an_answer_after_the_total_timeout(bad, ask):
    with bad.BadServer(bad.late(0.5), bad.GOOD) as server:
        assert ask(connect("openai/x", api_base=server.url, timeout_s=0.2)) == "Paris"
        assert len(server.requests) == 2


@streams
def test_a_stream_may_take_longer_than_the_timeout_but_no_line_may(bad, ask):
    def slow(peer):
        for byte in bad.whole_stream("Paris").splitlines(keepends=True):
            peer.sendall(byte)
            time.sleep(0.03)

    with bad.BadServer(slow) as server:
        assert ask(connect("openai/x", api_base=server.url, timeout_s=0.2, num_retries=0)) == "Paris"
    with bad.BadServer(bad.dripped_line) as server, pytest.raises(LMTimeoutError, match=r"within 0\.2 s"):
        ask(connect("openai/x", api_base=server.url, timeout_s=0.2, num_retries=0))


@streams
@pytest.mark.parametrize("name", ["cut_stream", "stream"])
def test_a_stream_that_breaks_off_after_visible_text_is_not_asked_again(bad, ask, name):
    script = bad.cut_stream("Par") if name == "cut_stream" else bad.stream("Par", done=False)
    kind = LMTransportError if name == "cut_stream" else LMInvalidResponseError
    with bad.BadServer(script, bad.whole_stream("Paris")) as server:
        with pytest.raises(kind, match=r"broke off|ended before"):
            ask(connect("openai/x", api_base=server.url))
        assert len(server.requests) == 1


@streams
def test_an_error_inside_a_stream_is_asked_again_only_before_visible_text(bad, ask):
    busy = {"error": {"message": "overloaded", "code": 503}}
    piece = {"choices": [{"delta": {"content": "Par"}}]}
    with bad.BadServer(bad.events(busy), bad.whole_stream("Paris")) as server:
        assert ask(connect("openai/x", api_base=server.url)) == "Paris"
        assert len(server.requests) == 2
    with bad.BadServer(bad.events(piece, busy), bad.whole_stream("Paris")) as server:
        with pytest.raises(LMServerError, match="overloaded"):
            ask(connect("openai/x", api_base=server.url))
        assert len(server.requests) == 1


def test_ten_megabytes_and_a_wrong_content_type_are_no_hindrance(bad, ask, is_stream, good):
    text = "x" * 10_000_000
    whole = json.loads(json.dumps(bad.ANSWER))
    whole["choices"][0]["message"]["content"] = text
    big = bad.whole_stream(text) if is_stream else bad.http(200, whole)
    wrong = good.replace(b"application/json", b"image/png").replace(b"text/event-stream", b"image/png")
    with bad.BadServer(big, wrong) as server:
        client = connect("openai/x", api_base=server.url)
        assert len(ask(client)) == 10_000_000
        assert ask(client) == "Paris"


@streams
@pytest.mark.parametrize(
    "piece",
    [
        {"choices": [{"delta": 5}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"content": ["Par"]}}]},
        {"choices": [{"delta": {"reasoning": [1]}}]},
        {"choices": [{"delta": {"tool_calls": 5}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "first"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {"a": 1}}}]}}]},
        {"choices": [], "usage": 5},
        {"choices": [], "usage": {"prompt_tokens": "ten"}},
    ],
    ids=json.dumps,
)
def test_a_piece_of_another_shape_is_named_and_its_key_is_not(bad, ask, piece):
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    with bad.BadServer(bad.events({**piece, "said": KEY}, end, b"[DONE]"), bad.whole_stream("Paris")) as server:
        client = connect("openai/x", api_base=server.url, api_key=KEY)
        with pytest.raises(LMInvalidResponseError, match=r"127\.0\.0\.1:\d+: the stream.*not a chat completion's") as caught:
            ask(client)
        assert len(server.requests) == 1
    assert "secret" not in str(caught.value)
    assert client._limiter._free == client._limiter.max_concurrency


@pytest.mark.parametrize("ask", ["blocking", "on_a_loop"], indirect=True)
def test_content_that_is_no_text_is_no_answer(bad, ask):
    with (
        bad.BadServer(bad.http(200, {"choices": [{"message": {"content": 5}}]})) as server,
        pytest.raises(LMInvalidResponseError, match="not a chat completion"),
    ):
        ask(connect("openai/x", api_base=server.url))
