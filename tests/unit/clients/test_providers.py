"""Whole calls to servers that check each provider's protocol, and what is declared of each provider's models."""

from __future__ import annotations

import asyncio
import json

import pytest

from dspex_nb.clients import connect
from dspex_nb.clients.connecting import Connected
from dspex_nb.clients.targets import capabilities_of, resolve
from dspex_nb.errors import LMAuthError, LMInvalidRequestError, LMInvalidResponseError, LMNotConfiguredError
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

KEY = "sk-secret-0123456789abcdef"
WORDS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]
MODELS = {"anthropic": "anthropic/claude-sonnet-4-5", "google": "gemini/gemini-2.5-flash"}
api = pytest.mark.parametrize("api", ["anthropic", "google"])


def client_of(server, **options):
    return connect(MODELS[server.api], api_base=server.url, api_key=KEY, **options)


@api
def test_blocking_async_and_streamed(providers, api):
    with providers.ProviderServer(api) as server:
        client, scope = client_of(server), Scope("t")
        request = Request(WORDS, {"max_tokens": 8, "temperature": 0.0, "stop": ["END"]})
        response = client.complete(request, scope=scope)
        assert (response.text, response.outputs[0].finish_reason) == ("Green it is", "stop")
        assert (response.usage.prompt_tokens, response.usage.cached_prompt_tokens) == {
            "anthropic": (12, 2),
            "google": (12, 4),
        }[api]
        assert asyncio.run(client.acomplete(request, scope=scope)).text == "Green it is"
        pieces = list(client.stream(request, scope=scope))
        assert ("".join(pieces), len(pieces) > 1) == ("Green it is", True)
        assert all(KEY not in path for path, _, _ in server.requests)


@api
def test_n_structured_output_and_tools_on_the_wire(providers, api):
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}
    shape = {"type": "json_schema", "json_schema": {"name": "X", "schema": schema}}
    with providers.ProviderServer(api) as server:
        client, scope = client_of(server), Scope("t")
        assert len(client.complete(Request(WORDS, {"n": 2}), scope=scope).outputs) == 2
        assert len(server.requests) == (2 if api == "anthropic" else 1)
        assert client.complete(Request(WORDS, {"response_format": shape}), scope=scope).text
        assert client.complete(Request(WORDS, {"tools": [tool], "tool_choice": "auto"}), scope=scope).text


def test_a_forced_tool_carries_a_json_answer(providers):
    with providers.ProviderServer("anthropic") as server:
        client = connect("anthropic/claude-sonnet-4-20250514", api_base=server.url, api_key=KEY)
        request = Request(WORDS, {"response_format": {"type": "json_object"}})
        output = client.complete(request, scope=Scope("t")).outputs[0]
        assert (output.text, output.tool_calls, output.finish_reason) == ('{"colour": "Green it is"}', (), "stop")
        assert "".join(client.stream(request, scope=Scope("t"))) == '{"colour": "Green it is"}'


@api
def test_what_the_server_refuses_and_what_never_leaves(providers, api):
    with providers.ProviderServer(api) as server:
        client = client_of(server)
        with pytest.raises(LMInvalidRequestError, match="bogus"):
            client.complete(Request(WORDS, {"extra_body": {"bogus": 1}}), scope=Scope("t"))
        assert len(server.requests) == 1
        with pytest.raises(LMInvalidRequestError, match="logit_bias"):
            client.complete(Request(WORDS, {"logit_bias": {"1": 1}}), scope=Scope("t"))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("model", "variable"), [("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"), ("gemini/gemini-2.5-flash", "GEMINI_API_KEY")]
)
def test_a_missing_key_is_named(model, variable):
    with pytest.raises(LMAuthError, match=variable):
        connect(model).complete(Request(WORDS), scope=Scope("t"))


def test_either_of_googles_variables_holds_the_key(providers, monkeypatch):
    with providers.ProviderServer("google") as server:
        monkeypatch.setenv("GOOGLE_API_KEY", KEY)
        monkeypatch.setenv("GEMINI_API_BASE", server.url)
        assert connect("gemini/gemini-2.5-flash").complete(Request(WORDS), scope=Scope("t")).text
        assert server.requests[0][1]["x-goog-api-key"] == KEY


