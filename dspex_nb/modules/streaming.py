"""A program's answer while it comes: events per output field, last the prediction that a call would have returned.

A call and its stream send the same request, under the same cache key, and read the whole answer with the same parser; what
was shown on the way is put right where the parser says otherwise. Differences: one answer only (`n` is refused), and what
DSPy serves comes whole at the end, for its modules make several calls whose texts are not the outputs' texts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from dspex_nb.adapters import Prompt
from dspex_nb.adapters.features import role
from dspex_nb.ambient import Session
from dspex_nb.errors import AdapterParseError, DSPexError
from dspex_nb.messages import Delta, Request, Response
from dspex_nb.modules import predict
from dspex_nb.modules.readers import reader_for
from dspex_nb.pools import crew
from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature
from dspex_nb.signatures.codecs import jsonable

Events = Generator[FieldEvent | Prediction, None, None]
AsyncEvents = AsyncGenerator[FieldEvent | Prediction, None]


def stream(program: predict.Predict, inputs: Mapping[str, Any], *, session: Session, scope: Scope, **options: Any) -> Events:
    """Return the events of one call of `program`, made as they are taken. Arguments and errors are those of `Predict.call`.

    The inputs are checked at once. Closing the generator closes the connection.

    Raises:
        DSPexError: Several candidates were asked for.
    """
    call = program._ready(inputs, session, scope, options)  # noqa: SLF001 - the other half of Predict
    _refuse_several(call)
    return _events(program, call)


def astream(
    program: predict.Predict, inputs: Mapping[str, Any], *, session: Session, scope: Scope, **options: Any
) -> AsyncEvents:
    """Return the events of one call on the running loop; otherwise as `stream`."""
    call = program._ready(inputs, session, scope, options)  # noqa: SLF001
    _refuse_several(call)
    return _aevents(program, call)


def wants_several(program: predict.Predict, session: Session, options: Mapping[str, Any]) -> bool:
    """Say whether a call asks for several candidates, which no stream has."""
    asked = {**(program.lm or session.lm).options, **program.lm_options, **options.get("config", {}), **options}
    return int(asked.get("n") or 1) > 1


def _events(program: predict.Predict, call: Any) -> Events:
    if call.route.engine == "dspy":
        yield from _whole(program._call_dspy(call))  # noqa: SLF001
        return
    answers = _Answers(program, call)
    while answers.adapter is not None:
        request, reading = answers.ask()
        for piece in call.session.lm.deltas(request, scope=call.scope, cache=call.session.cache):
            yield from reading.take(piece)
        yield from answers.settle(reading)
    yield answers.prediction()


async def _aevents(program: predict.Predict, call: Any) -> AsyncEvents:
    if call.route.engine == "dspy":
        for event in _whole(await asyncio.wrap_future(crew.start(program._call_dspy, call))):  # noqa: SLF001
            yield event
        return
    answers = _Answers(program, call)
    while answers.adapter is not None:
        request, reading = answers.ask()
        async with aclosing(call.session.lm.adeltas(request, scope=call.scope, cache=call.session.cache)) as pieces:
            async for piece in pieces:
                for event in reading.take(piece):
                    yield event
        for event in answers.settle(reading):
            yield event
    yield answers.prediction()


class _Answers:
    """The answers of one call, mostly one: a chat answer that cannot be read is asked for again as JSON."""

    def __init__(self, program: predict.Predict, call: Any) -> None:
        self._program, self._call = program, call
        self._responses: list[Response] = []
        self._parsed: list[dict[str, Any]] = []
        self.adapter = call.adapter

    def ask(self) -> tuple[Request, Reading]:
        """Return the request to send now and what reads its answer."""
        prompt, requests = self._program._requests(self._call, self.adapter)  # noqa: SLF001
        return requests[0], Reading(self.adapter.name, self._program.signature, prompt)

    def settle(self, reading: Reading) -> Iterator[FieldEvent]:
        """Parse the whole answer as a call does. `adapter` says how to ask again; None when the fields are there.

        Raises:
            AdapterParseError: They are not, and there is no other way to ask.
        """
        yield from reading.finish()
        assert reading.response is not None  # noqa: S101 - the client's last piece
        self._responses.append(reading.response)
        try:
            self._parsed = self._program._read_all(self.adapter, reading.prompt, [reading.response])  # noqa: SLF001
        except AdapterParseError as error:
            self.adapter = predict._fallback(self.adapter)  # noqa: SLF001
            yield from reading.withdraw(error.message)
            if self.adapter is None:
                raise
        else:
            self.adapter = None
            yield from reading.settle(self._parsed[0])

    def prediction(self) -> Prediction:
        """Return what the call would have returned."""
        return self._program._prediction(self._call, self._responses, self._parsed)  # noqa: SLF001


class Reading:
    """One answer being read: pieces in, events out, and a record of what was shown."""

    def __init__(self, adapter_name: str, signature: Signature, prompt: Prompt) -> None:
        self.prompt = prompt
        self.response: Response | None = None
        self._outputs = signature.outputs
        self._reader = reader_for(adapter_name, prompt.signature.outputs)
        self._reasoned = _native_reasoning(signature, prompt.signature)
        self._shown: dict[str, list[str]] = {}
        self._open: set[str] = set()

    def take(self, piece: Delta | Response) -> Iterator[FieldEvent]:
        """Take a piece from the client; the last is the response."""
        if isinstance(piece, Response):
            self.response = piece
            return
        if piece.reasoning and self._reasoned is not None:
            if self._reasoned not in self._shown:
                yield self._noted(FieldEvent("start", self._reasoned))
            yield self._noted(FieldEvent("delta", self._reasoned, piece.reasoning))
        if piece.text:
            yield from self._end_reasoning()
            for event in self._reader.feed(piece.text):
                yield self._noted(event)

    def finish(self) -> Iterator[FieldEvent]:
        """Yield what the end of the answer settles."""
        yield from self._end_reasoning()
        for event in self._reader.finish():
            yield self._noted(event)

    def settle(self, values: Mapping[str, Any]) -> Iterator[FieldEvent]:
        """Make what was shown agree with the parsed values: texts to the letter, and no field left out."""
        for name, field in self._outputs.items():
            value = values.get(name)
            if name not in self._shown:
                yield from _at_once(name, value)
            elif field.type is str and isinstance(value, str) and "".join(self._shown[name]) != value:
                yield FieldEvent("withdrawn", name, "the answer as a whole reads otherwise")
                yield from _at_once(name, value)

    def withdraw(self, why: str) -> Iterator[FieldEvent]:
        """Take back every field shown."""
        for name in self._shown:
            yield FieldEvent("withdrawn", name, why)

    def _end_reasoning(self) -> Iterator[FieldEvent]:
        if self._reasoned in self._open:
            yield self._noted(FieldEvent("end", str(self._reasoned)))

    def _noted(self, event: FieldEvent) -> FieldEvent:
        if event.kind == "delta":
            self._shown[event.field].append(event.text)
        elif event.kind == "start":
            self._shown[event.field] = []
            self._open.add(event.field)
        else:
            self._open.discard(event.field)
        return event


def _whole(prediction: Prediction) -> Iterator[FieldEvent | Prediction]:
    for name, value in prediction.items():
        yield from _at_once(name, value)
    yield prediction


def _at_once(name: str, value: Any) -> Iterator[FieldEvent]:
    yield FieldEvent("start", name)
    if text := _text_of(value):
        yield FieldEvent("delta", name, text)
    yield FieldEvent("end", name)


def _text_of(value: Any) -> str:
    plain = jsonable(value)
    return "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _native_reasoning(signature: Signature, read_by: Signature) -> str | None:
    """Return the output that the provider's own reasoning fills, None if there is none."""
    filled = (field for name, field in signature.outputs.items() if name not in read_by.outputs)
    return next((field.name for field in filled if role(field.type) == "reasoning"), None)


def _refuse_several(call: Any) -> None:
    count = int(call.options.get("n") or call.session.lm.options.get("n") or 1)
    if count > 1:
        raise DSPexError(f"a stream has one answer, and n={count} asks for several", hint="call the program, or stream with n=1")


__all__ = ["AsyncEvents", "Events", "Reading", "astream", "stream"]
