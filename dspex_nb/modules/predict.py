"""`Predict` and `ChainOfThought`: one prompt, one answer, typed fields; native where that is exact, else through DSPy.

Model options come from three places, the later the stronger: the client's defaults (merged in by the client), the module's own
options, the call's. The adapter then has the last word: `chat` and `json` set what their format needs, as in DSPy, and `compact`
only what is not given.
"""

from __future__ import annotations

import asyncio
import copy
import operator
import time
import types
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from dspex_nb.adapters import Adapter, Prompt, get_adapter, prepare, read
from dspex_nb.adapters.accepting import accepted
from dspex_nb.ambient import Session
from dspex_nb.errors import AdapterParseError, DataError, MissingInputError, did_you_mean
from dspex_nb.messages import Request, Response, Usage
from dspex_nb.modules.state import jsonable, read_state, write_state
from dspex_nb.pools import crew
from dspex_nb.predictions import Facts, Prediction, Route
from dspex_nb.routing import native_adapter, route_call
from dspex_nb.scopes import Scope
from dspex_nb.signatures import OutputField, Signature

_SAMPLING_TEMPERATURE = 0.7  # DSPy's, where several candidates are asked for and the temperature would make them equal
_STILL = 0.15


@dataclass(slots=True)  # not frozen: that would triple what making one costs, at every call
class _Call:
    """One call, made ready: everything that options and session decide."""

    values: Mapping[str, Any]
    demos: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    session: Session
    scope: Scope
    route: Route
    adapter: Any
    started: float


