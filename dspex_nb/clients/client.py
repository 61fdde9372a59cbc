"""The client: one model, asked through cache, single flight, limits and retries; every call is published as an event."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from dspex_nb.cache import Cache, request_key, waits
from dspex_nb.clients.answers import as_shared, from_hit, merged, to_record
from dspex_nb.clients.calls import Call, checked_ttl
from dspex_nb.clients.flights import Flight, Flights, await_, wait
from dspex_nb.clients.settings import Settings, without_secrets
from dspex_nb.clients.streams import Hearer, StreamingEndpoint, in_one_piece
from dspex_nb.clients.wires import Wire
from dspex_nb.errors import Cancelled, LMError, NotSent
from dspex_nb.events import LMCalled
from dspex_nb.messages import Capabilities, Delta, Exchange, Request, Response, Usage
from dspex_nb.pools.carrying import by_pipe
from dspex_nb.scopes import Scope
from dspex_nb.transport import asleep, sleep

T = TypeVar("T")
_OURS = frozenset({"cache", "ttl_s"})  # options of a call that say how it is kept and are never sent


class Client(StreamingEndpoint):
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
        shown, hidden = without_secrets(options)
        super().__init__(
            model, wire, provider=provider, identity=identity, settings=settings, credentials={**hidden, **(credentials or {})},
            price_zero=price_zero, seeded=seeded, shared=shared,
        )  # fmt: skip
        self.options, self.capabilities, self._origin = shown, capabilities, dict(origin or {})
        self.default_adapter = "compact" if provider == "local" else "chat"
        self._flights, self._flights_pid = Flights(), os.getpid()

    @property
    def model_type(self) -> str:
        """`"chat"`, or `"responses"` for OpenAI's other API; what a reasoning model is asked for depends on it."""
        return str(self._origin.get("model_type", "chat"))

    def complete(
        self,
        request: Request,
        *,
        scope: Scope,
        cache: Cache | None = None,
        ttl_s: float | None = None,
        hearer: Hearer | None = None,
    ) -> Response:
        """Ask, blocking this thread.

        Args:
            request: Messages and options; options the client sets by default may be left out. Two are not sent: `cache`
                (False asks anew and keeps nothing; True goes before the client's own `cache=False`) and `ttl_s` (how many
                seconds this answer is kept; it goes before the argument).
            scope: The run it belongs to: its stop breaks the call off, its bus receives `LMCalled`.
            cache: Looked into first and given the answer before it is returned; None asks anew.
            ttl_s: How long this answer is kept.
            hearer: Hears the answer while it comes, where it is asked for now and is one answer; the call stays the same call:
                kept, shared and tried again like any other.

        Raises:
            LMError: One of its kinds, after the retries it allows.
            Cancelled: The scope was stopped.
        """
        if self._must_split(request):
            return merged([self.complete(one, scope=scope, cache=cache, ttl_s=ttl_s) for one in self._split(request)])
        call = self._call(request, cache, ttl_s, scope)
        try:
            scope.cancel.check()
            response = self._from_cache(call) or self._through_flight(call, scope, hearer)
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
            response = self._from_cache(call, local=True) or await self._athrough_flight(call, scope)
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
                yield in_one_piece(response)
            else:
                with closing(self._pieces(call, scope)) as pieces:
                    for piece in pieces:
                        if isinstance(piece, Response):
                            response = self._keep(call, piece)
                        else:
                            yield piece
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
                yield in_one_piece(response)
            else:
                async with aclosing(self._apieces(call, scope)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Response):
                            response = self._keep(call, piece)
                        else:
                            yield piece
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
        """Rebuild a client of this class from `dump_state` and, where keys came as arguments, `secrets`."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        """Cross to a worker, inside a function or a predictor of the notebook, as what rebuilds it there.

        Raises:
            TypeError: It has a key of its own, and this is not the way to a worker: the key might end in a file.
        """
        secrets = self.secrets()
        if secrets and not by_pipe.get():
            raise TypeError(f"{self!r} holds a key given as an argument; set the provider's environment variable instead")
        return _rebuilt, (type(self), json.dumps(self.dump_state(), sort_keys=True), json.dumps(secrets, sort_keys=True))

    def __deepcopy__(self, memo: Any) -> Client:
        """A copied program asks the same model, within the same limits."""
        return self

    def close(self) -> None:
        """Let go of what this client alone holds; the embedded server, which others share, ends with the process."""
        self._wire.close()

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"LM({self.model!r}{shown})"

    # One call, step by step

    def _call(self, request: Request, cache: Cache | None, ttl_s: float | None, scope: Scope) -> Call:
        started = time.perf_counter()
        wanted, own_ttl_s = request.options.get("cache"), request.options.get("ttl_s")
        request = self._merged(request)
        usable = cache if (self.settings.cache if wanted is None else wanted) else None
        ttl_s = checked_ttl(own_ttl_s) if own_ttl_s is not None else ttl_s
        key = request_key(self.identity, request) if usable is not None else ""  # kept nowhere, found nowhere
        return Call(request, key, usable, self.settings.ttl_s if ttl_s is None else ttl_s, started, scope.trial is not None)

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

    def _from_cache(self, call: Call, *, again: bool = False, local: bool = False) -> Response | None:
        if call.cache is None:
            return None
        hit = call.cache.get(call.key, again=again, local=local)
        if hit is None:
            return None
        try:
            return from_hit(hit, self.model, time.perf_counter() - call.started)
        except (KeyError, TypeError):  # another version's record
            return None

    def _through_flight(self, call: Call, scope: Scope, hearer: Hearer | None) -> Response:
        if call.cache is None:
            return self._ask(call, scope, hearer)
        while True:
            flight, leads = self._all_flights().join(call.key, on_loop=False)
            if flight is None:
                return self._keep(call, self._ask(call, scope, hearer))
            if leads:
                try:
                    response = self._pay(call, call.cache, scope, hearer)
                except BaseException as error:
                    self._land(call, flight, None, error)
                    raise
                self._land(call, flight, response)
                return response
            shared = wait(flight, scope.cancel)
            if shared is not None:
                return as_shared(shared)

    async def _athrough_flight(self, call: Call, scope: Scope) -> Response:
        if call.cache is None:
            return await self._aask(call, scope)
        while True:
            flight, leads = self._all_flights().join(call.key, on_loop=True)
            if flight is None:
                return self._keep(call, await self._aask(call, scope))
            if leads:
                try:
                    response = await self._apay(call, call.cache, scope)
                except BaseException as error:
                    self._land(call, flight, None, error)
                    raise
                self._land(call, flight, response)
                return response
            shared = await await_(flight, scope.cancel)
            if shared is not None:
                return as_shared(shared)

    def _pay(self, call: Call, cache: Cache, scope: Scope, hearer: Hearer | None) -> Response:
        """Ask, or wait for the answer that another process is being given, or take that process's turn if it fails or dies."""
        for wait_s in waits():
            asking = cache.asking(call.key)
            try:
                mine = asking.begin()
                response = self._from_cache(call, again=True)  # it may have come while this one waited
                if response is None and mine:
                    response = self._keep(call, self._ask(call, scope, hearer))
            finally:
                asking.end()
            if response is not None:
                return response
            sleep(wait_s, scope.cancel)
        raise AssertionError("unreachable")

    async def _apay(self, call: Call, cache: Cache, scope: Scope) -> Response:
        """Pay on the running loop, which a shared server's answers do not block; otherwise as `_pay`."""
        apart = _in_a_thread if cache.remote is not None else _at_once
        if cache.remote is not None:  # the first look was at what is here only
            response = await apart(self._from_cache, call)
            if response is not None:
                return response
        for wait_s in waits():
            asking = cache.asking(call.key, threading.get_ident())
            try:
                mine = await apart(asking.begin)
                response = await apart(partial(self._from_cache, again=True), call)
                if response is None and mine:
                    response = await self._aask(call, scope)
                    await apart(self._keep, call, response)
            finally:
                await apart(asking.end)
            if response is not None:
                return response
            await asleep(wait_s, scope.cancel)
        raise AssertionError("unreachable")

    def _keep(self, call: Call, response: Response) -> Response:
        if call.cache is not None:
            call.cache.put(call.key, to_record(response, call.request.messages if call.keeps_prompt else ()), call.ttl_s)
        return response

    def _land(self, call: Call, flight: Flight, response: Response | None, error: BaseException | None = None) -> None:
        # A stop or a bug is the leader's own affair; a model's refusal is everybody's.
        self._all_flights().land(call.key, flight, response, error if isinstance(error, LMError) else None)

    def _all_flights(self) -> Flights:
        if self._flights_pid != os.getpid():  # after a fork the leaders are in the other process
            self._flights, self._flights_pid = Flights(), os.getpid()
        return self._flights

    def _publish(self, call: Call, scope: Scope, response: Response | None, error: BaseException | None = None) -> Response:
        if isinstance(error, NotSent):  # no call, so none is counted
            return Response(())
        elapsed_s = time.perf_counter() - call.started
        usage = response.usage if response else Usage()
        said = f"{type(error).__name__}: {getattr(error, 'message', error)}" if error is not None else None
        if scope.trace is not None:
            scope.trace(Exchange(call.request, response, self.model, call.key, scope.step, elapsed_s, said or ""))
        scope.publish(
            LMCalled(
                run_id=scope.run_id, model=self.model, key=call.key, step=scope.step, trial=scope.trial,
                cached=response.cached if response else None, prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens, cost=response.cost if response else None, elapsed_s=elapsed_s,
                saved=response.saved if response else 0.0, index=scope.index, error=said,
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


@lru_cache(maxsize=32)
def _rebuilt(kind: type[Client], state: str, secrets: str) -> Client:
    """Return a client that crossed here; the same one each time, with its limits and connections."""
    return kind.from_state(json.loads(state), json.loads(secrets) or None)


def _said(error: BaseException) -> BaseException:
    """Name a reader's leaving for what it is."""
    return Cancelled("the reader left before the answer ended") if isinstance(error, GeneratorExit) else error


async def _at_once(work: Callable[..., T], *args: Any) -> T:
    return work(*args)


async def _in_a_thread(work: Callable[..., T], *args: Any) -> T:
    return await asyncio.to_thread(work, *args)


def _schema_of(model: Any) -> dict[str, Any]:
    """A pydantic class given as `response_format` (DSPy does), in OpenAI's JSON form."""
    schema = model.model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "strict": True, "schema": schema}}
