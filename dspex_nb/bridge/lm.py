"""`BridgeLM`: DSPy's calls go through our client, so that one cache, one limit and one event log serve both engines.

It overrides `__call__`/`acall` and not `forward`: below them DSPy has already dropped the rollout, and requests that are to
differ (BestOfN, Refine, bootstrap rounds) would reach the cache as one. DSPy's own cache and retries are off: the client has
its own, and two of each would multiply.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import dspy
from dspy.utils.callback import with_callbacks

from dspex_nb.adapters.schemas import strict
from dspex_nb.bridge.errors import as_dspy
from dspex_nb.errors import Cancelled, LMError, LMInvalidRequestError
from dspex_nb.events import Bus
from dspex_nb.messages import Message, Output, Request, Response, Usage
from dspex_nb.scopes import Scope, new_run_id

_NOT_SENT = {"cache", "rollout_id", "n", "num_generations", "num_retries", "prompt_cache"}
_CANDIDATES_AT_ONCE = 8


class Stopped(BaseException):
    """The user stopped the run; raised through DSPy, which lets only a BaseException pass."""


class Ledger:
    """What the calls of a `BridgeLM` and its copies took, from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.cached: str | None = None

    def add(self, response: Response) -> None:
        """Add one response. The cost is unknown as soon as one call's is; `cached` names a tier only while all were hits."""
        with self._lock:
            first = not (self.usage.calls or self.usage.cache_hits)
            self.cached = response.cached if first or self.cached else None
            self.usage += response.usage
            if response.cached is None:
                self.cost = None if self.cost is None or response.cost is None else self.cost + response.cost


class BridgeLM(dspy.BaseLM):  # type: ignore[misc]
    """Our client as DSPy's LM.

    Args:
        client: A `clients.Client`.
        scope: The run its calls belong to; a stop there ends DSPy with `Stopped`.
        cache: Our cache, or None.
        where: Says what the current call serves: the scope with its trial and example.
        options: Model options for every call, over the client's defaults.

    `copy(rollout_id=…, temperature=…)` shares client, scope, cache and ledger.
    """

    def __init__(
        self,
        client: Any,
        *,
        scope: Scope | None = None,
        cache: Any = None,
        where: Callable[[Scope], Scope] | None = None,
        callbacks: list[Any] | None = None,
        **options: Any,
    ) -> None:
        merged = {**dict(getattr(client, "options", None) or {}), **options}
        shown = {key: merged[key] for key in ("temperature", "max_tokens", "reasoning_effort") if key in merged}
        model_type = getattr(client, "model_type", "chat")
        super().__init__(
            model=client.model, model_type=model_type, cache=False, num_retries=0, callbacks=callbacks, **{**options, **shown}
        )
        self._client, self._response_cache = client, cache
        self._scope = scope or Scope(run_id=new_run_id(), bus=Bus(keep=0))
        self._where = where
        self.ledger = Ledger()

    # What the server can do decides DSPy's prompts; unknown would mean "nothing" and other prompts than the native engine's.
    @property
    def supports_function_calling(self) -> bool:
        """Whether the server takes `tools`."""
        return bool(self._client.capabilities.function_calling)

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model returns native reasoning."""
        return bool(self._client.capabilities.reasoning)

    @property
    def supports_response_schema(self) -> bool:
        """Whether the server takes a JSON schema as `response_format`."""
        return bool(self._client.capabilities.response_schema)

    @property
    def supported_params(self) -> set[str]:
        """Names of the request options the server takes."""
        return set(self._client.capabilities.params)

    @property
    def capabilities(self) -> Any:
        """The client's capabilities, as our adapters take them."""
        return self._client.capabilities

    @with_callbacks
    def __call__(self, prompt: Any = None, *, messages: Sequence[Message] | None = None, **kwargs: Any) -> list[Any]:
        """Complete; returns one text a candidate, or dicts where the model called tools or reasoned."""
        return self.complete(prompt, messages=messages, **kwargs)

    def complete(self, prompt: Any = None, *, messages: Sequence[Message] | None = None, **kwargs: Any) -> list[Any]:
        """Complete without telling DSPy's callbacks, which costs a third of a millisecond."""
        requests = self._requests(prompt, messages, kwargs)
        scope, cache = self._here(), self._cache_for(kwargs)
        try:
            scope.cancel.check()
            if len(requests) == 1:
                responses = [self._client.complete(requests[0], scope=scope, cache=cache)]
            else:
                responses = _at_once(lambda request: self._client.complete(request, scope=scope, cache=cache), requests)
        except Cancelled as stop:
            raise Stopped(str(stop)) from stop
        except LMError as error:
            raise as_dspy(error) from error.__cause__
        return self._finish(responses, prompt, messages, kwargs)

    @with_callbacks
    async def acall(self, prompt: Any = None, *, messages: Sequence[Message] | None = None, **kwargs: Any) -> list[Any]:
        """Complete without blocking the loop."""
        requests = self._requests(prompt, messages, kwargs)
        scope, cache = self._here(), self._cache_for(kwargs)
        try:
            scope.cancel.check()
            responses = await asyncio.gather(*(self._client.acomplete(request, scope=scope, cache=cache) for request in requests))
        except Cancelled as stop:
            raise Stopped(str(stop)) from stop
        except LMError as error:
            raise as_dspy(error) from error.__cause__
        return self._finish(responses, prompt, messages, kwargs)

    def __copy__(self) -> BridgeLM:
        # What `BaseLM.copy` starts from. Without it Python would copy through `__reduce__`, and lose run, cache and ledger.
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> BridgeLM:
        copied: BridgeLM = self.copy()
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # Sockets, locks and the run stay here: another process gets a client of its own, outside any run.
        return (_rebuild, (type(self._client), self._client.dump_state(), dict(self.kwargs)))

    def dump_state(self) -> dict[str, Any]:
        """Return a state that plain DSPy loads as its own LM; it holds no key and no address."""
        private = {"api_key", "api_base", "base_url", "rollout_id"}
        kept = {key: value for key, value in self.kwargs.items() if key not in private and value is not None}
        return {"_dspy_lm_class": "dspy.clients.lm.LM", "model": self.model, "model_type": "chat", "cache": True, **kept}

    def _here(self) -> Scope:
        return self._scope if self._where is None else self._where(self._scope)

    def _cache_for(self, kwargs: Mapping[str, Any]) -> Any:
        return None if kwargs.get("cache") is False else self._response_cache

    def _requests(self, prompt: Any, messages: Sequence[Message] | None, kwargs: Mapping[str, Any]) -> list[Request]:
        if messages is None and not isinstance(prompt, str):
            raise LMInvalidRequestError(
                f"this LM was called with a {type(prompt).__name__}; it takes a text or messages=",
                hint="call lm('…') or let a dspy module call it",
            )
        merged = {**self.kwargs, **kwargs}
        options = {key: value for key, value in merged.items() if key not in _NOT_SENT and value is not None}
        if "response_format" in options:
            options["response_format"] = _plain_format(options["response_format"])
        sent = list(messages) if messages is not None else [{"role": "user", "content": prompt}]
        count = merged.get("n") or merged.get("num_generations") or 1
        rollout = merged.get("rollout_id")
        return [Request(messages=sent, options=options, rollout=rollout, candidate=index) for index in range(count)]

    def _finish(
        self, responses: Sequence[Response], prompt: Any, messages: Sequence[Message] | None, kwargs: Mapping[str, Any]
    ) -> list[Any]:
        for response in responses:
            self.ledger.add(response)
        outputs = _as_dspy([output for response in responses for output in response.outputs])
        sent = [response.usage for response in responses if response.cached is None]
        usage = _usage_dict(sent[0] if len(sent) == 1 else sum(sent, Usage())) if sent else {}
        if usage and dspy.settings.usage_tracker:
            dspy.settings.usage_tracker.add_usage(self.model, usage)
        if not dspy.settings.disable_history:
            self.update_history(self._entry(responses, prompt, messages, kwargs, outputs, usage))
        return outputs

    def _entry(
        self,
        responses: Sequence[Response],
        prompt: Any,
        messages: Sequence[Message] | None,
        kwargs: Mapping[str, Any],
        outputs: list[Any],
        usage: dict[str, int],
    ) -> dict[str, Any]:
        first = responses[0]
        return {
            "prompt": prompt,
            "messages": messages,
            "kwargs": {key: value for key, value in kwargs.items() if not key.startswith("api_")},
            "response": SimpleNamespace(model=first.model, usage=usage, cache_hit=first.cached is not None, choices=outputs),
            "outputs": outputs,
            "usage": usage,
            "cost": first.cost if first.cached is None else None,
            "timestamp": dt.datetime.now(tz=dt.UTC).isoformat(),
            "uuid": str(uuid.UUID(int=_random.getrandbits(128), version=4)),  # uuid4 asks the system for its bits at every call
            "model": self.model,
            "response_model": first.model,
            "model_type": "chat",
        }


