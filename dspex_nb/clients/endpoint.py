"""The model's server as a client sees it: asked in turn, within limits and a budget, and again after a failure that passes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from dspex_nb.ambient import BOOK, home
from dspex_nb.clients.answers import read_answer
from dspex_nb.clients.calls import Call, tokens_written
from dspex_nb.clients.circuit import circuit_of
from dspex_nb.clients.faults import invalid_response
from dspex_nb.clients.prices import Pricing
from dspex_nb.clients.retries import RetryPolicy
from dspex_nb.clients.settings import Settings
from dspex_nb.clients.wires import Wire
from dspex_nb.errors import LMError, LMInvalidResponseError, LMNotConfiguredError, LMRateLimitError
from dspex_nb.leases import Account, account_of, book_at
from dspex_nb.messages import Response
from dspex_nb.scopes import Scope
from dspex_nb.transport import Slot, Start, asleep, limiter_of

NO_FORM = (KeyError, TypeError, AttributeError, ValueError)  # what reading raises where a server's JSON has another shape
_USUAL_ANSWER = 1000  # tokens set aside under a budget where max_tokens does not say


class Endpoint:
    """One model at one server: its limits, its circuit breaker, its retries and its prices.

    Attributes:
        model: The model string.
        provider: `"local"`, `"openai"`, …, or `"custom"` for a server behind `api_base`.
        identity: The model and server as a cache key names them.
        settings: Retries, limits, timeout, caching.
    """

    def __init__(
        self, model: str, wire: Wire, *, provider: str, identity: str, settings: Settings, credentials: Mapping[str, Any],
        price_zero: bool, seeded: bool, shared: bool,
    ) -> None:  # fmt: skip
        self.model, self.provider, self.identity, self.settings = model, provider, identity, settings
        self._wire, self._credentials, self._seeded = wire, dict(credentials), seeded
        self._price = Pricing(model, url=self._address, given=settings.price, free=price_zero)
        # The account at the server is what has limits and what fails, not this object: a cell that is run again makes a new one.
        account = (identity, hash(repr(self._credentials))) if shared else (id(self),)
        self._limiter = limiter_of(
            account, settings.max_concurrency, settings.rpm, settings.tpm, self._account() if shared else None
        )
        self._circuit = circuit_of(account)
        self._retries = RetryPolicy(settings.num_retries)

    async def _aask(self, call: Call, scope: Scope) -> Response:
        if scope.admit is not None:
            scope.admit()
        body = self._body(call)
        for attempt in itertools.count():
            try:
                async with self._turn(call, scope) as start:
                    self._admit(attempt)
                    answer = await self._wire.acall(body, timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                    return self._answered(start, self._read(answer))
            except LMError as error:
                await asleep(self._wait_s(error, attempt), scope.cancel)
        raise AssertionError("unreachable")

    def _account(self) -> Account:
        settings = self.settings
        return account_of(
            book_at(home() / BOOK), f"{self.identity}\0{sorted(self._credentials.items())!r}",
            seats=settings.max_concurrency if settings.across_processes else None, rpm=settings.rpm, tpm=settings.tpm,
        )  # fmt: skip

    def _turn(self, call: Call, scope: Scope) -> Slot:
        return self._limiter.slot(scope.cancel, self._tokens(call), lambda: self._most(call))

    def _most(self, call: Call) -> float:
        """Return what a call may cost; asked only under a budget, which cannot be kept where that is unknown."""
        options = call.request.options
        longest = int(options.get("max_tokens") or options.get("max_completion_tokens") or _USUAL_ANSWER)
        cost = self._price.most(tokens_written(call.request), longest * int(options.get("n") or 1))
        if cost is None:
            raise LMNotConfiguredError(
                f"the price of {self.model} is unknown, so no budget can be kept",
                hint="say it, price={'input': 0.15, 'output': 0.6} (dollars a million tokens), or dx.configure(budget=None)",
                model=self.model,
            )
        return cost

    def _address(self) -> str:
        return str(getattr(self._wire, "url", ""))  # LiteLLM's has none: it goes to the provider's own server

    def _admit(self, attempt: int) -> None:
        if self._circuit.opened and not attempt:  # a call that was let in may finish its retries
            self._circuit.enter(self.model)

    def _answered(self, start: Start | None, response: Response) -> Response:
        if self._circuit.failures:
            self._circuit.succeed()
        if start is not None:
            start.cost = response.cost
            if response.usage.total_tokens:
                start.tokens = response.usage.total_tokens
        elif response.cost:
            self._limiter.paid(response.cost)
        return response

    def _wait_s(self, error: LMError, attempt: int, *, begun: bool = False) -> float:
        """Return the seconds to wait before asking again; raises the error itself where that is over."""
        error.model = error.model or self.model
        self._circuit.fail(error)
        wait_s = None if begun else self._retries.wait_s(error, attempt)
        if wait_s is None:
            if attempt:
                error.message = f"{error.message} (after {attempt + 1} attempts)"
                error.args = (error.message,)
            raise error
        if isinstance(error, LMRateLimitError):
            self._limiter.pause(wait_s)
        return wait_s

    def _body(self, call: Call) -> dict[str, Any]:
        body: dict[str, Any] = {"messages": list(call.request.messages), **call.request.options}
        if self._seeded and call.cache is not None and body.get("temperature", 0) and "seed" not in body:
            # A cached call is answered once for ever, so it may as well be the same on every machine; rollouts differ by key.
            body["seed"] = int(call.key[:8], 16) & 0x7FFFFFFF
        return body

    def _tokens(self, call: Call) -> int:
        if self.settings.tpm is None:
            return 0
        return tokens_written(call.request) + int(call.request.options.get("max_tokens") or 0)

    def _read(self, answer: Mapping[str, Any]) -> Response:
        try:
            return read_answer(answer, self.model, self._price)
        except NO_FORM as error:
            raise self._no_form(answer, "the answer is not a chat completion") from error

    def _no_form(self, found: Any, what: str) -> LMInvalidResponseError:
        text = json.dumps(found, default=str)
        return invalid_response(self._address() or f"https://{self.provider}", text, self.model, what, self._wire.secrets())
