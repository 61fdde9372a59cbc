"""What a call costs, from the offline price table; what the table cannot say exactly is unknown, never 0."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from dspex_nb.clients import catalog
from dspex_nb.messages import Usage

_OWN_MACHINE = frozenset({"local", "ollama", "ollama_chat", "lm_studio", "llamafile"})
_DATE = re.compile(r"([-@]\d{4}-?\d{2}-?\d{2}|-latest)$")
_THRESHOLD = re.compile(r"^(?:input|output|cache_\w+?)_.*_above_(\d+)(k?)_tokens(?:_[a-z]+)?$")
_TIERS = frozenset({"flex", "priority"})
_DOMAINS = {
    "openai": "openai.com", "anthropic": "anthropic.com", "gemini": "googleapis.com", "groq": "groq.com",
    "deepseek": "deepseek.com", "together_ai": "together.xyz", "fireworks_ai": "fireworks.ai", "xai": "x.ai",
    "mistral": "mistral.ai", "openrouter": "openrouter.ai",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a token. `above` holds the prices of longer prompts by the token count they begin after, longest first.

    A long prompt's price holds for the whole call.
    """

    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_write_1h: float
    audio: float
    above: tuple[tuple[int, Price], ...] = ()

    def of(self, usage: Usage, kept_1h: int = 0) -> float:
        """Return what one call cost; `kept_1h` of the tokens written to the prompt cache are kept for an hour."""
        for least, price in self.above:
            if usage.prompt_tokens > least:
                return price.of(usage, kept_1h)
        plain = usage.prompt_tokens - usage.cached_prompt_tokens - usage.cache_write_tokens
        heard = min(usage.audio_tokens, max(plain, 0))
        return (
            (max(plain, 0) - heard) * self.input
            + usage.completion_tokens * self.output
            + usage.cached_prompt_tokens * self.cache_read
            + (usage.cache_write_tokens - kept_1h) * self.cache_write
            + kept_1h * self.cache_write_1h
            + heard * self.audio
        )


