"""Costs: the table's against LiteLLM's own, the user's, the provider's, and unknown where nobody knows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.clients.connecting import Connected
from dspex_nb.clients.prices import Pricing, cost_of, entry, price_of
from dspex_nb.errors import LMNotConfiguredError
from dspex_nb.events import Bus
from dspex_nb.messages import Request, Usage
from dspex_nb.scopes import Scope

ASK = Request([{"role": "user", "content": "Capital of France?"}])
USAGES = {
    "short": Usage(1000, 200),
    "cached": Usage(20_000, 300, 15_000, cache_write_tokens=2_000),
    "long": Usage(150_000, 500, 100_000),
    "longer": Usage(300_000, 500),
}
MODELS = [
    "openai/gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18", "openai/gpt-4o", "openai/gpt-4.1", "openai/gpt-5-mini",
    "openai/gpt-5.4", "openai/o3", "openai/o4-mini", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5-20250929",
    "anthropic/claude-haiku-4-5", "anthropic/claude-opus-4-5", "gemini/gemini-2.5-pro", "gemini/gemini-2.5-flash",
    "groq/openai/gpt-oss-120b", "deepseek/deepseek-chat", "xai/grok-4.3", "mistral/codestral-2508",
    "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "fireworks_ai/accounts/fireworks/models/deepseek-v3",
    "cohere/command-r-08-2024", "dashscope/qwen-flash",
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_the_table_gives_what_litellm_works_out(model, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm
    from litellm.types.utils import PromptTokensDetailsWrapper
    from litellm.types.utils import Usage as Theirs

    for usage in USAGES.values():
        details = PromptTokensDetailsWrapper(
            cached_tokens=usage.cached_prompt_tokens, cache_creation_tokens=usage.cache_write_tokens
        )
        theirs = Theirs(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=usage.total_tokens,
            prompt_tokens_details=details,
        )  # fmt: skip
        expected = sum(litellm.cost_per_token(model=model, usage_object=theirs))
        assert expected > 0
        assert cost_of(model, usage) == pytest.approx(expected, rel=1e-9)


def test_a_whole_answer_costs_what_litellm_says_of_it(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    answer = {
        "choices": [{"message": {"content": "x"}}],
        "model": "gpt-4o-mini",
        "usage": {"prompt_tokens": 3000, "completion_tokens": 70, "total_tokens": 3070, "prompt_tokens_details": {"cached_tokens": 2048}},
    }  # fmt: skip
    theirs = litellm.completion_cost(completion_response=litellm.ModelResponse(**answer), model="openai/gpt-4o-mini")
    assert cost_of("openai/gpt-4o-mini", Usage(3000, 70, 2048)) == pytest.approx(theirs)
    assert cost_of("openai/gpt-4o-mini", Usage(3000, 70)) > theirs


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-99", "groq/gpt-4o", "nobody/claude-sonnet-4-5", "openrouter/openai/gpt-4o", "whatever",
        "deepseek/deepseek-v4-pro",  # its price depends on the hour
        "gemini/gemma-3-27b-it",  # 0 in the table: free, or a gap
        "ollama/gpt-oss:120b-cloud", "perplexity/sonar-deep-research",
    ],
)  # fmt: skip
def test_what_is_not_known_exactly_is_unknown(model):
    assert cost_of(model, Usage(1000, 10)) is None


def test_own_machines_cost_nothing_and_no_tokens_mean_no_price():
    assert [cost_of(model, Usage(10, 1)) for model in ("local", "ollama_chat/llama3.2", "lm_studio/x")] == [0.0, 0.0, 0.0]
    assert cost_of("openai/gpt-4o-mini", Usage()) is None


def test_names_with_dates_fine_tunes_and_tiers():
    plain = price_of("openai/gpt-5-mini")
    assert price_of("openai/gpt-5-mini-2031-01-31") == plain
    assert price_of("anthropic/claude-sonnet-4-5-latest") == price_of("anthropic/claude-sonnet-4-5")
    assert price_of("openai/ft:gpt-4o-mini-2024-07-18:org::abc").input > price_of("openai/gpt-4o-mini").input
    assert price_of("openai/gpt-5-mini", "flex").input == plain.input / 2
    assert cost_of("openai/gpt-5-mini", Usage(100, 1), tier="default") == cost_of("openai/gpt-5-mini", Usage(100, 1))
    assert cost_of("openai/gpt-5-mini", Usage(100, 1), tier="priority") > cost_of("openai/gpt-5-mini", Usage(100, 1))


def test_a_long_prompt_has_its_own_price_and_heard_tokens_too():
    at, over = (cost_of("gemini/gemini-2.5-pro", Usage(count, 0)) for count in (200_000, 200_001))
    assert (at, over) == (pytest.approx(0.25), pytest.approx(200_001 * 2.5e-6))
    text, heard = (cost_of("gemini/gemini-2.5-flash", Usage(1000, 0, audio_tokens=count)) for count in (0, 1000))
    assert heard == pytest.approx(1000 * entry("gemini/gemini-2.5-flash")["input_cost_per_audio_token"])
    assert heard > text


def test_what_is_kept_for_an_hour_in_the_prompt_cache_costs_more(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm
    from litellm.types.utils import CacheCreationTokenDetails, PromptTokensDetailsWrapper
    from litellm.types.utils import Usage as Theirs

    usage = Usage(5000, 10, 0, cache_write_tokens=4000)
    hour = {"usage": {"prompt_tokens_details": {"cache_creation_1h_tokens": 3000}}}
    kept = CacheCreationTokenDetails(ephemeral_5m_input_tokens=1000, ephemeral_1h_input_tokens=3000)
    details = PromptTokensDetailsWrapper(cache_creation_tokens=4000, cache_creation_token_details=kept)
    theirs = Theirs(prompt_tokens=5000, completion_tokens=10, total_tokens=5010, prompt_tokens_details=details)
    expected = sum(litellm.cost_per_token(model="anthropic/claude-sonnet-4-5", usage_object=theirs))
    assert Pricing("anthropic/claude-sonnet-4-5")(usage, hour) == pytest.approx(expected)
    assert expected > cost_of("anthropic/claude-sonnet-4-5", usage)


def test_an_entry_tells_what_a_model_can_do():
    assert entry("anthropic/claude-sonnet-4-5")["supports_response_schema"] is True
    assert entry("openai/gpt-99") is None


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
PRICE = {"input": 2.0, "output": 10.0, "cached_input": 0.5}


def ways(bad, usage, **more):
    """Return how to ask in each way, and the server's script for it."""

    async def gather(client, scope):
        return [piece async for piece in client.astream(ASK, scope=scope)]

    whole = bad.http(200, {**bad.ANSWER, "usage": usage, **more})
    stream = bad.whole_stream("Paris", usage, **more)
    return [
        (lambda c, s: c.complete(ASK, scope=s), whole),
        (lambda c, s: asyncio.run(c.acomplete(ASK, scope=s)), whole),
        (lambda c, s: list(c.stream(ASK, scope=s)), stream),
        (lambda c, s: asyncio.run(gather(c, s)), stream),
    ]


