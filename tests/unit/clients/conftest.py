from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from dspex_nb.messages import Request
from dspex_nb.scopes import Scope
from dspex_nb.transport import close_idle

ASK = Request([{"role": "user", "content": "Capital of France?"}])
PROVIDERS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_BASE",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_API_BASE",
)


@pytest.fixture(scope="session")
def providers():
    """Servers that check each provider's protocol."""
    spec = importlib.util.spec_from_file_location("provider_servers", Path(__file__).with_name("provider_servers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch):
    monkeypatch.setattr("dspex_nb.clients.retries.BASE_S", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OLLAMA_API_BASE", "DSPEX_LOCAL_URL", *PROVIDERS):
        monkeypatch.delenv(name, raising=False)
    yield
    close_idle()


def blocking(client, request=ASK):
    return client.complete(request, scope=Scope("t")).text


def on_a_loop(client, request=ASK):
    return asyncio.run(client.acomplete(request, scope=Scope("t"))).text


def streamed(client, request=ASK):
    return "".join(client.stream(request, scope=Scope("t")))


def streamed_on_a_loop(client, request=ASK):
    async def gather():
        return "".join([piece async for piece in client.astream(request, scope=Scope("t"))])

    return asyncio.run(gather())


WAYS = {way.__name__: way for way in (blocking, on_a_loop, streamed, streamed_on_a_loop)}


@pytest.fixture(params=WAYS)
def ask(request):
    """Each way to ask a client for a text in turn; `parametrize("ask", [name, …], indirect=True)` picks some."""
    return WAYS[request.param]


@pytest.fixture
def is_stream(ask):
    """Whether this way reads a stream."""
    return ask in (streamed, streamed_on_a_loop)


@pytest.fixture
def good(bad, is_stream):
    """What a server sends so that this way reads "Paris", 15 tokens used."""
    return bad.whole_stream("Paris") if is_stream else bad.GOOD