class Pricing:
    """Prices a client's answers; the table is looked into when the first answer needs it.

    Args:
        model: The model string.
        url: Says where it is served; a server other than the provider's own has no known price.
        given: The user's own prices, in dollars a million tokens: `input`, `output`, `cached_input`, `cache_write`.
        free: Nobody is paid: the embedded model.
    """

    __slots__ = ("_by_tier", "_free", "_given", "_model", "_url")

    def __init__(
        self, model: str, *, url: Callable[[], str] = str, given: Mapping[str, float] | None = None, free: bool = False
    ) -> None:
        self._model, self._url, self._free = model, url, free
        self._given = _price_given(given) if given else None
        self._by_tier: dict[Any, Price | None] = {}

    def __call__(self, usage: Usage, answer: Mapping[str, Any]) -> float | None:
        """Return what an answer cost, or None if that is unknown. What the provider itself reports wins over the table."""
        if self._given is not None:
            return self._given.of(usage) if usage.total_tokens else None
        if self._free:
            return 0.0
        reported = answer.get("dspex_cost", (answer.get("usage") or {}).get("cost"))
        if reported is not None and (said := _amount(reported)) is not None:
            return said
        tier = answer.get("service_tier")
        try:
            price = self._by_tier[tier]
        except KeyError:
            price = self._by_tier[tier] = _found(self._model, self._url(), tier)
        except TypeError:  # a tier that is no name
            return None
        if price is None or not usage.total_tokens:
            return None
        return price.of(usage, _kept_1h(answer)) if usage.cache_write_tokens else price.of(usage)

    def most(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return what a call of so many tokens costs at the most, or None if that is unknown; for calls not yet made."""
        if self._free:
            return 0.0
        price = self._given or _found(self._model, self._url(), None)
        return None if price is None else price.of(Usage(prompt_tokens, completion_tokens))


def cost_of(model: str, usage: Usage, *, tier: str | None = None) -> float | None:
    """Return what a call to the provider's own server costs, or None if its price is unknown.

    Args:
        model: `"provider/model"` as in DSPy and LiteLLM.
        usage: Its tokens.
        tier: The service tier it was billed in, e.g. `"flex"`.
    """
    return Pricing(model)(usage, {"service_tier": tier})


@functools.lru_cache(maxsize=256)
def entry(model: str) -> Mapping[str, Any] | None:
    """Return what the table says of a model (prices, limits, `supports_…`), or None. A dated name may be found undated."""
    provider, slash, name = model.partition("/")
    if not slash:
        found = catalog.table().get(model)
        return found if isinstance(found, dict) else None
    for variant in _names(name):
        found = catalog.entry(provider, variant) or catalog.table().get(variant)
        if isinstance(found, dict) and _serves(provider, found):
            return found
    return None


@functools.lru_cache(maxsize=256)
def price_of(model: str, tier: str | None = None) -> Price | None:
    """Return a model's prices, or None where the table lacks it or has what tokens alone do not settle."""
    provider, _, name = model.partition("/")
    if provider in _OWN_MACHINE:
        return None if name.endswith("-cloud") else Price(0, 0, 0, 0, 0, 0)
    known = entry(model)
    if known is None or not _settled_by_tokens(known):
        return None
    ranges = known.get("tiered_pricing")
    if ranges:
        prices = [(int(part["range"][0]), _price(part, "", "")) for part in ranges]
    else:
        suffix = f"_{tier}" if tier in _TIERS and known.get(f"input_cost_per_token_{tier}") is not None else ""
        prices = [(0, _price(known, "", suffix)), *((least, _price(known, mark, suffix)) for least, mark in _thresholds(known))]
    if any(price is None for _, price in prices):
        return None
    reaches = 1 if provider == "xai" else 0  # xAI's longer price begins at the threshold, not past it
    whole = [(least - reaches, price) for least, price in sorted(prices, key=lambda pair: -pair[0]) if price is not None]
    base = whole.pop()[1]
    return replace(base, above=tuple(whole))


def _kept_1h(answer: Mapping[str, Any]) -> int:
    details = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
    return int(details.get("cache_creation_1h_tokens") or 0)


def _found(model: str, url: str, tier: Any) -> Price | None:
    provider, host = model.partition("/")[0], urlsplit(url).hostname or ""
    if host and provider in _OWN_MACHINE:
        return price_of(model) if host == "localhost" or host.startswith("127.") else None
    domain = _DOMAINS.get(provider, "")
    if host and not (domain and (host == domain or host.endswith(f".{domain}"))):
        return None  # somebody else's server, or the user's own
    return price_of(model, tier)


def _names(name: str) -> Iterator[str]:
    yield name
    if name.startswith("ft:"):  # a fine-tuned model has its base's price, by a name of its own
        yield ":".join(name.split(":")[:2])
    undated = _DATE.sub("", name)
    if undated != name:
        yield undated


def _serves(provider: str, found: Mapping[str, Any]) -> bool:
    """Say whether an entry without a provider in its name is this provider's: the same model costs differently elsewhere."""
    by = str(found.get("litellm_provider"))
    return by == provider or by.startswith((f"{provider}_", f"{provider}-"))


def _settled_by_tokens(known: Mapping[str, Any]) -> bool:
    """Say whether `Usage` alone gives the price: not by the hour, the request or the kind of token. A price of 0 may be a gap."""
    reasoning = known.get("output_cost_per_reasoning_token")
    free = not known.get("input_cost_per_token") and not known.get("output_cost_per_token") and not known.get("tiered_pricing")
    other = reasoning is not None and reasoning != known.get("output_cost_per_token")
    return not (free or other or "off_peak_pricing" in known or "input_cost_per_request" in known)


def _thresholds(known: Mapping[str, Any]) -> set[tuple[int, str]]:
    found = (_THRESHOLD.match(name) for name in known)
    return {(int(m[1]) * (1000 if m[2] else 1), f"_above_{m[1]}{m[2]}_tokens") for m in found if m}


def _price(known: Mapping[str, Any], above: str, tier: str) -> Price | None:
    def dollars(name: str) -> float | None:
        value = next((v for mark in (above + tier, above, tier, "") if (v := known.get(f"{name}{mark}")) is not None), None)
        return _amount(value)

    into, out = dollars("input_cost_per_token"), dollars("output_cost_per_token")
    if into is None or out is None:
        return None
    read, write = dollars("cache_read_input_token_cost"), dollars("cache_creation_input_token_cost")
    if read is None and known.get("litellm_provider") == "fireworks_ai":
        read = into / 2  # Fireworks' rule where it lists no other price
    audio = dollars("input_cost_per_audio_token")
    hour = dollars("cache_creation_input_token_cost_above_1hr")
    return Price(into, out, _or(read, into), _or(write, into), _or(hour, _or(write, into)), _or(audio, into))


def _price_given(given: Mapping[str, float]) -> Price:
    """Read the user's own prices, in dollars a million tokens."""
    into = given["input"] / 1e6
    read, write = (given.get(name, given["input"]) / 1e6 for name in ("cached_input", "cache_write"))
    return Price(into, given["output"] / 1e6, read, write, write, into)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _amount(reported: Any) -> float | None:
    """A number of dollars as a provider reports it: plain, or in an object as its total."""
    if isinstance(reported, Mapping):
        reported = reported.get("total_cost")
    good = isinstance(reported, int | float) and not isinstance(reported, bool) and 0 <= reported < float("inf")
    return float(reported) if good else None
