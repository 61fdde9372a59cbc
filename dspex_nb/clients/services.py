"""`Service`: a model asked for what is no chat (embeddings, reranking), with the limits, retries and errors of a client."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any, Protocol

from dspex_nb.clients import litellm
from dspex_nb.clients.posting import HTTPWire
from dspex_nb.clients.prices import Pricing
from dspex_nb.clients.retries import RetryPolicy
from dspex_nb.clients.settings import Settings, without_secrets
from dspex_nb.clients.targets import resolve
from dspex_nb.clients.vectors import EmbeddingsDialect, RerankDialect
from dspex_nb.errors import LMError, LMRateLimitError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import asleep, limiter_of, sleep, without_userinfo

_DIALECTS = {"embedding": EmbeddingsDialect, "rerank": RerankDialect}
_CONCURRENCY = 16


class _Asked(Protocol):
    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]: ...

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]: ...


class Service:
    """Asks one model of one server; made by `serve`, safe to use from threads and tasks at once.

    Attributes:
        model: The model string.
        identity: What answers: the model, and the server where one was given. Part of cache keys.
        options: Sent with every request.
        price: What an answer cost, by what it used.
    """

    def __init__(
        self,
        model: str,
        wire: _Asked,
        *,
        identity: str,
        options: Mapping[str, Any],
        settings: Settings,
        hidden: Any,
        price: Pricing,
    ) -> None:
        self.model, self.identity, self.options, self.price = model, identity, dict(options), price
        self._wire, self._settings, self._retries = wire, settings, RetryPolicy(settings.num_retries)
        account = (identity, hash(repr(hidden)))
        self._limiter = limiter_of(account, settings.max_concurrency, settings.rpm, settings.tpm)

    def ask(self, body: Mapping[str, Any], *, cancel: CancelToken, tokens: int = 0) -> Mapping[str, Any]:
        """Ask and wait in this thread; `tokens` is about how many it will use.

        Raises:
            LMError: One of its kinds, after the retries it allows.
            Cancelled: It was stopped.
        """
        for attempt in itertools.count():
            try:
                with self._limiter.slot(cancel, tokens):
                    return self._wire.call({**body, **self.options}, timeout_s=self._settings.timeout_s, cancel=cancel)
            except LMError as error:
                sleep(self._wait_s(error, attempt), cancel)
        raise AssertionError("unreachable")

    async def aask(self, body: Mapping[str, Any], *, cancel: CancelToken, tokens: int = 0) -> Mapping[str, Any]:
        """Ask on the running loop; otherwise as `ask`."""
        for attempt in itertools.count():
            try:
                async with self._limiter.slot(cancel, tokens):
                    return await self._wire.acall({**body, **self.options}, timeout_s=self._settings.timeout_s, cancel=cancel)
            except LMError as error:
                await asleep(self._wait_s(error, attempt), cancel)
        raise AssertionError("unreachable")

    def _wait_s(self, error: LMError, attempt: int) -> float:
        error.model = error.model or self.model
        wait_s = self._retries.wait_s(error, attempt)
        if wait_s is None:
            raise error
        if isinstance(error, LMRateLimitError):
            self._limiter.pause(wait_s)
        return wait_s


def serve(model: str, task: str, *, api_base: str | None = None, **options: Any) -> Service:
    """Return the service of a model string.

    Args:
        model: `"provider/model"`, or any name together with `api_base`. Servers that speak OpenAI's API are asked over HTTP,
            every other provider through LiteLLM.
        task: `"embedding"` or `"rerank"`.
        api_base: Address of a server of one's own.
        **options: `api_key`, `headers`; the fields of `Settings`; anything else is sent.

    Raises:
        LMNotConfiguredError: The string names nothing known, or a setting is impossible.
    """
    given = {name: options.pop(name) for name in tuple(options) if name in Settings.__dataclass_fields__}
    target = resolve(model, api_base)
    settings = Settings(**{"max_concurrency": _CONCURRENCY, **given})
    shown, hidden = without_secrets(options)
    bare = without_userinfo(api_base) if api_base else ""
    # OpenAI itself and its like have no rerank API: those that have one and no address given are LiteLLM's.
    direct = target.direct and target.dialect == "chat" and (task == "embedding" or target.provider == "custom")
    wire: _Asked
    if direct:
        wire = HTTPWire(
            _DIALECTS[task](), target.url.removesuffix("/embeddings").removesuffix("/rerank"), target.name,
            key=lambda: hidden.get("api_key") or next((key for env in target.key_envs if (key := os.environ.get(env))), None),
            key_env=next(iter(target.key_envs), ""), headers=hidden.get("headers"),
        )  # fmt: skip
    else:
        credentials = {**hidden, **({"api_base": api_base} if api_base else {})}
        wire = litellm.LiteLLMWire(model, credentials=credentials, key_env=next(iter(target.key_envs), ""), function=task)
    identity = "@".join(part for part in (task, model, bare) if part)
    price = Pricing(model, url=lambda: target.url if direct else "", given=settings.price)
    return Service(model, wire, identity=identity, options=shown, settings=settings, hidden=hidden, price=price)
