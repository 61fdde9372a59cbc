"""Model strings: which provider, which model there, where, and with whose key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from dspex_nb.clients import catalog
from dspex_nb.errors import LMNotConfiguredError, did_you_mean
from dspex_nb.messages import Capabilities
from dspex_nb.transport import host_of, without_userinfo

FORM = "'provider/model' (e.g. 'openai/gpt-5-mini', 'ollama_chat/llama3.2', 'anthropic/claude-sonnet-4-5') or 'local'"

_COMMON = frozenset(
    {"temperature", "max_tokens", "top_p", "stop", "seed", "n", "stream", "presence_penalty", "frequency_penalty"}
)
_CHAT = _COMMON | {"max_completion_tokens", "logprobs", "top_logprobs", "logit_bias", "user"}
_PARAMS = {
    "chat": _CHAT,
    "responses": frozenset(
        {"temperature", "max_tokens", "max_completion_tokens", "top_p", "n", "stream", "logprobs", "top_logprobs", "store",
         "response_format"}
    ),
    "anthropic": frozenset({"temperature", "max_tokens", "top_p", "top_k", "stop", "n", "stream"}),
    "google": _COMMON | {"top_k", "logprobs", "top_logprobs", "response_format"},
}  # fmt: skip
"""Request options each dialect takes whatever the model."""
_BEHIND_A_URL = _CHAT | {"response_format", "tools", "tool_choice"}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider served directly.

    Attributes:
        base: The base URL its dialect's paths follow; empty where only the user knows it.
        key_envs: Environment variables of its key, the first that is set counts; empty where none is needed.
        base_env: Environment variables that may replace `base`.
        dialect: `"chat"` (OpenAI's chat completions), `"anthropic"` or `"google"`.
        version: What `base` ends in, added where a user's address lacks it.
        formats: Plain DSPy gives each of its models `response_format`, known or not.
    """

    base: str
    key_envs: tuple[str, ...] = ()
    base_env: tuple[str, ...] = ()
    dialect: str = "chat"
    version: str = ""
    formats: bool = False


