"""`dspy.Predict`, served by our adapters where that gives the same requests, values and records.

Only the middle of a call is replaced: what DSPy's adapters do around the LM call (plan capabilities, take the signature
apart, write and parse) costs ten times what it needs to. At both ends DSPy's own code runs on: callbacks, usage and call
stack in `Module.__call__`, inputs in `_forward_preprocess`, prediction and trace in `_forward_postprocess`; the LM is called
as an LM. What our adapters refuse to write or to read is given to DSPy's, so errors and fallbacks are DSPy's too.
"""

from __future__ import annotations

import copy
import copyreg
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import dspy
from dspy.dsp.utils.settings import settings
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError as DSPyParseError

from dspex_nb.adapters import Adapter, ChatAdapter, JSONAdapter, Prompt, get_adapter, prepare, read
from dspex_nb.ambient import Session
from dspex_nb.bridge.compact import CompactAdapter
from dspex_nb.bridge.conversion import from_dspy
from dspex_nb.bridge.lm import BridgeLM
from dspex_nb.bridge.programs import dspy_adapter
from dspex_nb.events import Bus
from dspex_nb.messages import Capabilities, Output
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures import Signature

SessionOf = Callable[[], Session]

_ADAPTER_EVENTS = ("on_adapter_format_start", "on_adapter_format_end", "on_adapter_parse_start", "on_adapter_parse_end")
_READ_HERE = frozenset({"text", "reasoning_content", "tool_calls"})
_NATIVE_TYPES = dspy.ChatAdapter().native_response_types


def accelerate_predictors(program: Any, session_of: SessionOf, *, on: bool = True) -> Any:
    """Give every plain `dspy.Predict` in `program` the accelerated class, or the plain one back; returns `program`.

    Args:
        program: A `dspy.Module`; it is changed in place.
        session_of: Returns the session whose LM serves where DSPy has none set.
        on: False takes the acceleration back.
    """
    wanted = _class_for(session_of) if on else dspy.Predict
    for _, predictor in program.named_sub_modules(dspy.Predict):
        if type(predictor) is dspy.Predict or isinstance(predictor, AcceleratedPredict):  # a user's own subclass is left alone
            predictor.__class__ = wanted
    return program


@functools.cache
def _class_for(session_of: SessionOf) -> type[AcceleratedPredict]:
    # Named as DSPy's, for optimizers write a predictor's class name into prompts.
    return type("Predict", (AcceleratedPredict,), {"session_of": staticmethod(session_of)})