def costs(bad, usage, model="openai/gpt-4o-mini", official=False, more=None, **options):
    """Ask in every way and return what the events say it cost."""
    found = []
    for ask, script in ways(bad, usage, **(more or {})):
        bus = Bus()
        with bad.BadServer(script) as server:
            client = connect(model, api_base=server.url, **options)
            if official:  # as if the provider itself stood there
                client._price = Pricing(model)
            ask(client, Scope("t", bus))
        found.append(bus.recent[-1].cost)
    return found


def test_every_way_to_ask_tells_its_cost(bad):
    expected = 1000 * 0.15e-6 + 100 * 0.6e-6
    assert costs(bad, USAGE, official=True) == [pytest.approx(expected)] * 4
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 1000}}
    assert costs(bad, cached, official=True) == [pytest.approx(1000 * 0.075e-6 + 100 * 0.6e-6)] * 4
    flex = costs(bad, USAGE, "openai/gpt-5-mini", official=True, more={"service_tier": "flex"})
    assert flex == [cost_of("openai/gpt-5-mini", Usage(1000, 100), tier="flex")] * 4


def test_ones_own_server_has_no_known_price_unless_it_is_given(bad):
    assert costs(bad, USAGE) == [None] * 4
    assert costs(bad, USAGE, price=PRICE) == [pytest.approx(0.003)] * 4
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 600}}
    assert costs(bad, cached, price=PRICE) == [pytest.approx(400 * 2e-6 + 600 * 0.5e-6 + 100 * 10e-6)] * 4
    assert costs(bad, {}, price=PRICE) == [None] * 4  # a server that tells no tokens


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_the_providers_own_address_is_no_server_of_ones_own(url):
    assert connect("openai/gpt-4o-mini", api_base=url)._price(Usage(1000, 0), {}) == pytest.approx(1.5e-4)
    assert connect("openai/gpt-4o-mini", api_base="https://openai.com.evil.example/v1")._price(Usage(1000, 0), {}) is None


