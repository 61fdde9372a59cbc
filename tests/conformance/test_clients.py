from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dspex_nb.clients import connect
from dspex_nb.testing import ScriptedLM
from dspex_nb.testing.client_suite import ClientSuite


class TestScripted(ClientSuite):
    def make_client(self, **options):
        return ScriptedLM(lambda request: f"answer to {request.messages[-1]['content']}", delay_s=0.01, **options)


@pytest.mark.model
class TestEmbedded(ClientSuite):
    def make_client(self, **options):
        return connect("local", **options)


@pytest.mark.model
class TestOpenAICompatible(ClientSuite):
    """The same llama.cpp server, reached as any server behind `api_base`."""

    def make_client(self, **options):
        client = connect("openai/smollm", api_base=llama_cpp(), **options)
        client._wire.native_n = False  # the embedded server has one slot, and refuses n
        return client


@pytest.mark.model
class TestResponses(ClientSuite):
    """OpenAI's responses API, as llama.cpp speaks it."""

    def make_client(self, **options):
        return connect("openai/smollm", api_base=llama_cpp(), model_type="responses", **options)


@pytest.mark.model
class TestMessages(ClientSuite):
    """Anthropic's messages, as llama.cpp speaks them."""

    def make_client(self, **options):
        return connect("anthropic/smollm", api_base=llama_cpp(), **options)


class _Checked(ClientSuite):
    """A server that checks each request against the provider's documented format."""

    api, model = "", ""

    @pytest.fixture(autouse=True)
    def _served(self):
        path = Path(__file__).parents[1] / "unit" / "clients" / "provider_servers.py"
        spec = importlib.util.spec_from_file_location("provider_servers", path)
        servers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(servers)
        with servers.ProviderServer(self.api) as self.server:
            yield

    def make_client(self, **options):
        return connect(self.model, api_base=self.server.url, **{"api_key": "sk-0123456789abcdef", **options})


class TestAnthropic(_Checked):
    api, model = "anthropic", "anthropic/claude-sonnet-4-5"


class TestGoogle(_Checked):
    api, model = "google", "gemini/gemini-2.5-flash"


def llama_cpp():
    """Base URL of the embedded model's server."""
    return connect("local").dump_state()["base_url"]