DIRECT = {
    "openai": Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "anthropic": Provider(
        "https://api.anthropic.com/v1", ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"), "anthropic", "/v1"
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta", ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL", "GEMINI_API_BASE"), "google", "/v1beta",
    ),
    "ollama_chat": Provider("http://localhost:11434/v1", (), ("OLLAMA_API_BASE",), version="/v1"),
    "ollama": Provider("http://localhost:11434/v1", (), ("OLLAMA_API_BASE",), version="/v1"),
    "lm_studio": Provider("http://localhost:1234/v1", (), ("LM_STUDIO_API_BASE",)),
    "llamafile": Provider("http://localhost:8080/v1", (), ("LLAMAFILE_API_BASE",)),
    "hosted_vllm": Provider("", ("HOSTED_VLLM_API_KEY",), ("HOSTED_VLLM_API_BASE",)),
    "openrouter": Provider("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), ("OPENROUTER_API_BASE",)),
    "groq": Provider("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "deepseek": Provider("https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",)),
    "together_ai": Provider("https://api.together.xyz/v1", ("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), formats=True),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",)),
    "mistral": Provider("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), formats=True),
}  # fmt: skip
"""Providers served directly."""

THROUGH_LITELLM = (
    "azure", "azure_ai", "bedrock", "cerebras", "cohere", "cohere_chat", "databricks", "deepinfra", "github", "huggingface",
    "nvidia_nim", "perplexity", "replicate", "sagemaker", "sambanova", "vertex_ai", "voyage", "watsonx",
)  # fmt: skip
"""The best known of those that LiteLLM serves; it knows more, and is asked about a name found nowhere here."""

LOCAL = "local"
_REASONING = re.compile(r"(o[1345](-(mini|nano|pro))?(-\d{4}-\d{2}-\d{2})?|gpt-5(\.\d+)*(?!-chat)(-.*)?)$")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model string leads.

    Attributes:
        provider: `"local"`, a key of `DIRECT`, `"custom"` (an `api_base` with no known provider), or a LiteLLM provider.
        name: The model's name as its server knows it.
        url: The base URL; empty for `local` and LiteLLM.
        key_envs: Environment variables that may hold the key.
        direct: Served by our own HTTP client.
        dialect: The API it is asked in: `"chat"`, `"responses"`, `"anthropic"` or `"google"`.
    """

    provider: str
    name: str
    url: str = ""
    key_envs: tuple[str, ...] = ()
    direct: bool = True
    dialect: str = "chat"


def resolve(model: str, api_base: str | None = None, model_type: str = "chat") -> Target:
    """Say where a model string leads.

    Args:
        model: The model string.
        api_base: Address of a server that serves it instead of the provider's own.
        model_type: `"responses"` asks in OpenAI's responses API, as in DSPy.

    Raises:
        LMNotConfiguredError: It names nothing known; the form expected, and the nearest provider.
    """
    target = _resolve(model, api_base)
    if model_type == "chat":
        return target
    if model_type != "responses":
        raise LMNotConfiguredError(
            f"model_type={model_type!r} is not served", model=str(model), hint="leave it out ('chat'), or give 'responses'"
        )
    if target.dialect != "chat" or not target.direct or target.provider == LOCAL:
        raise LMNotConfiguredError(
            f"{model!r} has no responses API", model=model, hint="leave model_type out; it is for openai/ and servers like it"
        )
    return replace(target, dialect="responses")


def _resolve(model: str, api_base: str | None) -> Target:
    if not isinstance(model, str) or not model.strip():
        raise LMNotConfiguredError(f"{model!r} is no model string", hint=f"write {FORM}")
    if model == LOCAL and api_base is None:
        return Target(LOCAL, LOCAL)
    provider, slash, name = model.partition("/")
    if provider == LOCAL and api_base is None:
        raise LMNotConfiguredError(
            f"{model!r} is no model string: the embedded model is 'local'", model=model, hint="for another GGUF file add path="
        )
    if provider == "custom" and api_base is None:
        raise LMNotConfiguredError(
            f"{model!r} is served at an address of your own, and none is given",
            model=model,
            hint="add api_base='http://host:port/v1'",
        )
    known = DIRECT.get(provider)
    if api_base is not None and known is None and not (slash and provider in THROUGH_LITELLM):
        strip = bool(slash) and provider in {LOCAL, "custom"}
        return Target("custom", name if strip else model, _base(api_base, Provider("")))
    if not slash or not name:
        if api_base is not None:
            return Target("custom", model, _base(api_base, Provider("")))
        raise LMNotConfiguredError(
            f"{model!r} is no model string: expected {FORM}", model=model, hint=_bare_hint(model, slash, provider)
        )
    if known is not None:
        base = api_base or next((value for env in known.base_env if (value := os.environ.get(env))), known.base)
        if not base:
            raise LMNotConfiguredError(
                f"{provider!r} has no address of its own",
                model=model,
                hint=f"give api_base='http://host:port/v1' or set {known.base_env[0]}",
            )
        return Target(provider, name, _base(base, known), known.key_envs, dialect=known.dialect)
    _check_litellm_provider(provider, model)
    return Target(provider, model, key_envs=(f"{provider.upper()}_API_KEY",), direct=False)


def capabilities_of(target: Target) -> Capabilities:
    """Say what a directly served target can do: what plain DSPy would say of the same model string, since prompts follow from it.

    A model that the catalog lacks is taken to have nothing special, as in DSPy; `capabilities=` says better.
    """
    if target.provider == LOCAL:
        return Capabilities(
            response_schema=True, params=_COMMON | {"response_format", "top_k", "min_p", "repeat_penalty", "grammar"}
        )
    known = DIRECT.get(target.provider)
    if known is None:
        return Capabilities(params=_BEHIND_A_URL if target.dialect == "chat" else _PARAMS[target.dialect])
    facts = catalog.facts(target.provider, target.name)
    schema, tools, reasoning = (
        facts.get(f"supports_{name}") is True for name in ("response_schema", "function_calling", "reasoning")
    )
    params = set(_PARAMS[target.dialect])
    if known.formats or schema or (tools and target.dialect == "chat"):
        params.add("response_format")
    if tools:
        params |= {"tools", "tool_choice"} | ({"parallel_tool_calls"} if target.dialect != "google" else set())
    if reasoning:
        params.add("reasoning_effort")
    return Capabilities(schema, tools, reasoning, frozenset(params))


def is_reasoning(target: Target) -> bool:
    """Say whether it is one of OpenAI's reasoning models, which name some options differently; DSPy's own rule."""
    return _REASONING.match(target.name.rpartition("/")[2].lower()) is not None


def _base(base: str, provider: Provider) -> str:
    base = base.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise LMNotConfiguredError(
            f"api_base {without_userinfo(base)!r} is no URL", hint="write e.g. api_base='http://localhost:8000/v1'"
        )
    try:
        host_of(base)
    except ValueError:  # not quoted, nor chained: its words may hold a piece of a password
        raise LMNotConfiguredError(
            "api_base has a host or port that cannot be read",
            hint="write e.g. api_base='http://localhost:8000/v1', and special characters of a password as %40 and the like",
        ) from None
    if "?" in base or "#" in base:  # not quoted: it may hold a key
        raise LMNotConfiguredError(
            f"api_base at {host_of(base)} has a part after '?' or '#'",
            hint="give the address alone, and a key as api_key= or headers=",
        )
    for path in ("/chat/completions", "/responses", "/messages"):  # the whole address is taken too
        base = base.removesuffix(path)
    bare = not urlsplit(base).path or provider.version == "/v1"
    return f"{base}{provider.version}" if bare and not base.endswith(provider.version or "/") else base


def _bare_hint(model: str, slash: str, provider: str) -> str:
    if slash:
        return f"name a model after the slash: '{provider}/MODEL'"
    near = did_you_mean(model, [LOCAL])
    if near:
        return f"{near}write dx.LM('local') for the embedded model"
    if model.startswith(("gpt", "o1", "o3", "o4", "chatgpt")):
        return f"did you mean 'openai/{model}'? "
    if model.startswith("claude"):
        return f"did you mean 'anthropic/{model}'? "
    if model.startswith("gemini"):
        return f"did you mean 'gemini/{model}'? "
    return f"write dx.LM('provider/{model}'), or add api_base= if a server of your own serves it"


def _check_litellm_provider(provider: str, model: str) -> None:
    if provider in THROUGH_LITELLM:
        return
    near = did_you_mean(provider, [*DIRECT, *THROUGH_LITELLM])
    if not near:
        from dspex_nb.clients.litellm import known_providers

        if provider in known_providers():
            return
    raise LMNotConfiguredError(
        f"{provider!r} in {model!r} is no known provider: expected {FORM}",
        model=model,
        hint=near.strip() or "give api_base= if it is an OpenAI-compatible server of your own",
    )
