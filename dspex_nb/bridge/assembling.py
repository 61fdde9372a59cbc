"""A pipeline's LM steps as one `dspy.Module`: each a named predictor that optimizers tune, the graph run by whoever made it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dspy
from dspy.dsp.utils.settings import settings

from dspex_nb.ambient import Session
from dspex_nb.bridge.lm import BridgeLM
from dspex_nb.bridge.making import make_module
from dspex_nb.bridge.plans import Inner
from dspex_nb.bridge.programs import dspy_adapter, program_for
from dspex_nb.bridge.running import split_options
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures import Signature

Calls = Mapping[str, Callable[..., Any]]
Graph = Callable[[Calls, Mapping[str, Any], Session], dict[str, Any]]
ASK = ""
"""The call that asks the LM without a predictor: `calls[ASK](messages, options)` returns a text."""


@dataclass(frozen=True, slots=True)
class Part:
    """One LM step.

    Attributes:
        name: The step's full name; `path` is the attribute it becomes, with dots where it is inside another.
        module: A kind, a `dspy.Module` class or instance, or a native program.
        options: The step's options: those of the LM and those of the module.
        state: What was learned for it before.
    """

    name: str
    path: str
    module: Any
    signature: Signature | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner | None = None
    state: Mapping[str, Any] | None = None
    adapter: Any = None
    cache: bool | None = None


class Assembled(dspy.Module):  # type: ignore[misc]
    """A program of named parts.

    Args:
        title: What it is called.
        parts: Its LM steps.
        graph: Runs the whole: given what calls each part by its name, the inputs, and the session, it returns the outputs.
        session_of: Returns the session, whose LM serves where DSPy has none set.
    """

    def __init__(self, title: str, parts: Sequence[Part], graph: Graph, session_of: Callable[[], Session]) -> None:
        super().__init__()
        self._title, self._graph, self._session_of = title, graph, session_of
        self._paths = {part.name: part.path for part in parts}
        self._around: dict[str, tuple[dict[str, Any], Any]] = {}
        for part in parts:
            *groups, last = part.path.split(".")
            owner: Any = self
            for name in groups:
                if not hasattr(owner, name):
                    setattr(owner, name, Group())
                owner = getattr(owner, name)
            made, lm_options = _made(part)
            setattr(owner, last, made)
            self._around[part.name] = (lm_options, part.adapter)

    def forward(self, **inputs: Any) -> Any:
        """Run the pipeline on one row."""
        with self._engine():
            calls = {name: partial(self._call, name) for name in self._paths} | {ASK: _ask}
            return dspy.Prediction(**self._graph(calls, inputs, self._session_of()))

    async def aforward(self, **inputs: Any) -> Any:
        """Run the pipeline on one row, on a thread of its own."""
        return await asyncio.to_thread(partial(Assembled.forward, self, **inputs))

    def _engine(self) -> AbstractContextManager[None]:
        """Put the session's LM and adapter in force where DSPy has no LM."""
        now = None if settings.lm else self._session_of()
        if now is None or now.lm is None:
            return nullcontext()
        lm = BridgeLM(now.lm, cache=now.cache, scope=Scope(new_run_id(), now.bus))
        made: AbstractContextManager[None] = settings.context(
            lm=lm, adapter=settings.adapter or dspy_adapter(now.adapter or now.lm.default_adapter, lm)
        )
        return made

    def _call(self, name: str, /, **values: Any) -> dict[str, Any]:
        part: Any = self
        for each in self._paths[name].split("."):
            part = getattr(part, each)
        lm_options, adapter = self._around[name]
        changes: dict[str, Any] = {}
        if lm_options and settings.lm is not None:
            changes["lm"] = settings.lm.copy(**lm_options)
        if adapter is not None:
            changes["adapter"] = dspy_adapter(adapter, settings.lm)
        with settings.context(**changes) if changes else nullcontext():
            returned = part(**values)
        if isinstance(returned, dspy.Example):  # a Prediction is one
            return dict(returned.items())
        return dict(returned) if isinstance(returned, Mapping) else {"output": returned}


class Group(dspy.Module):  # type: ignore[misc]
    """The LM steps inside one step: the children of a `parallel`, the steps of an inner pipeline."""


RESERVED = frozenset(dir(Assembled)) | {"callbacks", "history", "lm", "stage", "demos"}
"""Names that an attribute of a module cannot take."""


def _made(part: Part) -> tuple[Any, dict[str, Any]]:
    """Return the module of a part, and the LM options that are not its own."""
    options = dict(part.options)
    lm_options, build = split_options({**options, **options.pop("config", {})})
    lm_options.pop("ttl_s", None)
    own = part.module in ("predict", "chain_of_thought") if isinstance(part.module, str) else False
    if getattr(part.module, "base_signature", None) is not None:
        made, own = program_for(part.module), True
    else:
        made = make_module(part.module, part.signature, build, part.inner)
    if own:  # a predictor's own options, as in `dspy.Predict(signature, temperature=0)`
        told = {**lm_options, **({"cache": False} if part.cache is False else {})}
        for predictor in made.predictors():  # type: ignore[attr-defined]
            predictor.config = {**predictor.config, **told}
        lm_options = {}
    if part.state is not None:
        made.load_state({**part.state})  # type: ignore[attr-defined]
    return made, lm_options


def _ask(messages: list[dict[str, Any]], options: Mapping[str, Any]) -> str:
    output = settings.lm(messages=messages, **options)[0]
    return str(output["text"] if isinstance(output, Mapping) else output)
