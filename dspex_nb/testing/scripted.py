"""A language model whose answers are written beforehand: for tests of what is around the model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from dspex_nb.clients.client import Client
from dspex_nb.clients.settings import Settings
from dspex_nb.errors import LMInvalidRequestError, LMNotConfiguredError
from dspex_nb.messages import Capabilities, Request
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import asleep, sleep

Answer = str | Mapping[str, Any] | BaseException
"""An answer's text, a whole chat completion in OpenAI's JSON, or an error to raise."""

_REQUEST = "dspex_request"
_ALL = Capabilities(
    response_schema=True,
    function_calling=True,
    params=frozenset({"temperature", "max_tokens", "response_format", "tools", "n", "stop"}),
)


_STAYS = "a ScriptedLM answers in its own process only"


class ScriptedLM(Client):
    """A `Client` that answers from a script; cache, single flight, retries, limits and events are the real ones.

    Args:
        answers: Answers in order, or a function of the request.
        model: The model string it goes by.
        capabilities: What it says it can do.
        delay_s: How long each answer takes.
        **options: The fields of `Settings` (`num_retries` is 0 unless given), and defaults sent with every request.

    Attributes:
        requests: The requests sent so far, in order; what the cache served is not among them.
    """

    def __init__(
        self,
        answers: Iterable[Answer] | Callable[[Request], Answer] = (),
        *,
        model: str = "scripted/test",
        capabilities: Capabilities = _ALL,
        delay_s: float = 0.0,
        **options: Any,
    ) -> None:
        settings = {name: options.pop(name) for name in tuple(options) if name in Settings.__dataclass_fields__}
        wire = _ScriptedWire(answers, delay_s)
        super().__init__(
            model, wire, provider="scripted", identity=model, options=options, capabilities=capabilities, price_zero=True,
            settings=Settings(**{"num_retries": 0, **settings}), shared=False,
        )  # fmt: skip
        self.requests = wire.requests

    def __reduce__(self) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        """Stay here: what answers is of this process."""
        raise TypeError(_STAYS)

    @staticmethod
    def from_state(state: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> Client:  # noqa: ARG004 - the port's
        """Say, in a worker process, that it did not come along."""
        raise LMNotConfiguredError(_STAYS, hint="ask it in this process, or in a pool with backend='thread'")

    def _body(self, call: Any) -> dict[str, Any]:
        return {**super()._body(call), _REQUEST: call.request}


class _ScriptedWire:
    native_n = True

    def __init__(self, answers: Iterable[Answer] | Callable[[Request], Answer], delay_s: float) -> None:
        self._answer: Callable[[Request], Answer] = answers if callable(answers) else self._next
        self._script = iter(()) if callable(answers) else iter(answers)
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.requests: list[Request] = []

    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        del timeout_s
        if self._delay_s:
            sleep(self._delay_s, cancel)
        return self._completion(body)

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        del timeout_s
        await (asleep(self._delay_s, cancel) if self._delay_s else asyncio.sleep(0))
        if self._answer == self._next:
            return self._completion(body)
        return await asyncio.to_thread(self._completion, body)  # a function may block, and must not hold the loop

    def stream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Iterator[Mapping[str, Any]]:
        yield from _chunks(self.call(body, timeout_s=timeout_s, cancel=cancel))

    async def astream(
        self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken
    ) -> AsyncIterator[Mapping[str, Any]]:
        for chunk in _chunks(await self.acall(body, timeout_s=timeout_s, cancel=cancel)):
            yield chunk

    def missing_key(self) -> str:
        return ""

    def warm_up(self) -> None:
        """It is ready."""

    def secrets(self) -> tuple[str, ...]:
        """It has none."""
        return ()

    def close(self) -> None:
        """It holds nothing."""

    def _completion(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        request: Request = body[_REQUEST]
        with self._lock:  # answers in order means one at a time
            self.requests.append(request)
            answer = self._answer(request)
        if isinstance(answer, BaseException):
            raise answer
        if not isinstance(answer, str):
            return answer
        prompt = sum(len(str(message.get("content", "")).split()) for message in request.messages)
        choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        count = int(request.options.get("n") or 1)
        return {
            "choices": [{"index": index, **choice} for index in range(count)],
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(answer.split())},
        }

    def _next(self, request: Request) -> Answer:
        try:
            return next(self._script)
        except StopIteration:
            last = request.messages[-1].get("content", "") if request.messages else ""
            raise LMInvalidRequestError(
                f"the script has no answer left for request {len(self.requests)}, which ends {str(last)[-80:]!r}",
                hint="give ScriptedLM more answers, or a function",
            ) from None


def _chunks(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Split an answer as servers do: a word at a time, then the reason and the usage."""
    choice = answer["choices"][0]
    if reasoning := choice["message"].get("reasoning_content"):
        yield {"choices": [{"delta": {"reasoning_content": reasoning}}]}
    words = str(choice["message"].get("content") or "").split(" ")
    for index, word in enumerate(words):
        yield {"choices": [{"delta": {"content": word if index == 0 else f" {word}"}}]}
    yield {"choices": [{"delta": {}, "finish_reason": choice.get("finish_reason")}], "usage": answer.get("usage")}
