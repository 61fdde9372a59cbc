"""The LiteLLM wire, with LiteLLM's own mock answers: what is ours is the way in and out."""

from __future__ import annotations

import asyncio

import pytest

from dspex_nb.clients import connect
from dspex_nb.clients.litellm import LiteLLMWire
from dspex_nb.errors import LMAuthError, LMNotConfiguredError
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

ASK = Request([{"role": "user", "content": "Capital of France?"}], {"max_tokens": 5})


def test_answers_blocking_async_and_streamed():
    client = connect("cerebras/gpt-oss-120b", api_key="sk-ant-hidden-012345", mock_response="Paris it is")
    scope = Scope("t")
    response = client.complete(ASK, scope=scope)
    assert (response.text, response.usage.calls, client.provider) == ("Paris it is", 1, "cerebras")
    assert response.cost > 0
    assert asyncio.run(client.acomplete(ASK, scope=scope)).text == "Paris it is"
    assert "".join(client.stream(ASK, scope=scope)) == "Paris it is"
    assert client.capabilities.function_calling
    assert "hidden" not in repr(client) + str(client.dump_state())


def test_errors_become_ours_without_the_key():
    client = connect("cerebras/gpt-oss-120b", api_key="sk-ant-hidden-012345", mock_response=Exception("x"))
    client.options["mock_response"] = "litellm.RateLimitError"
    client._retries = type(client._retries)(0)
    with pytest.raises(Exception) as caught:
        client.complete(ASK, scope=Scope("t"))
    assert type(caught.value).__module__ == "dspex_nb.errors"
    assert "hidden" not in str(caught.value)


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("CEREBRAS_API_KEY", raising=False)
    with pytest.raises(LMAuthError, match=r"(?i)cerebras"):
        connect("cerebras/gpt-oss-120b").complete(ASK, scope=Scope("t"))


@pytest.mark.parametrize(
    "said",
    [
        "litellm.APIConnectionError: Cohere API key is required. Please set 'COHERE_API_KEY'\nTraceback (most recent call last):\n  File x",
        "litellm.APIConnectionError: Missing Gemini API key. Set the GEMINI_API_KEY environment variable.",
    ],
)
def test_a_missing_key_that_looks_like_a_broken_network_is_not_tried_again(said):
    class APIConnectionError(Exception):
        status_code = 500

    error = LiteLLMWire("cohere/rerank-v3.5", credentials={}, key_env="COHERE_API_KEY")._error(APIConnectionError(said))
    assert isinstance(error, LMAuthError)
    assert "COHERE_API_KEY" in error.hint
    assert "Traceback" not in str(error)


def test_a_provider_nobody_knows():
    with pytest.raises(LMNotConfiguredError, match="no known provider"):
        connect("qqqqzzzz/model")
