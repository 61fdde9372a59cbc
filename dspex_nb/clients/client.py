"""The client: one model, asked through cache, single flight, limits and retries; every call is published as an event."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from dspex_nb.cache import Cache, request_key
from dspex_nb.clients.answers import Gathered, as_shared, from_record, merged, read_answer, to_record
from dspex_nb.clients.circuit import circuit_of
from dspex_nb.clients.faults import invalid_response
from dspex_nb.clients.flights import Flight, Flights, await_, wait
from dspex_nb.clients.prices import Pricing
from dspex_nb.clients.retries import RetryPolicy
from dspex_nb.clients.settings import Settings, without_secrets
from dspex_nb.clients.wires import Wire
from dspex_nb.errors import Cancelled, LMError, LMInvalidRequestError, LMInvalidResponseError, LMRateLimitError, NotSent
from dspex_nb.events import LMCalled
from dspex_nb.messages import Capabilities, Delta, Request, Response, Usage
from dspex_nb.scopes import Scope
from dspex_nb.transport import Start, asleep, limiter_of, sleep

_PAGE = 4000  # characters
_NO_FORM = (KeyError, TypeError, AttributeError, ValueError)  # what reading raises where a server's JSON has another shape

_OURS = frozenset({"cache", "ttl_s"})  # options of a call that say how it is kept and are never sent


@dataclass(slots=True)  # not frozen: that would triple what making one costs, at every call
class _Call:
    """One request on its way: merged with the client's options, with its key, and the cache if it may be used.

    A study's call keeps its prompt beside the answer, for its dashboard to show.
    """

    request: Request
    key: str
    cache: Cache | None
    ttl_s: float | None
    started: float
    keeps_prompt: bool = False


class Client:
    """Asks one model. Made by `connect`; safe to use from threads and tasks at once.

    Attributes:
        model: The model string.
        options: Defaults sent with every request; a request's own options win.
        capabilities: What the model's server can do.
        provider: `"local"`, `"openai"`, …, or `"custom"` for a server behind `api_base`.
        default_adapter: `"compact"` for the embedded model, else `"chat"`.
        settings: Retries, limits, timeout, caching.
    """

    def __init__(
        self, model: str, wire: Wire, *, provider: str, identity: str, options: Mapping[str, Any], settings: Settings,
        capabilities: Capabilities, price_zero: bool = False, seeded: bool = False, origin: Mapping[str, Any] | None = None,
        credentials: Mapping[str, Any] | None = None, shared: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.provider, self.identity = model, provider, identity
        shown, hidden = without_secrets(options)
        self.options, self.settings, self.capabilities = shown, settings, capabilities
        self.default_adapter = "compact" if provider == "local" else "chat"
        self._wire, self._origin, self._credentials = wire, dict(origin or {}), {**hidden, **(credentials or {})}
        self._seeded = seeded
        self._price = Pricing(model, url=self._address, given=settings.price, free=price_zero)
        # The account at the server is what has limits and what fails, not this object: a cell that is run again makes a new one.
        account = (identity, hash(repr(self._credentials))) if shared else (id(self),)
        self._limiter = limiter_of(account, settings.max_concurrency, settings.rpm, settings.tpm)
        self._circuit = circuit_of(account)
        self._retries = RetryPolicy(settings.num_retries)
        self._flights, self._flights_pid = Flights(), os.getpid()

    @property
    def model_type(self) -> str:
        """`"chat"`, or `"responses"` for OpenAI's other API; what a reasoning model is asked for depends on it."""
        return str(self._origin.get("model_type", "chat"))

    def complete(self, request: Request, *, scope: Scope, cache: Cache | None = None, ttl_s: float | None = None) -> Response:
        """Ask, blocking this thread.

        Args:
            request: Messages and options; options the client sets by default may be left out. Two are not sent: `cache`
                (False asks anew and keeps nothing; True goes before the client's own `cache=False`) and `ttl_s` (how many
                seconds this answer is kept; it goes before the argument).
            scope: The run it belongs to: its stop breaks the call off, its bus receives `LMCalled`.
            cache: Looked into first and given the answer before it is returned; None asks anew.
            ttl_s: How long this answer is kept.

        Raises:
            LMError: One of its kinds, after the retries it allows.
            Cancelled: The scope was stopped.
        """
        if self._must_split(request):
            return merged([self.complete(one, scope=scope, cache=cache, ttl_s=ttl_s) for one in self._split(request)])
        call = self._call(request, cache, ttl_s, scope)
        try:
            scope.cancel.check()
            response = self._from_cache(call) or self._through_flight(call, scope)
        except BaseException as error:
            self._publish(call, scope, None, error)
            raise
        return self._publish(call, scope, response)

    async def acomplete(
        self, request: Request, *, scope: Scope, cache: Cache | None = None, ttl_s: float | None = None
    ) -> Response:
        """Ask on the running loop; otherwise as `complete`."""
        if self._must_split(request):
            return merged([await self.acomplete(one, scope=scope, cache=cache, ttl_s=ttl_s) for one in self._split(request)])
        call = self._call(request, cache, ttl_s, scope)
        try:
            scope.cancel.check()
            response = self._from_cache(call) or await self._athrough_flight(call, scope)
        except BaseException as error:
            self._publish(call, scope, None, error)
            raise
        return self._publish(call, scope, response)

    def stream(self, request: Request, *, scope: Scope, cache: Cache | None = None) -> Iterator[str]:
        """Ask and yield the text as it comes; a cached answer comes in one piece. Retries only before the first piece."""
        for piece in self.deltas(request, scope=scope, cache=cache):
            if isinstance(piece, Delta) and piece.text:
                yield piece.text

    async def astream(self, request: Request, *, scope: Scope, cache: Cache | None = None) -> AsyncIterator[str]:
        """Ask and yield the text on the running loop; otherwise as `stream`."""
        async with aclosing(self.adeltas(request, scope=scope, cache=cache)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta) and piece.text:
                    yield piece.text

    def deltas(self, request: Request, *, scope: Scope, cache: Cache | None = None) -> Generator[Delta | Response, None, None]:
        """Ask and yield text and reasoning as they come, last the whole response. Leaving the iterator closes the socket."""
        call = self._call(request, cache, None, scope)
        try:
            scope.cancel.check()
            response = self._from_cache(call)
            if response is not None:
                yield _in_one_piece(response)
            else:
                for attempt in itertools.count():
                    gathered = Gathered()  # what a broken attempt brought unseen is not this one's
                    try:
                        with self._limiter.slot(scope.cancel, self._tokens(call)) as start:
                            self._admit(attempt)
                            for chunk in self._wire.stream(
                                self._body(call), timeout_s=self.settings.timeout_s, cancel=scope.cancel
                            ):
                                if delta := self._add(gathered, chunk):
                                    yield delta
                        break
                    except LMError as error:
                        sleep(self._wait_s(error, attempt, begun=gathered.begun), scope.cancel)
                response = self._keep(call, self._answered(start, self._gathered(gathered)))
        except BaseException as error:
            self._publish(call, scope, None, _said(error))
            raise
        yield self._publish(call, scope, response)

    async def adeltas(
        self, request: Request, *, scope: Scope, cache: Cache | None = None
    ) -> AsyncGenerator[Delta | Response, None]:
        """Ask and yield on the running loop; otherwise as `deltas`."""
        call = self._call(request, cache, None, scope)
        try:
            scope.cancel.check()
            response = self._from_cache(call)
            if response is not None:
                yield _in_one_piece(response)
            else:
                for attempt in itertools.count():
                    gathered = Gathered()  # what a broken attempt brought unseen is not this one's
                    try:
                        asked = self._wire.astream(self._body(call), timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                        # Closed here and now: a generator left to the collector would hold its socket until the loop turns.
                        async with self._limiter.slot(scope.cancel, self._tokens(call)) as start, aclosing(asked) as chunks:  # type: ignore[type-var]
                            self._admit(attempt)
                            async for chunk in chunks:
                                if delta := self._add(gathered, chunk):
                                    yield delta
                        break
                    except LMError as error:
                        await asleep(self._wait_s(error, attempt, begun=gathered.begun), scope.cancel)
                response = self._keep(call, self._answered(start, self._gathered(gathered)))
        except BaseException as error:
            self._publish(call, scope, None, _said(error))
            raise
        yield self._publish(call, scope, response)

    def key(self, request: Request) -> str:
        """Return the cache key of a request to this model."""
        return request_key(self.identity, self._merged(request))

    def warm_up(self) -> None:
        """Make ready what the first call would wait for: the embedded model is loaded."""
        self._wire.warm_up()

    def missing_key(self) -> str:
        """Return the variable that should hold the key and does not; empty where a key is there or none is needed."""
        return self._wire.missing_key()

    def dump_state(self) -> dict[str, Any]:
        """Return what rebuilds this client in another process, as JSON without any key.

        For the embedded model the server is started if need be, and the other process uses it by URL.
        """
        state = {"model": self.model, "options": dict(self.options), "settings": asdict(self.settings), **self._origin}
        if self.provider == "local":
            state |= {"base_url": self._wire.url.removesuffix("/chat/completions"), "identity": self.identity}  # type: ignore[attr-defined]
        return state

    def secrets(self) -> dict[str, Any]:
        """Return what was given as an argument and must stay out of `dump_state`; hand it over a pipe, never to a file."""
        return dict(self._credentials)

    @staticmethod
    def from_state(state: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> Client:
        """Rebuild a client from `dump_state` and, where keys came as arguments, `secrets`; others come from the environment."""
        from dspex_nb.clients.connecting import from_state

        return from_state(state, secrets)

    def close(self) -> None:
        """Let go of what this client alone holds; the embedded server, which others share, ends with the process."""
        self._wire.close()

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"LM({self.model!r}{shown})"

    # One call, step by step

    def _call(self, request: Request, cache: Cache | None, ttl_s: float | None, scope: Scope) -> _Call:
        started = time.perf_counter()
        wanted, own_ttl_s = request.options.get("cache"), request.options.get("ttl_s")
        request = self._merged(request)
        usable = cache if (self.settings.cache if wanted is None else wanted) else None
        ttl_s = _checked_ttl(own_ttl_s) if own_ttl_s is not None else ttl_s
        key = request_key(self.identity, request) if usable is not None else ""  # kept nowhere, found nowhere
        return _Call(request, key, usable, self.settings.ttl_s if ttl_s is None else ttl_s, started, scope.trial is not None)

    def _merged(self, request: Request) -> Request:
        if not self.options and not request.options:
            return request
        options = {
            name: value for name, value in {**self.options, **request.options}.items() if value is not None and name not in _OURS
        }
        if options.get("n") == 1:
            del options["n"]  # one is what everybody means; two spellings would be two keys
        shape = options.get("response_format")
        if isinstance(shape, type):
            options["response_format"] = _schema_of(shape)
        return Request(request.messages, options, request.rollout, request.candidate)

    def _from_cache(self, call: _Call, *, again: bool = False) -> Response | None:
        if call.cache is None:
            return None
        hit = call.cache.get(call.key, again=again)
        if hit is None:
            return None
        try:
            return from_record(hit.value, self.model, hit.tier, time.perf_counter() - call.started)
        except (KeyError, TypeError):  # another version's record
            return None

    def _through_flight(self, call: _Call, scope: Scope) -> Response:
        if call.cache is None:
            return self._ask(call, scope)
        while True:
            flight, leads = self._all_flights().join(call.key, on_loop=False)
            if flight is None:
                return self._keep(call, self._ask(call, scope))
            if leads:
                try:
                    response = self._from_cache(call, again=True) or self._keep(call, self._ask(call, scope))
                except BaseException as error:
                    self._land(call, flight, None, error)
                    raise
                self._land(call, flight, response)
                return response
            shared = wait(flight, scope.cancel)
            if shared is not None:
                return as_shared(shared)

    async def _athrough_flight(self, call: _Call, scope: Scope) -> Response:
        if call.cache is None:
            return await self._aask(call, scope)
        while True:
            flight, leads = self._all_flights().join(call.key, on_loop=True)
            if flight is None:
                return self._keep(call, await self._aask(call, scope))
            if leads:
                try:
                    response = self._from_cache(call, again=True) or self._keep(call, await self._aask(call, scope))
                except BaseException as error:
                    self._land(call, flight, None, error)
                    raise
                self._land(call, flight, response)
                return response
            shared = await await_(flight, scope.cancel)
            if shared is not None:
                return as_shared(shared)

    def _ask(self, call: _Call, scope: Scope) -> Response:
        if scope.admit is not None:
            scope.admit()
        body = self._body(call)
        for attempt in itertools.count():
            try:
                with self._limiter.slot(scope.cancel, self._tokens(call)) as start:
                    self._admit(attempt)
                    answer = self._wire.call(body, timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                    return self._answered(start, self._read(answer))
            except LMError as error:
                sleep(self._wait_s(error, attempt), scope.cancel)
        raise AssertionError("unreachable")

    async def _aask(self, call: _Call, scope: Scope) -> Response:
        if scope.admit is not None:
            scope.admit()
        body = self._body(call)
        for attempt in itertools.count():
            try:
                async with self._limiter.slot(scope.cancel, self._tokens(call)) as start:
                    self._admit(attempt)
                    answer = await self._wire.acall(body, timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                    return self._answered(start, self._read(answer))
            except LMError as error:
                await asleep(self._wait_s(error, attempt), scope.cancel)
        raise AssertionError("unreachable")

    def _address(self) -> str:
        return str(getattr(self._wire, "url", ""))  # LiteLLM's has none: it goes to the provider's own server

    def _admit(self, attempt: int) -> None:
        if self._circuit.opened and not attempt:  # a call that was let in may finish its retries
            self._circuit.enter(self.model)

    def _answered(self, start: Start | None, response: Response) -> Response:
        if self._circuit.failures:
            self._circuit.succeed()
        if start is not None and response.usage.total_tokens:
            start.tokens = response.usage.total_tokens
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

    def _body(self, call: _Call) -> dict[str, Any]:
        body: dict[str, Any] = {"messages": list(call.request.messages), **call.request.options}
        if self._seeded and call.cache is not None and body.get("temperature", 0) and "seed" not in body:
            # A cached call is answered once for ever, so it may as well be the same on every machine; rollouts differ by key.
            body["seed"] = int(call.key[:8], 16) & 0x7FFFFFFF
        return body

    def _tokens(self, call: _Call) -> int:
        if self.settings.tpm is None:
            return 0
        written = sum(_length(message.get("content")) for message in call.request.messages)
        return written // 4 + int(call.request.options.get("max_tokens") or 0)

    def _read(self, answer: Mapping[str, Any]) -> Response:
        try:
            return read_answer(answer, self.model, self._price)
        except _NO_FORM as error:
            raise self._no_form(answer, "the answer is not a chat completion") from error

    def _add(self, gathered: Gathered, chunk: Mapping[str, Any]) -> Delta:
        try:
            return gathered.add(chunk)
        except _NO_FORM as error:
            raise self._no_form(chunk, "the stream holds a piece that is not a chat completion's") from error

    def _gathered(self, gathered: Gathered) -> Response:
        try:
            return gathered.response(self.model, self._price)
        except _NO_FORM as error:
            raise self._no_form(gathered.usage, "the stream's usage is not a chat completion's") from error

    def _no_form(self, found: Any, what: str) -> LMInvalidResponseError:
        text = json.dumps(found, default=str)
        return invalid_response(self._address() or f"https://{self.provider}", text, self.model, what, self._wire.secrets())

    def _keep(self, call: _Call, response: Response) -> Response:
        if call.cache is not None:
            call.cache.put(call.key, to_record(response, call.request.messages if call.keeps_prompt else ()), call.ttl_s)
        return response

    def _land(self, call: _Call, flight: Flight, response: Response | None, error: BaseException | None = None) -> None:
        # A stop or a bug is the leader's own affair; a model's refusal is everybody's.
        self._all_flights().land(call.key, flight, response, error if isinstance(error, LMError) else None)

    def _all_flights(self) -> Flights:
        if self._flights_pid != os.getpid():  # after a fork the leaders are in the other process
            self._flights, self._flights_pid = Flights(), os.getpid()
        return self._flights

    def _publish(self, call: _Call, scope: Scope, response: Response | None, error: BaseException | None = None) -> Response:
        if isinstance(error, NotSent):  # no call, so none is counted
            return Response(())
        elapsed_s = time.perf_counter() - call.started
        usage = response.usage if response else Usage()
        scope.publish(
            LMCalled(
                run_id=scope.run_id, model=self.model, key=call.key, step=scope.step, trial=scope.trial,
                cached=response.cached if response else None, prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens, cost=response.cost if response else None,
                saved=response.saved if response else 0.0, elapsed_s=elapsed_s, index=scope.index,
                error=f"{type(error).__name__}: {getattr(error, 'message', error)}" if error is not None else None,
            )
        )  # fmt: skip
        if response is None:
            return Response(())
        if response.elapsed_s:  # from the cache, made a moment ago
            return response
        return Response(
            response.outputs,
            response.usage,
            response.model,
            response.cost,
            response.cached,
            response.raw,
            elapsed_s,
            response.saved,
        )  # not `replace`, which takes three times as long

    def _must_split(self, request: Request) -> bool:
        return not self._wire.native_n and int(request.options.get("n") or self.options.get("n") or 1) > 1

    def _split(self, request: Request) -> Iterator[Request]:
        count = int(request.options.get("n") or self.options.get("n") or 1)
        for index in range(count):
            yield replace(request, options={**request.options, "n": None}, candidate=request.candidate * count + index)


def _in_one_piece(response: Response) -> Delta:
    return Delta(response.text, (response.outputs[0].reasoning or "") if response.outputs else "")


def _said(error: BaseException) -> BaseException:
    """Name a reader's leaving for what it is."""
    return Cancelled("the reader left before the answer ended") if isinstance(error, GeneratorExit) else error


def _checked_ttl(ttl_s: Any) -> float:
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not ttl_s > 0:
        raise LMInvalidRequestError(f"ttl_s={ttl_s!r} is no time to keep an answer", hint="give seconds above 0, e.g. ttl_s=3600")
    return float(ttl_s)


def _length(content: Any) -> int:
    """Characters of a message; an image, sound or file counts as a page of text, whatever its bytes."""
    if isinstance(content, str):
        return len(content)
    return sum(len(part["text"]) if isinstance(part.get("text"), str) else _PAGE for part in content or ())


def _schema_of(model: Any) -> dict[str, Any]:
    """A pydantic class given as `response_format` (DSPy does), in OpenAI's JSON form."""
    schema = model.model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "strict": True, "schema": schema}}
