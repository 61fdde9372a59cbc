from __future__ import annotations

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
        base = connect("local").dump_state()["base_url"]
        client = connect("openai/smollm", api_base=base, **options)
        client._wire.native_n = False  # the embedded server has one slot, and refuses n
        return client
