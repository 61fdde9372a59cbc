"""From a model string to a client."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dspex_nb.clients import local
from dspex_nb.clients.client import Client
from dspex_nb.clients.dialects import Dialect
from dspex_nb.clients.openai import ChatDialect
from dspex_nb.clients.posting import HTTPWire
from dspex_nb.clients.settings import Settings, check_options, without_secrets
from dspex_nb.clients.targets import LOCAL, Target, capabilities_of, is_reasoning, resolve
from dspex_nb.errors import LMNotConfiguredError
from dspex_nb.messages import Capabilities
from dspex_nb.transport import without_userinfo

LOCAL_CONCURRENCY = 4  # one slot serves; a few waiting keep it busy, and a cell's call stands in a short queue
_SETTING_NAMES = frozenset(field.name for field in fields(Settings))


class Connected(Client):
    """A client that was made from a model string, and is made from it again where it arrives."""

    @staticmethod
    def from_state(state: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> Client:
        """Rebuild a client from `dump_state` and, where keys came as arguments, `secrets`; others come from the environment."""
        options = {**state.get("options", {}), **state.get("settings", {}), **(secrets or {})}
        for name in ("api_base", "model_type", "path", "base_url", "identity"):
            if state.get(name) is not None:
                options.setdefault(name, state[name])
        if state.get("capabilities"):
            known = dict(state["capabilities"])
            options["capabilities"] = Capabilities(**{**known, "params": frozenset(known.get("params", ()))})
        return connect(state["model"], **options)


def connect(model: str, *, on_progress: Callable[[str], None] | None = None, **options: Any) -> Client:
    """Return a client for a model string.

    Args:
        model: `"local"`, `"provider/model"`, or any name together with `api_base`. OpenAI and servers like it, Anthropic and
            Google (`gemini/…`) are asked over HTTP in their own APIs, every other provider through LiteLLM.
        on_progress: Told in words while the embedded model loads, which is when it is first asked.
        **options: `api_key`, `api_base`, `headers`; `model_type="responses"` for OpenAI's responses API; the fields of
            `Settings`; `capabilities` (where the server's are known better); for `local` also `path` (a GGUF file), `threads` and
            `base_url` (a server that runs already); anything else is sent to the model (`temperature`, `max_tokens`, …).

    Raises:
        LMNotConfiguredError: The string names nothing known, or a setting is impossible.
        MissingDependencyError: A package for it is not installed.
    """
    api_base, model_type = options.pop("api_base", None), options.pop("model_type", None) or "chat"
    capabilities = _checked_capabilities(options.pop("capabilities", None))
    check_options(options)
    given = {name: options.pop(name) for name in tuple(options) if name in _SETTING_NAMES}
    if given.get("across_processes") is None:
        given["across_processes"] = "max_concurrency" in given
    target = resolve(model, api_base, model_type)
    if target.provider == LOCAL:
        return _connect_local(model, given, options, capabilities, on_progress)
    shown, hidden = without_secrets(options)
    settings = Settings(**given)
    bare = without_userinfo(api_base) if api_base else None
    if bare != api_base:  # it holds a password
        hidden["api_base"] = api_base
    origin = {**({"api_base": bare} if bare else {}), **({"model_type": model_type} if model_type != "chat" else {})}
    if not target.direct:
        return _connect_litellm(target, model, shown, hidden, settings, capabilities, origin)
    wire = HTTPWire(
        _dialect_of(target),
        target.url,
        target.name,
        key=lambda: hidden.get("api_key") or next((key for env in target.key_envs if (key := os.environ.get(env))), None),
        key_env=next(iter(target.key_envs), ""),
        headers={**(hidden.get("headers") or {}), **(hidden.get("extra_headers") or {})},
    )
    identity = "@".join([model, *(str(value) for value in origin.values())])
    return Connected(
        model, wire, provider=target.provider, identity=identity, options=shown, settings=settings,
        capabilities=capabilities or capabilities_of(target), origin=_with_capabilities(origin, capabilities), credentials=hidden,
    )  # fmt: skip


def _checked_capabilities(given: Any) -> Capabilities | None:
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in Capabilities.__dataclass_fields__]
        if not unknown:
            return Capabilities(**{**given, "params": frozenset(given.get("params", ()))})
        given = unknown[0]
    elif given is None or isinstance(given, Capabilities):
        return given
    raise LMNotConfiguredError(
        f"capabilities: {given!r:.80} is not known",
        hint="write dx.Capabilities(response_schema=True, params=frozenset({'response_format'})), or the same as a dict",
    )


def _dialect_of(target: Target) -> Dialect:
    # One is imported, not all: a notebook usually talks to one provider.
    if target.dialect == "responses":
        from dspex_nb.clients.responses import ResponsesDialect

        return ResponsesDialect()
    if target.dialect == "anthropic":
        from dspex_nb.clients.anthropic import MessagesDialect

        return MessagesDialect()
    if target.dialect == "google":
        from dspex_nb.clients.google import GenerateContentDialect

        return GenerateContentDialect()
    return ChatDialect({"max_tokens": "max_completion_tokens"} if is_reasoning(target) else None)


def _connect_local(
    model: str,
    given: dict[str, Any],
    options: dict[str, Any],
    capabilities: Capabilities | None,
    on_progress: Callable[[str], None] | None,
) -> Client:
    path, base_url, identity, threads = (options.pop(name, None) for name in ("path", "base_url", "identity", "threads"))
    shown, hidden = without_secrets(options)
    base_url = base_url or local.url_from_environment()
    if base_url:
        url: str | Callable[[], str] = local.with_v1(base_url)
        identity = identity or _identity_of_url(path, base_url)
    else:
        file = local.model_path(path)
        server = local.server_for(file, threads)
        url = lambda: server.url(on_progress)  # noqa: E731 - two lines of one thought
        identity = identity or _identity(file)
    wire = HTTPWire(ChatDialect(native_n=False), url, LOCAL, extra={"cache_prompt": True})
    settings = Settings(**{"max_concurrency": LOCAL_CONCURRENCY, **given})
    return Connected(
        model, wire, provider=LOCAL, identity=identity, options={"temperature": 0.0, **shown}, settings=settings,
        capabilities=capabilities or capabilities_of(Target(LOCAL, LOCAL)), price_zero=True, seeded=True,
        origin=_with_capabilities({"path": str(path)} if path else {}, capabilities), credentials=hidden,
    )  # fmt: skip


def _connect_litellm(
    target: Target,
    model: str,
    shown: dict[str, Any],
    hidden: dict[str, Any],
    settings: Settings,
    capabilities: Capabilities | None,
    origin: Mapping[str, Any],
) -> Client:
    from dspex_nb.clients import litellm

    wire = litellm.LiteLLMWire(target.name, credentials={**hidden, **origin}, key_env=next(iter(target.key_envs), ""))
    return Connected(
        model, wire, provider=target.provider, identity="@".join([model, *(str(value) for value in origin.values())]),
        options=shown, settings=settings, capabilities=capabilities or litellm.capabilities_of(target.name),
        origin=_with_capabilities(origin, capabilities), credentials=hidden,
    )  # fmt: skip


def _with_capabilities(origin: Mapping[str, Any], capabilities: Capabilities | None) -> dict[str, Any]:
    if capabilities is None:
        return dict(origin)
    return {
        **origin,
        "capabilities": {
            "response_schema": capabilities.response_schema,
            "function_calling": capabilities.function_calling,
            "reasoning": capabilities.reasoning,
            "params": sorted(capabilities.params),
        },
    }


def _identity(file: Path) -> str:
    """Name a model file by what it is, not where: the cache stays good when the environment moves."""
    return f"local:{file.name}:{file.stat().st_size}"


def _identity_of_url(path: str | None, base_url: str) -> str:
    try:
        return _identity(local.model_path(path))
    except Exception:  # noqa: BLE001 - no file here: the server is all that is known
        return f"local@{base_url}"
