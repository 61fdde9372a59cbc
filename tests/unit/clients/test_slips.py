"""Slips in what an LM is made of are told when it is made."""

from __future__ import annotations

import pytest

from dspex_nb.clients import connect
from dspex_nb.errors import LMNotConfiguredError
from dspex_nb.messages import Capabilities


@pytest.mark.parametrize(
    ("options", "said", "advice"),
    [
        ({"temprature": 1}, "temprature", "'temperature'"),
        ({"max_token": 5}, "max_token", "'max_tokens'"),
        ({"timeout": 5}, "timeout", "'timeout_s'"),
        ({"max_tokens": "a"}, "max_tokens='a'", "number"),
        ({"temperature": True}, "temperature=True", "number"),
        ({"capabilities": "json"}, "'json'", "dx.Capabilities"),
        ({"capabilities": {"respnse_schema": True}}, "'respnse_schema'", "dx.Capabilities"),
    ],
)
def test_a_slip_is_refused_with_what_was_meant(options, said, advice):
    with pytest.raises(LMNotConfiguredError) as caught:
        connect("openai/m", api_base="http://127.0.0.1:1/v1", **options)
    assert said in caught.value.message
    assert advice in caught.value.hint


def test_what_is_the_providers_own_passes():
    client = connect("openai/m", api_base="http://127.0.0.1:1/v1", top_k=3, min_p=0.1, user="me", seed=1)
    assert client.options == {"top_k": 3, "min_p": 0.1, "user": "me", "seed": 1}


def test_capabilities_as_a_dict():
    given = {"response_schema": True, "params": ["response_format"]}
    client = connect("openai/m", api_base="http://127.0.0.1:1/v1", capabilities=given)
    assert client.capabilities == Capabilities(response_schema=True, params=frozenset({"response_format"}))


@pytest.mark.parametrize(("model", "advice"), [("local/foo", "path="), ("custom/x", "api_base=")])
def test_strings_that_lead_nowhere(model, advice):
    with pytest.raises(LMNotConfiguredError) as caught:
        connect(model)
    assert advice in caught.value.hint


def test_a_missing_key_is_known_before_the_first_call(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert connect("openai/gpt-5-mini").missing_key() == "OPENAI_API_KEY"
    assert connect("openai/gpt-5-mini", api_key="x").missing_key() == ""
    assert connect("openai/m", api_base="http://127.0.0.1:1/v1").missing_key() == ""
