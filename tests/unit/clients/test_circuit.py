"""The circuit: opens after repeated failure, says so, tries again after a growing pause, closes on an answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex_nb.clients import circuit, connect
from dspex_nb.clients.circuit import Circuit, circuit_of
from dspex_nb.errors import LMAuthError, LMRateLimitError, LMServerError, LMTransportError, LMUnavailableError
from dspex_nb.events import Bus
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

ASK = Request([{"role": "user", "content": "Capital of France?"}])


def blocking(client):
    return client.complete(ASK, scope=Scope("t")).text


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(circuit, "LEAST_S", 0.0)
    monkeypatch.setattr(circuit, "FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("dspex_nb.clients.retries.CEILING_S", 0.02)


def test_it_opens_refuses_at_once_and_closes_when_the_server_is_back(bad, quick, ask, good):
    with bad.BadServer(*[bad.http(503, {"error": {"message": "busy"}})] * 8, good) as server:
        client = connect("openai/x", api_base=server.url, num_retries=0)
        for _ in range(8):
            with pytest.raises(LMServerError):
                ask(client)
        started = time.monotonic()
        with pytest.raises(LMUnavailableError, match=r"openai/x failed 8 times in a row.*503.*busy.*nothing was sent") as caught:
            ask(client)
        assert time.monotonic() - started < 0.1
        assert 0 < caught.value.retry_after_s <= 0.3
        assert "another model" in caught.value.hint
        assert len(server.requests) == 8
        time.sleep(0.35)
        assert ask(client) == "Paris"
        assert ask(client) == "Paris"
        assert (len(server.requests), client._circuit.opened, client._circuit.failures) == (10, False, 0)


def test_one_call_is_let_through_after_each_pause_and_the_pauses_grow(bad, quick):
    with bad.BadServer(bad.http(500, b"")) as server:
        client = connect("openai/x", api_base=server.url, num_retries=0)
        while not client._circuit.opened:
            with pytest.raises(LMServerError):
                blocking(client)
        pauses = []
        for _ in range(2):
            with pytest.raises(LMUnavailableError) as caught:
                blocking(client)
            pauses.append(client._circuit._pause_s)
            time.sleep(caught.value.retry_after_s + 0.01)
            before = len(server.requests)
            with ThreadPoolExecutor(6) as threads:
                outcomes = [type(one.exception()) for one in [threads.submit(blocking, client) for _ in range(6)]]
            assert (outcomes.count(LMServerError), outcomes.count(LMUnavailableError)) == (1, 5)
            assert len(server.requests) == before + 1
        assert pauses == [0.3, 0.6]


def test_a_call_that_was_let_in_may_finish_its_retries(bad, quick, ask, good):
    with bad.BadServer(*[bad.http(503, b"")] * 12, good) as server:
        client = connect("openai/x", api_base=server.url, num_retries=20)
        client._retries = type(client._retries)(20)
        assert ask(client) == "Paris"
        assert len(server.requests) == 13
        assert not client._circuit.opened


def test_a_short_hiccup_under_many_calls_is_left_to_their_retries(bad):
    with bad.BadServer(*[bad.reset] * 40, bad.GOOD) as server:
        client = connect("openai/x", api_base=server.url, num_retries=8)
        with ThreadPoolExecutor(16) as threads:
            assert list(threads.map(lambda _: blocking(client), range(48))) == ["Paris"] * 48


@pytest.mark.parametrize(("status", "kind"), [(401, LMAuthError), (429, LMRateLimitError)])
def test_a_refusal_is_no_outage(bad, quick, status, kind):
    with bad.BadServer(bad.http(status, b"")) as server:
        client = connect("openai/x", api_base=server.url, num_retries=0)
        for _ in range(12):
            with pytest.raises(kind):
                blocking(client)
        assert len(server.requests) == 12


def test_a_refusal_in_between_begins_the_count_anew(bad, quick):
    with bad.BadServer(*[bad.http(500, b"")] * 7, bad.http(401, b""), bad.http(500, b"")) as server:
        client = connect("openai/x", api_base=server.url, num_retries=0)
        for _ in range(15):
            with pytest.raises((LMServerError, LMAuthError)):
                blocking(client)
        assert len(server.requests) == 15


def test_old_failures_are_forgotten(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(circuit.time, "monotonic", lambda: now[0])
    slow, fast = Circuit(), Circuit()
    for _ in range(20):
        now[0] += 61
        slow.fail(LMServerError("x"))
    for _ in range(20):
        now[0] += 1
        fast.fail(LMServerError("x"))
    assert (slow.opened, fast.opened) == (False, True)


def test_clients_of_one_model_and_key_share_it_and_others_do_not(bad, quick):
    with bad.BadServer(bad.http(500, b"")) as server:
        one, same, other = (connect("openai/x", api_base=server.url, api_key=key, num_retries=0) for key in ("a", "a", "b"))
        for _ in range(8):
            with pytest.raises(LMServerError):
                blocking(one)
        with pytest.raises(LMUnavailableError):
            blocking(same)
        with pytest.raises(LMServerError):
            blocking(other)
        assert one._limiter is same._limiter is not other._limiter
    key = ("gone",)
    kept = circuit_of(key)
    assert circuit_of(key) is kept


def test_a_refused_call_is_recorded_and_its_error_is_no_news_to_the_circuit(bad, quick):
    bus = Bus()
    with bad.BadServer(bad.reset) as server:
        client = connect("openai/x", api_base=server.url, num_retries=3)
        for _ in range(2):
            with pytest.raises(LMTransportError):
                blocking(client)
        with pytest.raises(LMUnavailableError):
            client.complete(ASK, scope=Scope("t", bus))
        assert len(server.requests) == 8  # refused once, without the retries
    (event,) = bus.recent
    assert event.error.startswith("LMUnavailableError: openai/x failed 8 times in a row")
    assert repr(client._circuit) == "Circuit(open, failures=8)"
