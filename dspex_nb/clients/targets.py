"""Model strings: which provider, which model there, where, and with whose key."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dspex_nb.errors import LMNotConfiguredError, did_you_mean
from dspex_nb.messages import Capabilities

FORM = "'provider/model' (e.g. 'openai/gpt-5-mini', 'ollama_chat/llama3.2', 'anthropic/claude-sonnet-4-5') or 'local'"

_COMMON = frozenset(
    {"temperature", "max_tokens", "top_p", "stop", "seed", "n", "stream", "presence_penalty", "frequency_penalty"}
)
_RICH = _COMMON | {"response_format", "tools", "tool_choice", "logprobs", "top_logprobs", "user"}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that speaks OpenAI's chat completions.

    Attributes:
        base: Its URL up to `/chat/completions`; empty where only the user knows it.
        key_env: Environment variable of its key; empty where none is needed.
        base_env: Environment variables that may replace `base`.
        schema: Its server takes `response_format` with a JSON schema.
        tools: Its server takes `tools`.
    """

    base: str
    key_env: str = ""
    base_env: tuple[str, ...] = ()
    schema: bool = True
    tools: bool = True


OPENAI_COMPATIBLE = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "ollama_chat": Provider("http://localhost:11434/v1", "", ("OLLAMA_API_BASE",), tools=False),
    "ollama": Provider("http://localhost:11434/v1", "", ("OLLAMA_API_BASE",), tools=False),
    "lm_studio": Provider("http://localhost:1234/v1", "", ("LM_STUDIO_API_BASE",)),
    "llamafile": Provider("http://localhost:8080/v1", "", ("LLAMAFILE_API_BASE",), tools=False),
    "hosted_vllm": Provider("", "HOSTED_VLLM_API_KEY", ("HOSTED_VLLM_API_BASE",)),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", ("OPENROUTER_API_BASE",)),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", schema=False),
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
}
"""Providers served directly."""

THROUGH_LITELLM = (
    "anthropic", "azure", "azure_ai", "bedrock", "cerebras", "cohere", "cohere_chat", "databricks", "deepinfra", "gemini",
    "github", "huggingface", "nvidia_nim", "perplexity", "replicate", "sagemaker", "sambanova", "vertex_ai", "voyage", "watsonx",
)  # fmt: skip
"""The best known of those that LiteLLM serves; it knows more, and is asked about a name found nowhere here."""

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model string leads.

    Attributes:
        provider: `"local"`, a key of `OPENAI_COMPATIBLE`, `"custom"` (an `api_base` with no known provider),
            or a LiteLLM provider.
        name: The model's name as its server knows it.
        url: The chat completions URL; empty for `local` and LiteLLM.
        key_env: Environment variable that holds the key, if any.
        direct: Served by our own HTTP client.
    """

    provider: str
    name: str
    url: str = ""
    key_env: str = ""
    direct: bool = True


def resolve(model: str, api_base: str | None = None) -> Target:
    """Say where a model string leads.

    Raises:
        LMNotConfiguredError: It names nothing known; the form expected, and the nearest provider.
    """
    if not isinstance(model, str) or not model.strip():
        raise LMNotConfiguredError(f"{model!r} is no model string", hint=f"write {FORM}")
    if model == LOCAL and api_base is None:
        return Target(LOCAL, LOCAL)
    provider, slash, name = model.partition("/")
    known = OPENAI_COMPATIBLE.get(provider)
    if api_base is not None:
        strip = bool(slash) and (known is not None or provider in {LOCAL, "custom"})
        return Target(
            provider if known else "custom", name if strip else model, _completions(api_base), known.key_env if known else ""
        )
    if not slash or not name:
        raise LMNotConfiguredError(
            f"{model!r} is no model string: expected {FORM}", model=model, hint=_bare_hint(model, slash, provider)
        )
    if known is not None:
        base = next((value for env in known.base_env if (value := os.environ.get(env))), known.base)
        if not base:
            raise LMNotConfiguredError(
                f"{provider!r} has no address of its own",
                model=model,
                hint=f"give api_base='http://host:port/v1' or set {known.base_env[0]}",
            )
        if provider.startswith("ollama") and not base.rstrip("/").endswith("/v1"):
            base = base.rstrip("/") + "/v1"  # OLLAMA_API_BASE is customarily the bare host
        return Target(provider, name, _completions(base), known.key_env)
    _check_litellm_provider(provider, model)
    return Target(provider, model, key_env=f"{provider.upper()}_API_KEY", direct=False)


def capabilities_of(target: Target) -> Capabilities:
    """Say what a directly served target can do; a server behind `api_base` is trusted with the common options alone."""
    if target.provider == LOCAL:
        return Capabilities(
            response_schema=True, params=_COMMON | {"response_format", "top_k", "min_p", "repeat_penalty", "grammar"}
        )
    known = OPENAI_COMPATIBLE.get(target.provider)
    if known is None:
        return Capabilities(params=_RICH)
    if target.provider == "openai" and target.name.startswith(("gpt-3.5", "gpt-4-", "chatgpt-4o")) | (target.name == "gpt-4"):
        return Capabilities(function_calling=not target.name.startswith("chatgpt"), params=_RICH)
    reasoning = is_reasoning(target)
    params = _RICH | ({"reasoning_effort", "max_completion_tokens"} if reasoning else frozenset())
    return Capabilities(response_schema=known.schema, function_calling=known.tools, reasoning=reasoning, params=params)


def is_reasoning(target: Target) -> bool:
    """Say whether it is one of OpenAI's reasoning models, which name some options differently."""
    name = target.name.rpartition("/")[2]
    return target.provider == "openai" and (
        name.startswith(("o1", "o3", "o4")) or (name.startswith("gpt-5") and "chat" not in name)
    )


def _completions(base: str) -> str:
    base = base.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise LMNotConfiguredError(f"api_base {base!r} is no URL", hint="write e.g. api_base='http://localhost:8000/v1'")
    return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


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
    near = did_you_mean(provider, [*OPENAI_COMPATIBLE, *THROUGH_LITELLM])
    if not near:
        from dspex_nb.clients.litellm import known_providers

        if provider in known_providers():
            return
    raise LMNotConfiguredError(
        f"{provider!r} in {model!r} is no known provider: expected {FORM}",
        model=model,
        hint=near.strip() or "give api_base= if it is an OpenAI-compatible server of your own",
    )