_random = random.Random()  # noqa: S311 - tells entries apart, guards nothing


def _at_once(complete: Callable[[Request], Response], requests: Sequence[Request]) -> list[Response]:
    """Ask for the candidates together; each thread sees the caller's context."""
    with ThreadPoolExecutor(min(len(requests), _CANDIDATES_AT_ONCE), thread_name_prefix="dspex-candidate") as pool:
        futures = [pool.submit(contextvars.copy_context().run, complete, request) for request in requests]
        return [future.result() for future in futures]


def _as_dspy(outputs: Sequence[Output]) -> list[Any]:
    shaped = [_output_dict(output) for output in outputs]
    return [item["text"] for item in shaped] if all(len(item) == 1 for item in shaped) else shaped


def _output_dict(output: Output) -> dict[str, Any]:
    item: dict[str, Any] = {"text": output.text}
    if output.reasoning:
        item["reasoning_content"] = output.reasoning
    if output.tool_calls:
        item["tool_calls"] = [dict(call) for call in output.tool_calls]
    return item


def _usage_dict(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _plain_format(wanted: Any) -> Any:
    """Write a response format given as a pydantic class (DSPy's JSONAdapter does) as OpenAI's JSON."""
    if isinstance(wanted, type) and hasattr(wanted, "model_json_schema"):
        plain = wanted.model_json_schema()
        schema = {"name": wanted.__name__, "schema": strict(plain, plain), "strict": True}  # as plain DSPy puts it on the wire
        return {"type": "json_schema", "json_schema": schema}
    return wanted


def _rebuild(client_class: Any, state: dict[str, Any], options: dict[str, Any]) -> BridgeLM:
    return BridgeLM(client_class.from_state(state), **options)