@pytest.mark.parametrize("model", ["anthropic/m", "gemini/m"])
def test_a_cut_stream_is_no_answer(bad, model):
    event = {"type": "message_start", "message": {}} if model.startswith("a") else {"candidates": [{"content": {"parts": []}}]}

    def script(peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        peer.sendall(b"data: " + json.dumps(event).encode() + b"\n\n")
        return "close"

    with bad.BadServer(script) as server, pytest.raises(LMInvalidResponseError, match="ended before"):
        list(connect(model, api_base=server.url, api_key=KEY, num_retries=0).stream(Request(WORDS), scope=Scope("t")))


def test_another_formats_answer_is_named(bad):
    with bad.BadServer(bad.GOOD) as server, pytest.raises(LMInvalidResponseError, match="is not a message"):
        connect("anthropic/m", api_base=server.url, num_retries=0).complete(Request(WORDS), scope=Scope("t"))


@pytest.mark.parametrize(
    ("model", "api_base", "model_type", "url", "dialect"),
    [
        ("openai/gpt-5", None, "responses", "https://api.openai.com/v1", "responses"),
        ("openai/x", "http://h/v1/chat/completions", "chat", "http://h/v1", "chat"),
        ("x", "http://h/v1", "responses", "http://h/v1", "responses"),
        ("anthropic/x", "http://h", "chat", "http://h/v1", "anthropic"),
        ("anthropic/x", "http://h/v1/messages", "chat", "http://h/v1", "anthropic"),
        ("gemini/x", "http://h", "chat", "http://h/v1beta", "google"),
        ("gemini/x", "http://h/v1", "chat", "http://h/v1", "google"),
    ],
)
def test_where_model_strings_lead(model, api_base, model_type, url, dialect):
    target = resolve(model, api_base, model_type)
    assert (target.url, target.dialect, target.direct) == (url, dialect, True)


def test_litellm_keeps_its_providers_wherever_they_are_served():
    assert resolve("azure/gpt-4o", "https://x.openai.azure.com").direct is False
    assert resolve("vertex_ai/gemini-2.5-pro").direct is False


@pytest.mark.parametrize(("model", "kind"), [("anthropic/x", "responses"), ("openai/x", "text"), ("local", "responses")])
def test_a_model_type_that_is_not_served(model, kind):
    with pytest.raises(LMNotConfiguredError):
        connect(model, model_type=kind)


def test_the_model_type_crosses_with_the_state():
    client = connect("openai/gpt-5", model_type="responses")
    again = Connected.from_state(client.dump_state())
    assert again.key(Request(WORDS)) == client.key(Request(WORDS)) != connect("openai/gpt-5").key(Request(WORDS))
    assert type(again._wire._dialect).__name__ == "ResponsesDialect"


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.1-codex", "gpt-5-chat-latest", "gpt-4o", "o2"]
)
def test_reasoning_models_are_dspys(model):
    from dspy.clients.lm import _is_openai_reasoning_model

    body = connect(f"openai/{model}")._wire._dialect.write(model, {"messages": [], "max_tokens": 5}, streamed=False).body
    assert ("max_completion_tokens" in body) is _is_openai_reasoning_model(model)


KNOWN = [
    "openai/gpt-4o",
    "openai/gpt-4o-mini",
    "openai/gpt-4.1",
    "openai/gpt-5",
    "openai/gpt-5-mini",
    "openai/gpt-3.5-turbo",
    "openai/gpt-4",
    "openai/o1",
    "openai/o3-mini",
    "openai/chatgpt-4o-latest",
    "openai/unknown",
    "anthropic/claude-sonnet-4-5",
    "anthropic/claude-opus-4-1",
    "anthropic/claude-haiku-4-5",
    "anthropic/claude-opus-4-6",
    "anthropic/claude-sonnet-4-20250514",
    "anthropic/claude-unknown",
    "gemini/gemini-2.5-flash",
    "gemini/gemini-2.5-pro",
    "gemini/gemini-3-pro-preview",
    "gemini/gemma-3-27b-it",
    "gemini/unknown",
    "deepseek/deepseek-chat",
    "mistral/mistral-large-latest",
    "groq/llama-3.3-70b-versatile",
    "xai/grok-4",
    "ollama_chat/llama3.2",
    "hosted_vllm/x",
]


def test_capabilities_are_those_plain_dspy_and_litellm_declare(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy

    from dspex_nb.clients.litellm import load

    litellm = load()
    for model in KNOWN:
        ours = capabilities_of(resolve(model, "http://h/v1" if model.startswith("hosted") else None))
        flags = (ours.response_schema, ours.function_calling, ours.reasoning)
        assert flags == (
            litellm.supports_response_schema(model=model, custom_llm_provider=model.partition("/")[0]),
            litellm.supports_function_calling(model=model),
            litellm.supports_reasoning(model=model),
        ), model
        plain = dspy.LM(model)
        assert flags == (plain.supports_response_schema, plain.supports_function_calling, plain.supports_reasoning), model
        for name in ("response_format", "tools", "tool_choice", "reasoning_effort"):  # what prompts and requests follow from
            assert (name in ours.params) == (name in plain.supported_params), (model, name)
    responses = capabilities_of(resolve("openai/unknown", None, "responses"))
    assert ("response_format" in responses.params) == (
        "response_format" in dspy.LM("openai/unknown", model_type="responses").supported_params
    )


def test_params_are_no_more_than_what_litellm_or_dspy_know():
    import dspy

    for model in KNOWN[:23]:
        ours = capabilities_of(resolve(model)).params
        assert ours - dspy.LM(model).supported_params <= {"n", "seed", "presence_penalty", "frequency_penalty"}, model


@pytest.mark.model
@pytest.mark.parametrize("kind", ["chat", "responses", "anthropic"])
def test_llama_cpp_speaks_each_of_them(kind):
    base = connect("local").dump_state()["base_url"]
    options = {"model_type": "responses"} if kind == "responses" else {}
    client = connect("anthropic/smollm" if kind == "anthropic" else "openai/smollm", api_base=base, api_key=KEY, **options)
    request, scope = Request(WORDS, {"max_tokens": 6, "temperature": 0.0}), Scope("t")
    plain = connect("local").complete(request, scope=scope)
    response = client.complete(request, scope=scope)
    assert (response.text, response.usage.prompt_tokens) == (plain.text, plain.usage.prompt_tokens)
    if kind != "responses":  # where llama.cpp calls a cut answer completed
        assert response.outputs[0].finish_reason == plain.outputs[0].finish_reason
    assert asyncio.run(client.acomplete(request, scope=scope)).text == plain.text
    assert "".join(client.stream(request, scope=scope)) == plain.text


@pytest.mark.model
def test_llama_cpp_holds_structured_output_to_its_schema():
    base = connect("local").dump_state()["base_url"]
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "X", "schema": schema}}
    client = connect("openai/smollm", api_base=base, api_key=KEY)
    response = client.complete(Request(WORDS, {"max_tokens": 32, "temperature": 0.0, "response_format": shape}), scope=Scope("t"))
    assert json.loads(response.text)["colour"] in {"red", "green"}
