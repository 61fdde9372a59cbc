"""Every other provider, through LiteLLM: imported when first needed, and without its network fetch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from dspex_nb.clients.faults import error_for
from dspex_nb.clients.flights import until_done
from dspex_nb.clients.settings import secret_words
from dspex_nb.errors import Cancelled, LMConnectionError, LMError, LMTimeoutError, MissingDependencyError
from dspex_nb.messages import Capabilities
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import redact

_NO_KEY = re.compile(
    r"missing (credentials|.{0,20}api.?key)|api.?key.{0,40}(must be set|not set|missing|is required)", re.IGNORECASE
)


def load() -> Any:
    """Import LiteLLM with its own price list: fetching the newest costs about 5 s offline."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise MissingDependencyError(
            "this model is served through LiteLLM, which is not installed", hint="pip install litellm"
        ) from error
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


def known_providers() -> frozenset[str]:
    """Return the provider names LiteLLM knows."""
    return frozenset(str(getattr(name, "value", name)) for name in load().provider_list)


def capabilities_of(model: str) -> Capabilities:
    """Say what LiteLLM's table knows of a model."""
    litellm = load()
    with contextlib.suppress(Exception):  # a model its table lacks
        params = litellm.get_supported_openai_params(model=model) or ()
        return Capabilities(
            bool(litellm.supports_response_schema(model=model)),
            bool(litellm.supports_function_calling(model=model)),
            bool(litellm.supports_reasoning(model=model)),
            frozenset(params),
        )
    return Capabilities()


class LiteLLMWire:
    """Asks through `litellm.completion` (or `embedding`, `rerank`: its `function`); its own retries and cache stay off."""

    native_n = True

    def __init__(self, model: str, *, credentials: Mapping[str, Any], key_env: str, function: str = "completion") -> None:
        self._model, self._credentials, self._key_env, self._function = model, dict(credentials), key_env, function

    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask in a thread of its own, so that a stop leaves it behind at once: LiteLLM cannot be broken off."""
        outcome: Future[Any] = Future()

        def work() -> None:
            try:
                outcome.set_result(getattr(load(), self._function)(**self._arguments(body, timeout_s)))
            except BaseException as error:  # noqa: BLE001 - handed to the waiting caller
                outcome.set_exception(error)

        threading.Thread(target=work, name="dspex-litellm", daemon=True).start()
        until_done(outcome, cancel)
        with self._translated():
            return _plain(outcome.result())

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask on the running loop."""
        litellm = await asyncio.to_thread(load)
        loop = asyncio.get_running_loop()
        task: asyncio.Future[Any] = asyncio.ensure_future(
            getattr(litellm, f"a{self._function}")(**self._arguments(body, timeout_s))
        )

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        unregister = cancel.on_cancel(stop)
        try:
            with self._translated():
                return _plain(await task)
        except asyncio.CancelledError:
            cancel.check()
            raise
        finally:
            unregister()

    def stream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Iterator[Mapping[str, Any]]:
        """Ask and yield the chunks as they come."""
        with self._translated():
            for chunk in load().completion(**self._arguments({**body, "stream": True}, timeout_s)):
                cancel.check()
                yield chunk.model_dump()

    async def astream(
        self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Ask and yield the chunks on the running loop."""
        litellm = await asyncio.to_thread(load)
        with self._translated():
            async for chunk in await litellm.acompletion(**self._arguments({**body, "stream": True}, timeout_s)):
                cancel.check()
                yield chunk.model_dump()

    def missing_key(self) -> str:
        """Nothing: LiteLLM knows what each of its providers needs, and says so at the first call."""
        return ""

    def warm_up(self) -> None:
        """Import LiteLLM, which takes seconds."""
        load()

    def close(self) -> None:
        """Nothing is held."""

    def secrets(self) -> tuple[str, ...]:
        """Return what no text may show."""
        return secret_words(self._credentials, os.environ.get(self._key_env))

    def _arguments(self, body: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        return {
            "model": self._model,
            **body,
            **self._credentials,
            "timeout": timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
        }

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (LMError, Cancelled, MissingDependencyError):
            raise
        except Exception as error:  # noqa: BLE001 - LiteLLM raises many kinds; all become ours
            raise self._error(error) from None  # LiteLLM's own traceback may quote request headers

    def _error(self, error: Exception) -> Exception:
        said = redact(str(error), self.secrets()).partition("Traceback (most recent")[0].strip()
        name = type(error).__name__
        no_key = _NO_KEY.search(said) is not None
        if "Timeout" in name:
            return LMTimeoutError(f"{self._model}: {said}", hint="raise timeout_s, or run again", model=self._model)
        if "Connection" in name and not no_key:
            return LMConnectionError(
                f"{self._model}: {said}", hint="check the network and api_base, then run again", model=self._model
            )
        status = getattr(error, "status_code", None)
        if no_key:
            status = 401  # LiteLLM reports some providers' missing keys as a server's or network's failure: to be tried again
        if not isinstance(status, int):
            return LMError(f"{self._model}: {name}: {said}", hint="see the provider's message", model=self._model)
        return error_for(status, said, where="LiteLLM", model=self._model, key_env=self._key_env, code=str(error))


def _plain(answer: Any) -> Mapping[str, Any]:
    """LiteLLM's object as plain JSON, with the price it worked out under `dspex_cost`."""
    data: dict[str, Any] = answer.model_dump()
    cost = (getattr(answer, "_hidden_params", None) or {}).get("response_cost")
    return {**data, "dspex_cost": cost} if cost else data
