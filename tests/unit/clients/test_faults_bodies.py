"""What providers' error bodies mean, in their own forms."""

from __future__ import annotations

import json
import re

import pytest

from dspex_nb.clients.faults import error_of, invalid_response
from dspex_nb.clients.retries import RetryPolicy
from dspex_nb.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMInvalidRequestError,
    LMInvalidResponseError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMUnsupportedModelError,
)
from dspex_nb.transport import Reply

URL = "https://user:hunter2hunter2@api.example.com/v1/chat?key=hunter3hunter3"


def error(status, body, headers=None, **given):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_of(URL, Reply(status, headers or {}, body), "m", **given)


def anthropic(kind, message):
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(code, status, message, *details):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (529, anthropic("overloaded_error", "Overloaded"), LMServerError, "answered 529 for m: Overloaded"),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, LMServerError, "overloaded_error"),
        (500, anthropic("api_error", "Internal server error"), LMServerError, "Internal"),
        (401, anthropic("authentication_error", "invalid x-api-key"), LMAuthError, "invalid x-api-key"),
        (403, anthropic("permission_error", "no"), LMAuthError, "no"),
        (402, anthropic("billing_error", "pay"), LMBillingError, "pay"),
        (400, anthropic("invalid_request_error", "Your credit balance is too low"), LMBillingError, "too low"),
        (404, anthropic("not_found_error", "model: claude-9"), LMUnsupportedModelError, "claude-9"),
        (429, anthropic("rate_limit_error", "This request would exceed your rate limit"), LMRateLimitError, "exceed"),
        (400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000"), ContextWindowExceededError, "210000"),
        (400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit"), ContextWindowExceededError, ""),
        (400, anthropic("invalid_request_error", "max_tokens: 999999 > 8192"), LMInvalidRequestError, "999999"),
        (413, anthropic("request_too_large", "Request exceeds the maximum size"), LMInvalidRequestError, "size"),
        (429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", RETRY), LMRateLimitError, "quota"),
        (400, google(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY), LMAuthError, "not valid"),
        (400, [google(400, "INVALID_ARGUMENT", "API key expired.")], LMAuthError, "answered 400 for m: API key expired"),
        (400, google(400, "INVALID_ARGUMENT", LONG), ContextWindowExceededError, "1200000"),
        (404, google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1"), LMUnsupportedModelError, "gemini-9"),
        (503, google(503, "UNAVAILABLE", "The model is overloaded."), LMServerError, "overloaded"),
        (504, google(504, "DEADLINE_EXCEEDED", "slow"), LMTimeoutError, "slow"),
        (400, {"error": {"message": "maximum prompt length is 131072"}}, ContextWindowExceededError, "131072"),
        (400, {"object": "error", "message": "maximum context length is 4096 tokens"}, ContextWindowExceededError, "4096"),
        (400, {"error": {"type": "exceed_context_size_error", "message": "too big"}}, ContextWindowExceededError, "too big"),
        (404, {"error": {"message": 'model "llama9" not found, try pulling it first'}}, LMUnsupportedModelError, "llama9"),
        (404, {"detail": "Not Found"}, LMInvalidRequestError, "Not Found"),
        (422, {"detail": [{"msg": "field required"}]}, LMInvalidRequestError, "field required"),
        (429, {"error": {"code": "insufficient_quota", "message": "x"}}, LMBillingError, "x"),
        (402, {"error": {"message": "Insufficient Balance"}}, LMBillingError, "Balance"),
        (500, b"\xff\xfe broken", LMServerError, "broken"),
        (500, b"[" * 20_000, LMServerError, r"\[\["),
        (400, b'{"error":' * 5000, LMInvalidRequestError, "error"),
        (418, b"", LMInvalidRequestError, r"\(no message\)"),
        (301, b"moved", LMInvalidResponseError, "moved"),
    ],
)  # fmt: skip
def test_a_body_becomes_the_right_error(status, body, kind, words):
    found = error(status, body)
    assert type(found) is kind
    assert found.message.startswith(f"api.example.com:443 answered {status} for m: ")
    assert re.search(words, found.message)
    assert (found.status, found.model, bool(found.hint)) == (status, "m", True)


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, b"", 0.25),
        ({}, google(429, "RESOURCE_EXHAUSTED", "quota", RETRY), 3.0),
        ({}, google(429, "RESOURCE_EXHAUSTED", "quota", {**RETRY, "retryDelay": "37.5s"}), 37.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"", 0.0),
        ({"retry-after": "soon"}, b"", None),
        ({}, b"", None),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers, body, wait_s):
    found = error(429, body, headers)
    assert found.retry_after_s == wait_s
    policy = RetryPolicy(1)
    if wait_s is not None:
        assert wait_s <= policy.wait_s(found, 0) <= wait_s + 0.1


def test_waits_grow_are_jittered_and_end():
    policy, broken = RetryPolicy(6), LMServerError("x")
    waits = [[policy.wait_s(broken, attempt) for _ in range(50)] for attempt in range(6)]
    for attempt, some in enumerate(waits):
        assert all(0.005 * 2**attempt <= wait <= 0.01 * 2**attempt for wait in some)  # the tests' base is 0.01 s
        assert len(set(some)) > 40
    assert policy.wait_s(broken, 6) is None
    assert policy.wait_s(LMAuthError("x"), 0) is None


def test_an_answer_of_no_known_form_is_begun_and_a_web_page_named():
    assert "a web page" in invalid_response(URL, "<html>\n<b>x</b>", "m", "odd").message
    assert "hunter" not in invalid_response(URL, "key hunter9hunter9", "m", "odd", ["hunter9hunter9"]).message
