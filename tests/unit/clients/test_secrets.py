"""Keys never appear: a distinctive key is planted wherever one may be given, and looked for in whatever can be read."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback

import pytest

from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.clients.connecting import Connected
from dspex_nb.errors import DSPexError, LMError, LMNotConfiguredError
from dspex_nb.events import Bus, to_json
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

KEY = "Zq7-planted-Xw3.kL9"
ASK = Request([{"role": "user", "content": "Capital of France?"}], {"temperature": 0.5})


def by_argument(url, _):
    return {"api_base": url, "api_key": KEY}


def by_environment(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    return {"api_base": url}


def by_header(url, _):
    return {"api_base": url, "headers": {"X-Access": KEY}}


def in_the_address(url, _):
    return {"api_base": url.replace("http://", f"http://user:{KEY}@")}


places = pytest.mark.parametrize("place", [by_argument, by_environment, by_header, in_the_address])
ECHO = {"error": {"message": f"what is {KEY}?", "code": f"bad {KEY}"}}


def faults(bad):
    """Every fault, echoing the key where it can."""
    html = f"<html>{KEY}</html>".encode()
    statuses = [400, 401, 402, 403, 404, 418, 429, 500, 503, 504, 529, 302]
    return [
        *(bad.http(status, ECHO) for status in statuses),
        bad.http(429, ECHO, {"Retry-After": KEY}),
        bad.http(200, html, content_type="text/html"), bad.http(200, b"", {"X-Echo": KEY}), bad.http(200, ECHO),
        bad.http(200, json.dumps({"choices": KEY}).encode()), bad.http(200, f'{{"choices": "{KEY}'.encode()),
        bad.events(f'{{"{KEY}'.encode()), bad.events(ECHO), bad.events({"choices": [KEY]}),
        bad.http(200, b"").replace(b"HTTP/1.1 200", b"SSH-2.0-x"), bad.http(200, b"").replace(b" X\r\n", f" {KEY}\r\n".encode()),
        bad.reset, bad.cut, bad.cut_stream("Par"), bad.stream("Par", done=False),
    ]  # fmt: skip


def every_way(client, scope, cache):
    """Ask in each way; return what went wrong."""

    async def read():
        return [piece async for piece in client.astream(ASK, scope=scope, cache=cache)]

    failed = []
    for ask in (
        lambda: client.complete(ASK, scope=scope, cache=cache),
        lambda: asyncio.run(client.acomplete(ASK, scope=scope, cache=cache)),
        lambda: list(client.stream(ASK, scope=scope, cache=cache)),
        lambda: asyncio.run(read()),
    ):
        try:
            ask()
        except DSPexError as error:
            failed.append(error)
    return failed


def strings_of(error):
    """Everything of an error that can be shown, the chain of its causes as a traceback prints it included."""
    yield from (str(error), repr(error), "\n".join(error._render_traceback_()), repr(vars(error)), error.hint)
    yield "".join(traceback.format_exception(error))
    yield repr(pickle.dumps(error))


def strings_of_client(client):
    yield from (
        repr(client),
        str(vars(client)["options"]),
        json.dumps(client.dump_state()),
        repr(client._limiter),
        client.identity,
    )
    yield from (repr(client.settings), repr(client.capabilities), repr(client._circuit), repr(client._price), client.key(ASK))


@places
@pytest.mark.parametrize("model", ["openai/m", "anthropic/m", "gemini/m"])
def test_no_fault_shows_the_key(bad, place, model, monkeypatch, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    seen = 0
    for script in faults(bad):
        bus, cache = Bus(), Cache(directory=tmp_path / "cache")
        with bad.BadServer(script) as server:
            client = connect(model, **place(server.url, monkeypatch), num_retries=0, timeout_s=1)
            failed = every_way(client, Scope("t", bus), cache)
            assert server.requests
            sent = b"".join(head + body for head, body in server.requests)
        assert KEY.encode() in sent or place is in_the_address  # there it goes in base64
        for text in [text for error in failed for text in strings_of(error)] + list(strings_of_client(client)):
            assert KEY not in text, text
        assert KEY not in json.dumps([to_json(event) for event in bus.recent])
        cache.close()
        seen += len(failed)
    assert seen > 60
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text + "".join(capfd.readouterr())


@places
def test_no_good_answer_shows_the_key(bad, place, monkeypatch, tmp_path):
    bus, cache = Bus(), Cache(directory=tmp_path)
    with bad.BadServer(bad.GOOD) as server:
        client = connect("openai/m", **place(server.url, monkeypatch))
        response = client.complete(ASK, scope=Scope("t", bus), cache=cache)
        assert client.complete(ASK, scope=Scope("t", bus), cache=cache).cached == "memory"
        again = Connected.from_state(json.loads(json.dumps(client.dump_state())), client.secrets())
        assert again.key(ASK) == client.key(ASK)
        again.complete(ASK, scope=Scope("t"))
        assert server.requests[0][0] == server.requests[1][0]  # the other process sends the same head, key included
    for text in [repr(response), json.dumps([to_json(event) for event in bus.recent]), *strings_of_client(client)]:
        assert KEY not in text
    cache.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_user_and_password_of_an_address_are_sent_as_basic_auth(bad):
    with bad.BadServer(bad.GOOD) as server:
        client = connect("m", api_base=server.url.replace("http://", "http://me:p%40ss@"))
        client.complete(ASK, scope=Scope("t"))
        asyncio.run(client.acomplete(ASK, scope=Scope("t")))
    assert [b"Authorization: Basic bWU6cEBzcw==" in head for head, _ in server.requests] == [True, True]
    assert client.dump_state()["api_base"] == server.url


@pytest.mark.parametrize(
    "base",
    [
        f"http://127.0.0.1:1/v1?key={KEY}",
        f"http://x/v1#{KEY}",
        f"me:{KEY}@127.0.0.1/v1",
        f"ftp://me:{KEY}@x",
        f"http://me:{KEY}/more@x/v1",  # the part before the slash is read as a port
        f"http://me:{KEY}#more@x/v1",
        f"http://me:{KEY}@x:99999/v1",
        f"http://me:{KEY}@[::1/v1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_key(base):
    with pytest.raises(LMNotConfiguredError) as caught:
        connect("openai/m", api_base=base)
    for text in strings_of(caught.value):
        assert KEY not in text


def test_a_server_that_is_down_and_a_name_that_is_none_show_no_key():
    for where in ("127.0.0.1:1", "no-such-host.invalid"):
        client = connect("openai/m", api_base=f"http://me:{KEY}@{where}/v1", num_retries=0)
        for error in every_way(client, Scope("t"), None):
            assert isinstance(error, LMError)
            assert not [text for text in strings_of(error) if KEY in text]