def test_an_address_from_the_environment_is_ones_own_too(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert connect("openai/gpt-4o-mini")._price(Usage(1000, 0), {}) is None
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert connect("openai/gpt-4o-mini")._price(Usage(1000, 0), {}) == pytest.approx(1.5e-4)


def test_what_the_provider_reports_wins_over_the_table(bad):
    assert costs(bad, {**USAGE, "cost": 0.0123}, "openrouter/openai/gpt-4o") == [0.0123] * 4
    assert costs(bad, {**USAGE, "cost": {"total_cost": 0.5}}, "openrouter/x/y") == [0.5] * 4
    assert costs(bad, {**USAGE, "cost": 0}, "openrouter/free/y") == [0.0] * 4
    for odd in ("12", -1, True, [], {}):
        assert costs(bad, {**USAGE, "cost": odd}, official=True) == [pytest.approx(2.1e-4)] * 4


def test_reasoning_that_a_provider_leaves_out_of_the_completion_is_paid_all_the_same(bad):
    apart = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1100}
    assert costs(bad, apart, official=True) == costs(bad, USAGE, official=True)


def test_a_hit_costs_nothing_and_counts_what_it_saved(bad):
    with bad.BadServer(bad.http(200, {**bad.ANSWER, "usage": USAGE})) as server:
        cache = Cache()
        priced, unpriced = (connect(name, api_base=server.url, **given) for name, given in (("a", {"price": PRICE}), ("b", {})))
        assert [c.complete(ASK, scope=Scope("t"), cache=cache).cost for c in (priced, unpriced)] == [pytest.approx(0.003), None]
        assert [c.complete(ASK, scope=Scope("t"), cache=cache).cost for c in (priced, unpriced)] == [0.0, 0.0]
    stats = cache.stats()
    assert (stats.saved_cost, stats.saved_tokens, stats.unpriced_hits) == (pytest.approx(0.003), 2200, 1)


def test_the_users_price_crosses_to_another_process():
    client = connect("a", api_base="http://127.0.0.1:1/v1", price=PRICE)
    state = json.loads(json.dumps(client.dump_state()))
    assert Connected.from_state(state)._price(Usage(1000, 100), {}) == pytest.approx(0.003)
    assert "price" not in client.options


@pytest.mark.parametrize(
    "price", [{"input": 1}, {"input": 1, "output": -1}, {"input": 1, "output": 2, "x": 3}, 5, {"input": "1", "output": 2}]
)
def test_an_impossible_price_is_refused(price):
    with pytest.raises(LMNotConfiguredError, match="is no price") as caught:
        connect("openai/gpt-4o-mini", price=price)
    assert "a million tokens" in caught.value.hint


def test_litellm_is_not_imported_for_its_table():
    code = (
        "import sys\nfrom dspex_nb.clients.prices import cost_of\nfrom dspex_nb.messages import Usage\n"
        "assert cost_of('openai/gpt-4o-mini', Usage(1000, 0)) == 1000 * 0.15e-6\n"
        "print([m for m in ('litellm', 'dspy', 'aiohttp') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