class AcceleratedPredict(dspy.Predict):  # type: ignore[misc]
    """A `dspy.Predict` that takes the short way where it leads to the same place."""

    session_of: ClassVar[SessionOf]

    def forward(self, **kwargs: Any) -> Any:
        """Run on one row: natively where exact, else as DSPy does."""
        with self._engine(kwargs):
            call = self._native_call(kwargs)
            if call is None:
                return super().forward(**kwargs)
            outputs = call.lm(messages=call.prompt.messages, **call.prompt.options)
            values = call.read(outputs)
            if values is None:
                values = self._read_by_dspy(call, outputs)
            return self._forward_postprocess(values, call.signature, **call.inputs)

    async def aforward(self, **kwargs: Any) -> Any:
        """Run on one row without blocking the loop: natively where exact, else as DSPy does."""
        with self._engine(kwargs):
            call = self._native_call(kwargs)
            if call is None:
                return await super().aforward(**kwargs)
            outputs = await call.lm.acall(messages=call.prompt.messages, **call.prompt.options)
            values = call.read(outputs)
            if values is None:
                values = await self._aread_by_dspy(call, outputs)
            return self._forward_postprocess(values, call.signature, **call.inputs)

    def _engine(self, kwargs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Put the session's LM and adapter in force where DSPy has no LM."""
        now = None if kwargs.get("lm") or self.lm or settings.lm else type(self).session_of()
        if now is None or now.lm is None:
            return nullcontext()
        lm, adapter = _dspy_of(now.lm, now.cache, now.bus, now.adapter)
        made: AbstractContextManager[None] = settings.context(lm=lm, adapter=settings.adapter or adapter)
        return made

    def _native_call(self, kwargs: dict[str, Any]) -> _Call | None:
        """Return the call made ready, or None where DSPy must serve it."""
        adapter, signature = settings.adapter or _CHAT, kwargs.get("signature", self.signature)
        lm = kwargs.get("lm") or self.lm or settings.lm
        if not isinstance(lm, BridgeLM) or not isinstance(signature, type) or self.fields or settings.send_stream is not None:
            return None
        written = _format_of(adapter)
        if written is None or any(map(_listens_to_adapters, settings.callbacks)):
            return None
        native = _native(signature)
        if written.unsupported(native) is not None:
            return None
        lm, config, signature, demos, inputs = self._forward_preprocess(**kwargs)
        if None in config.values():  # our compact and DSPy's differ in what that means
            return None
        try:
            prompt = prepare(written, native, demos, inputs, _Server(lm), config)
        except Exception:  # noqa: BLE001 - whatever our writer trips over, DSPy's says what is wrong in DSPy's words
            return None
        return _Call(lm, adapter, config, signature, demos, inputs, written, native, prompt)

    def _read_by_dspy(self, call: _Call, outputs: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            return call.read_by_dspy(outputs)
        except DSPyParseError:
            again = call.fallback()
            if again is None:
                raise
        values: list[dict[str, Any]] = again(call.lm, {**call.config}, call.signature, call.demos, call.inputs)
        return values

    async def _aread_by_dspy(self, call: _Call, outputs: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            return call.read_by_dspy(outputs)
        except DSPyParseError:
            again = call.fallback()
            if again is None:
                raise
        values: list[dict[str, Any]] = await again.acall(call.lm, {**call.config}, call.signature, call.demos, call.inputs)
        return values

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__setstate__(self.__getstate__())
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = copied = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # A saved program is a plain one: it must load where dspex_nb is not installed.
        return (copyreg._reconstructor, (dspy.Predict, object, None), self.__getstate__())  # type: ignore[attr-defined]  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, made ready: what DSPy's preprocessing returned, and our prompt for it."""

    lm: BridgeLM
    adapter: Any
    config: dict[str, Any]
    signature: Any
    demos: Any
    inputs: dict[str, Any]
    written: Adapter
    native: Signature
    prompt: Prompt

    def read(self, outputs: Sequence[Any]) -> list[dict[str, Any]] | None:
        """Return each candidate's fields; None where DSPy must say what an answer means, or what is wrong with it."""
        try:
            return [read(self.written, self.native, self.prompt, _output(output)) for output in outputs]
        except Exception:  # noqa: BLE001 - see above
            return None

    def read_by_dspy(self, outputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the same as DSPy's adapter reads it, or raise its error."""
        config = {**self.config}
        shown = self.adapter._call_preprocess(self.lm, config, self.signature, {**self.inputs})  # noqa: SLF001
        values: list[dict[str, Any]] = self.adapter._call_postprocess(shown, self.signature, outputs, self.lm, config)  # noqa: SLF001
        return values

    def fallback(self) -> Any:
        """Return the adapter that DSPy asks again with, None if it does not."""
        if type(self.adapter) is dspy.ChatAdapter and self.adapter.use_json_adapter_fallback:
            return self.adapter._make_json_adapter_fallback()  # noqa: SLF001
        return None


class _Server:
    """A `BridgeLM` as our adapters see a server; a copy of it has options of its own."""

    __slots__ = ("capabilities", "model", "model_type", "options")

    def __init__(self, lm: BridgeLM) -> None:
        self.model: str = lm.model
        self.model_type: str = lm.model_type
        self.capabilities: Capabilities = lm.capabilities
        self.options: Mapping[str, Any] = lm.kwargs


_CHAT = dspy.ChatAdapter()
_NOT_READ = "an output that holds more than our adapters read"


def _format_of(adapter: Any) -> Adapter | None:
    """Return our adapter that does what this one of DSPy's does, None if there is none."""
    kind = type(adapter)
    if kind not in (dspy.ChatAdapter, dspy.JSONAdapter, CompactAdapter) or adapter.callbacks:
        return None
    if adapter.native_response_types != _NATIVE_TYPES:
        return None
    if kind is CompactAdapter:
        return get_adapter("compact") if adapter.response_schema is None else None
    make = ChatAdapter if kind is dspy.ChatAdapter else JSONAdapter
    return _made(make, adapter.use_native_function_calling, adapter.parallel_tool_calls)


@functools.lru_cache(maxsize=16)
def _made(make: type[ChatAdapter | JSONAdapter], native_tools: bool, parallel: bool | None) -> Adapter:  # noqa: FBT001 - its key
    return make(use_native_function_calling=native_tools, parallel_tool_calls=parallel)


def _listens_to_adapters(callback: Any) -> bool:
    return any(getattr(type(callback), name, None) is not getattr(BaseCallback, name) for name in _ADAPTER_EVENTS)


_natives: WeakKeyDictionary[type, tuple[tuple[Any, ...], Signature]] = WeakKeyDictionary()


def _native(signature: Any) -> Signature:
    """Return our form of a signature class, made once a class; one that was changed in place is read anew."""
    state = (signature.instructions, *((info.json_schema_extra.copy(), info.annotation) for info in signature.fields.values()))
    known = _natives.get(signature)
    if known is None or known[0] != state:
        known = _natives[signature] = (state, from_dspy(signature))
    return known[1]


def _output(output: Any) -> Output:
    if isinstance(output, str):
        return Output(output)
    if not _READ_HERE.issuperset(output):
        raise ValueError(_NOT_READ)
    return Output(output["text"] or "", tuple(output.get("tool_calls") or ()), None, output.get("reasoning_content"))


@functools.lru_cache(maxsize=16)
def _dspy_of(client: Any, cache: Any, bus: Bus, adapter: Any) -> tuple[BridgeLM, Any]:
    """Return a session's client and adapter as DSPy takes them."""
    lm = BridgeLM(client, cache=cache, scope=Scope(new_run_id(), bus))
    return lm, dspy_adapter(adapter or client.default_adapter, lm)