class Predict:
    """A signature that can be called.

    Args:
        signature: Ours, or its string form.
        adapter: A name or an adapter; None means the session's, else the LM's own.
        **lm_options: Model options for every call (`temperature`, `max_tokens`, `n`, `rollout_id`, …).

    Attributes:
        demos: Few-shot examples, dicts of input and output fields.
        lm: The client asked where a call names none; None means the session's.
    """

    kind = "predict"

    def __init__(self, signature: Signature | str, adapter: str | Adapter | None = None, **lm_options: Any) -> None:
        self.base_signature = Signature(signature) if isinstance(signature, str) else signature
        self.signature: Signature = self._extend(self.base_signature)
        self.adapter = adapter
        self.lm_options: dict[str, Any] = lm_options
        self.demos: list[dict[str, Any]] = []
        self.lm: Any = None
        # What DSPy keeps beside these in a saved state; carried along so that nothing is lost on the way through.
        self._kept: dict[str, Any] = {"traces": [], "train": [], "lm": None}
        self._last_route: tuple[tuple[Any, ...], tuple[Route, Any]] | None = None

    def _extend(self, signature: Signature) -> Signature:
        return signature

    def call(self, inputs: Mapping[str, Any], *, session: Session, scope: Scope, **options: Any) -> Prediction:
        """Run on one row of inputs, in this thread.

        Args:
            inputs: The signature's inputs; those with a default may be left out.
            session: LM, adapter and cache.
            scope: The run it belongs to.
            **options: Model options of this call, and `demos`, `adapter`, `engine`, `lm`, `cache` (False asks
                anew), `config` (a dict of model options), `route` (decided already, by a plan).

        Raises:
            MissingInputError: An input without a default is not given.
            LMError: The call failed.
            AdapterParseError: The answer does not hold the output fields.
            Cancelled: The run was stopped.
        """
        return self._answer(self._ready(inputs, session, scope, options))

    def _answer(self, call: _Call) -> Prediction:
        if call.route.engine == "dspy":
            return self._call_dspy(call)
        prompt, responses = self._ask(call, call.adapter)
        try:
            return self._prediction(call, responses, self._read_all(call.adapter, prompt, responses))
        except AdapterParseError:
            again = _fallback(call.adapter)
            if again is None:
                raise
        prompt, more = self._ask(call, again)
        return self._prediction(call, [*responses, *more], self._read_all(again, prompt, more))

    async def acall_in(self, inputs: Mapping[str, Any], *, session: Session, scope: Scope, **options: Any) -> Prediction:
        """Run on one row of inputs without blocking the running event loop. Arguments and errors are those of `call`."""
        call = self._ready(inputs, session, scope, options)
        if call.route.engine == "dspy":
            return typing.cast("Prediction", await asyncio.wrap_future(crew.start(self._call_dspy, call)))
        prompt, responses = await self._ask_async(call, call.adapter)
        try:
            return self._prediction(call, responses, self._read_all(call.adapter, prompt, responses))
        except AdapterParseError:
            again = _fallback(call.adapter)
            if again is None:
                raise
        prompt, more = await self._ask_async(call, again)
        return self._prediction(call, [*responses, *more], self._read_all(again, prompt, more))

    def messages_in(self, inputs: Mapping[str, Any], *, session: Session, adapter: Any = None) -> list[dict[str, Any]]:
        """Return the exact prompt for `inputs` in `session`.

        Raises:
            MissingInputError: An input without a default is not given.
        """
        session = self._asking(session)
        chosen = native_adapter(adapter or self.adapter, session) or get_adapter("chat")
        if session.lm is None:
            return list(chosen.messages(self.signature, self.demos, accepted(self.signature, self._values(inputs))))
        return prepare(
            chosen, self.signature, self.demos, accepted(self.signature, self._values(inputs)), session.lm, self.lm_options
        ).messages

    def parse_in(self, text: str, *, session: Session, adapter: Any = None) -> dict[str, Any]:
        """Return the typed fields that an answer holds, read as `session` would.

        Raises:
            AdapterParseError: It does not hold them.
        """
        chosen = native_adapter(adapter or self.adapter, self._asking(session)) or get_adapter("chat")
        return dict(chosen.parse(self.signature, text))

    def messages(self, *, adapter: Any = None, **inputs: Any) -> list[dict[str, Any]]:
        """Return the exact prompt outside any session: with `adapter`, else this program's own, else `chat`."""
        return self.messages_in(inputs, session=Session(), adapter=adapter)

    def parse(self, text: str, *, adapter: Any = None) -> dict[str, Any]:
        """Return the typed fields of an answer outside any session: with `adapter`, else this program's own, else `chat`."""
        return self.parse_in(text, session=Session(), adapter=adapter)

    def dump_state(self) -> dict[str, Any]:
        """Return what `dspy.Predict.load_state` takes."""
        return self._dump()

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Take demos, instructions and descriptions from a saved state, DSPy's or ours; returns this program.

        Raises:
            DataError: The state is of another kind of program, or of a signature with other fields. Nothing is changed.
        """
        self._load(state)
        return self

    def save(self, path: str | Path) -> None:
        """Write the state as JSON that `dspy.Predict(...).load` reads."""
        write_state(path, self.dump_state())

    def load(self, path: str | Path) -> Self:
        """Read a JSON state that `save`, ours or DSPy's, wrote; returns this program."""
        return self.load_state(read_state(path))

    def __repr__(self) -> str:
        demos = f", {len(self.demos)} demos" if self.demos else ""
        return f"{type(self).__name__}({self.base_signature.spec!r}{demos})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last_route": None}  # it holds the session's adapter, which is no part of this program

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.lm)] = self.lm  # a copy asks the same client: sockets and locks cannot be copied
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return copied

    # A call, step by step

    def _ready(self, inputs: Mapping[str, Any], session: Session, scope: Scope, options: dict[str, Any]) -> _Call:
        started = time.perf_counter()
        session = self._asking(session, options.pop("lm", None))
        session.require_lm()
        if options.pop("cache", True) is False:
            session = replace(session, cache=None)
        adapter = options.pop("adapter", None) or self.adapter
        engine = options.pop("engine", None)
        demos = options.pop("demos", None)
        route, chosen = self._routed(scope.step, session, adapter, engine, options.pop("route", None))
        config = {**self.lm_options, **options.pop("config", {}), **options} if options or self.lm_options else {}
        kept = self.demos if demos is None else demos
        return _Call(accepted(self.signature, self._values(inputs)), kept, config, session, scope, route, chosen, started)

    def _asking(self, session: Session, client: Any = None) -> Session:
        """Return the session with the client that a call asks: the call's own, else this program's, else the session's."""
        client = client or self.lm
        return session if client is None else replace(session, lm=client)

    def _routed(self, step: str, session: Session, adapter: Any, engine: str | None, route: Route | None) -> tuple[Route, Any]:
        """Return the route and the adapter of a call; the last answer stands while nothing that decides it has changed."""
        asked = (route, step, engine, adapter, session.adapter, session.lm.default_adapter, self.signature)
        last = self._last_route
        if last is not None and all(map(operator.is_, last[0], asked)):
            return last[1]
        found = route or route_call(step, self.signature, session, engine=engine, adapter=adapter)
        decided = (found, native_adapter(adapter, session) if found.engine == "native" else adapter or session.adapter)
        self._last_route = (asked, decided)
        return decided

    def _values(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        fields = self.signature.inputs
        if inputs.keys() == fields.keys():
            return {name: inputs[name] for name in fields}
        values: dict[str, Any] = {}
        for name, one in fields.items():
            if name in inputs:
                values[name] = inputs[name]
            elif not one.required:
                values[name] = one.default_value()
            elif not _allows_none(one.type):
                meant = [(given, did_you_mean(given, [name])) for given in inputs if given not in fields]
                near = next((f"{given!r} was given: {hint}" for given, hint in meant if hint), "")
                raise MissingInputError(f"missing input {name!r}", hint=f"{near}inputs are: {', '.join(fields)}")
        for name in inputs:
            if name not in values:
                known = ", ".join(fields)
                warnings.warn(f"{name!r} is no input of {self.signature.name} and is ignored; inputs: {known}", stacklevel=5)
        return values

    def _requests(self, call: _Call, adapter: Any) -> tuple[Prompt, list[Request]]:
        client = call.session.lm
        if not call.options and not client.options:  # the usual call, without the cost of what options decide
            prompt = prepare(adapter, self.signature, call.demos, call.values, client, {})
            options = {name: value for name, value in prompt.options.items() if value is not None} if prompt.options else {}
            return prompt, [Request(prompt.messages, options)]
        own = {**call.options}
        count = int(own.pop("n", None) or client.options.get("n") or 1)
        rollout = own.pop("rollout_id", None)
        if rollout is not None and own.get("temperature", client.options.get("temperature")) == 0:
            warnings.warn(
                "asking again (rollout_id=, retry=) gives the same answer at temperature=0; set it above 0", stacklevel=5
            )
        temperature = own.get("temperature") or client.options.get("temperature")  # as DSPy: a 0 here lets the LM's own decide
        if count > 1 and (temperature is None or temperature <= _STILL):
            own["temperature"] = _SAMPLING_TEMPERATURE
        prompt = prepare(adapter, self.signature, call.demos, call.values, client, own)
        options = {name: value for name, value in prompt.options.items() if value is not None}
        return prompt, [Request(prompt.messages, options, rollout, candidate) for candidate in range(count)]

    def _ask(self, call: _Call, adapter: Any) -> tuple[Prompt, list[Response]]:
        complete, cache = call.session.lm.complete, call.session.cache
        prompt, requests = self._requests(call, adapter)
        if len(requests) == 1:
            return prompt, [complete(requests[0], scope=call.scope, cache=cache)]
        return prompt, crew.at_once([partial(complete, request, scope=call.scope, cache=cache) for request in requests])

    async def _ask_async(self, call: _Call, adapter: Any) -> tuple[Prompt, list[Response]]:
        complete, cache = call.session.lm.acomplete, call.session.cache
        prompt, requests = self._requests(call, adapter)
        if len(requests) == 1:  # gather would make a task of it
            return prompt, [await complete(requests[0], scope=call.scope, cache=cache)]
        return prompt, list(await asyncio.gather(*(complete(request, scope=call.scope, cache=cache) for request in requests)))

    def _read_all(self, adapter: Any, prompt: Prompt, responses: Iterable[Response]) -> list[dict[str, Any]]:
        outputs = (output for response in responses for output in response.outputs)
        return [read(adapter, self.signature, prompt, output) for output in outputs]

    def _prediction(self, call: _Call, responses: Sequence[Response], parsed: Sequence[Mapping[str, Any]]) -> Prediction:
        first, elapsed_s = responses[0], time.perf_counter() - call.started
        usage, cost, cached = first.usage, first.cost, first.cached
        if len(responses) > 1:
            usage, cost = sum((response.usage for response in responses), Usage()), _cost(responses)
            cached = first.cached if all(response.cached for response in responses) else None
        facts = Facts(usage, cost, call.route, call.scope.run_id, elapsed_s, cached, completions=tuple(parsed))
        return Prediction(parsed[0], facts)

    def _call_dspy(self, call: _Call) -> Prediction:
        # The only way up to DSPy, loaded when a call needs it.
        from dspex_nb.bridge import ProgramRecipe, program_for, run_module

        module = program_for(
            ProgramRecipe(self.kind, self.base_signature, call.demos, call.options, self._state_with(call.demos))
        )
        session = call.session
        done = run_module(
            module, None, call.values, client=session.lm, adapter=call.adapter, cache=session.cache, scope=call.scope
        )
        elapsed_s = time.perf_counter() - call.started
        candidates = done.completions or (done.outputs,)
        facts = Facts(done.usage, done.cost, call.route, call.scope.run_id, elapsed_s, done.cached, completions=candidates)
        return Prediction(done.outputs, facts)

    def _state_with(self, demos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the state with these demos as they are (not as JSON), for a module in this process."""
        return {**self._kept, "lm": None, "demos": [dict(demo) for demo in demos], "signature": self.signature.dump_state()}

    # State

    def _dump(self) -> dict[str, Any]:
        demos = [jsonable(dict(demo)) for demo in self.demos]
        return {**self._kept, "demos": demos, "signature": self.signature.dump_state()}

    def _load(self, state: Mapping[str, Any]) -> None:
        if "signature" not in state or "demos" not in state:
            held = (
                "a dspy.ChainOfThought or a program around one"
                if "predict" in state
                else f"{', '.join(map(str, state)) or 'nothing'}"
            )
            raise DataError(
                f"this state is not of a {type(self).__name__}: it holds {held}",
                hint="load it into the kind of program that saved it",
            )
        saved, own = len(state["signature"]["fields"]), len(self.signature.fields)
        if saved != own:
            raise DataError(
                f"this state is of a signature with {saved} fields, this program's has {own}: {', '.join(self.signature.fields)}",
                hint="load it into a program with the signature that was saved",
            )
        self.signature = self.signature.load_state(state["signature"])
        self.base_signature = self._shrink(self.signature)
        self.demos = [dict(demo) for demo in state["demos"]]
        self._kept = {name: value for name, value in state.items() if name not in ("demos", "signature")}

    def _shrink(self, signature: Signature) -> Signature:
        return signature


class ChainOfThought(Predict):
    """A `Predict` that reasons first: the signature with a `reasoning` output before the others.

    `base_signature` is the one without it.
    """

    kind = "chain_of_thought"

    def _extend(self, signature: Signature) -> Signature:
        return signature.prepend("reasoning", OutputField(desc="${reasoning}"), str)

    def _shrink(self, signature: Signature) -> Signature:
        return signature.delete("reasoning")

    def dump_state(self) -> dict[str, Any]:
        """Return what `dspy.ChainOfThought.load_state` takes: its inner predictor's state under `predict`."""
        return {"predict": self._dump()}

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Take demos, instructions and descriptions from a saved state, DSPy's or ours; returns this program.

        Raises:
            DataError: The state is of another kind of program, or of a signature with other fields. Nothing is changed.
        """
        if "predict" not in state:
            held = "a dspy.Predict" if "signature" in state else f"{', '.join(map(str, state)) or 'nothing'}"
            raise DataError(
                f"this state is not of a ChainOfThought: it holds {held}", hint="load it into the kind of program that saved it"
            )
        self._load(state["predict"])
        return self

    def _state_with(self, demos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"predict": super()._state_with(demos)}


def _fallback(adapter: Any) -> Adapter | None:
    """DSPy's rule: an answer in the chat format that cannot be read is asked for again as JSON."""
    found: Adapter | None = getattr(adapter, "fallback", None)
    return found


def _cost(responses: Sequence[Response]) -> float | None:
    """Return what was paid: nothing for cached answers, None where a price is unknown."""
    paid = [response.cost for response in responses if response.cached is None]
    return None if any(cost is None for cost in paid) else float(sum(cost for cost in paid if cost is not None))


def _allows_none(kind: Any) -> bool:
    """Whether a type takes None; DSPy lets such inputs be left out."""
    if kind is None or kind is type(None) or kind is Any:
        return kind is not Any
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)
