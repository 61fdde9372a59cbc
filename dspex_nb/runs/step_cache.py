"""The step cache: a step known or declared to be pure is not run again on the same code, options and inputs.

LM calls have the LM cache; templates are filled again, which costs less than looking. The rest runs each time unless it is
`cache=True`, a `@dx.pure` function, or a retriever, whose index says its version. A step that could be cached and is not,
because its key or its result cannot be written down, runs, and the run says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from msgspec import structs

from dspex_nb.ambient import Session
from dspex_nb.passages import Passage
from dspex_nb.pipelines.durations import write_duration
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.pools import crew
from dspex_nb.predictions import Route
from dspex_nb.retrieval.reranking import asks_a_model
from dspex_nb.runs.code_keys import key_of
from dspex_nb.runs.contents import Unkeyable
from dspex_nb.runs.keeping import Unkeepable
from dspex_nb.runs.outcomes import STEP_TIER, Gapped, Written
from dspex_nb.runs.sharing import fetch, publish
from dspex_nb.signatures.types import leaves

if TYPE_CHECKING:
    from dspex_nb.cache import Cache
    from dspex_nb.runs.items import StepItems

KEY_VERSION = 1  # raise it when a change of meaning must not find old results
_LM_KINDS = frozenset({"predict", "chain_of_thought"})
_CALLS = frozenset({"function", "reduce"})
_KINDS = _CALLS | {"retriever", "rerank"}
_CHANGED = "kept, but its next call will not find it: it changes something that it reads, a global or a variable around it"


class StepCache:
    """Results of steps on disk, shared by kernels, and signed on the server of the session's cache if that has one.

    Args:
        directory: Made at the first write; readable by its owner only.
        size_bytes: What was used longest ago goes when the results are larger together; None for 2 GB.
    """

    def __init__(self, directory: Path, size_bytes: int | None = None) -> None:
        self.directory, self.size_bytes = Path(directory), size_bytes
        self.hits = self.misses = 0
        self.faults: list[str] = []
        self._opening = threading.Lock()
        self._items: StepItems | None = None

    @property
    def items(self) -> StepItems:
        """The joblib store that holds them."""
        with self._opening:
            if self._items is None:
                from dspex_nb.runs.items import StepItems  # loads joblib

                self._items = StepItems()
                options = {} if self.size_bytes is None else {"size_bytes": self.size_bytes}
                self._items.configure(str(self.directory), backend_options=options)
            return self._items

    def clear(self) -> None:
        """Forget every result."""
        self.items.clear()

    def through(self, step: Step, values: dict[str, Any], run: Callable[[], Written], shared: Cache | None = None) -> Written:
        """Return a step's kept fields, from here or the server of `shared`; without any run it and keep what it writes."""
        try:
            own = _own_key_in_time(step)
            key = _whole_key(own, step, values)
        except Unkeyable as why:
            return structs.replace(run(), note=f"not cached: {why}")
        classes = classes_of(step)
        fields = self._kept(key, classes, step.ttl_s, shared)
        if fields is not None:
            self.hits += 1
            return Written(fields, cached=STEP_TIER)
        self.misses += 1
        written = run()
        if isinstance(written.fields, Gapped):  # what failed is tried again the next time
            return written
        try:
            self.items.write([key], written.fields, classes)
        except Unkeepable as why:
            return structs.replace(written, note=f"not cached: it gave {why}")
        except OSError as error:
            self.faults.append(f"the step cache {self.directory} does not take results: {error}")
            return structs.replace(written, note=f"not cached: {error.strerror or error}")
        publish(shared, key, self.items.folder([key]), step.ttl_s)
        return written if _reads_the_same(step, own) else structs.replace(written, note=_CHANGED)

    def _kept(self, key: str, classes: list[type], ttl_s: float | None, shared: Cache | None) -> dict[str, Any] | None:
        with contextlib.suppress(KeyError):
            return dict(self.items.read([key], classes, ttl_s))
        with contextlib.suppress(KeyError):
            if fetch(shared, key, self.items.folder([key])):
                return dict(self.items.read([key], classes, ttl_s))
        return None

    def __repr__(self) -> str:
        return f"StepCache({str(self.directory)!r}, {self.hits} hits, {self.misses} misses)"


def is_cached(step: Step) -> bool:
    """Return whether the step cache serves a step of this kind with these options."""
    if step.kind not in _KINDS or (step.kind == "rerank" and asks_a_model(step.options)):
        return False
    return step.pure or (step.kind == "retriever" and step.cache is not False)


def step_key(step: Step, values: dict[str, Any]) -> str:
    """Return the key of a step's result: code, options, inputs.

    Raises:
        Unkeyable: Something in it has no key; the message says what.
    """
    return _whole_key(_own_key(step), step, values)


def _own_key(step: Step) -> str:
    """Return the part of the key that is no input's: the code with what it reads, the options."""
    return key_of(
        KEY_VERSION, step.kind, step.callable, dict(step.options), step.positional, step.over, step.texts, list(step.writes)
    )


def _own_key_in_time(step: Step) -> str:
    """Return the same within the step's time limit: an index may have to ask a server for its version, and wait there."""
    if step.timeout_s is None or step.kind != "retriever":
        return _own_key(step)
    future = crew.start(_own_key, step)
    wait([future], step.timeout_s)
    if not future.done():
        raise Unkeyable(f"its index did not say its version within {step.timeout_s:g} s")
    own: str = future.result()
    return own


def _whole_key(own: str, step: Step, values: dict[str, Any]) -> str:
    named = [_input(name, value) for name, value in sorted(values.items())]
    return key_of(own, list(classes_of(step)), named)


def _reads_the_same(step: Step, own: str) -> bool:
    """Say whether a function reads after its call what it read before; else its next call has another key."""
    try:
        return step.kind not in _CALLS or _own_key(step) == own
    except Unkeyable:
        return False


def _input(name: str, value: Any) -> tuple[str, str]:
    try:
        return name, key_of(value)
    except Unkeyable as why:
        raise Unkeyable(f"its input {name!r} is {why}") from None


def classes_of(step: Step) -> list[type]:
    """Return the classes that a step's annotation names: what its result may be made of when it is read back."""
    return classes_in(step.types.values())


def classes_in(types: Iterable[Any]) -> list[type]:
    """Return the classes inside types, those in the fields of dataclasses among them, and those of our own results."""
    found: list[type] = [Passage]
    waiting = list(types)
    for kind in waiting:  # grows on the way
        for leaf in leaves(kind):
            if isinstance(leaf, type) and leaf.__module__ != "builtins" and leaf not in found:
                found.append(leaf)
                waiting += _field_types(leaf)
    return found


def _field_types(kind: type) -> list[Any]:
    if not dataclasses.is_dataclass(kind):
        return []
    try:
        return list(get_type_hints(kind).values())
    except NameError:  # an annotation in quotes, of a class that only its own function knows
        return []


def cached_steps(spec: PipelineSpec, session: Session) -> frozenset[str]:
    """Return the names of the steps that the session's step cache serves, children and fallbacks too."""
    if session.steps is None or session.cache is None:
        return frozenset()
    return frozenset(step.name for step in spec.all_steps() if is_cached(step))


# What a plan says


def noted(spec: PipelineSpec, routes: Iterable[Route], *, on: bool) -> tuple[Route, ...]:
    """Return the routes with a word on caching where a step or its directive asks for it."""
    notes: dict[str, str] = {}
    _collect(spec, "", notes, on=on)
    return tuple(
        replace(route, reason=f"{route.reason}; {notes[route.step]}") if route.step in notes else route for route in routes
    )


def _collect(spec: PipelineSpec, prefix: str, notes: dict[str, str], *, on: bool) -> None:
    for step in spec.all_steps():
        said = _note(step, asked=spec.defaults.ttl_s is not None or spec.defaults.cache is True, on=on)
        if said:
            notes[prefix + step.name] = said
        if step.kind == "pipeline" and isinstance(step.callable, PipelineSpec):
            _collect(step.callable, f"{prefix}{step.name}/", notes, on=on)


def _note(step: Step, *, asked: bool, on: bool) -> str:  # noqa: PLR0911 - one return a case
    if is_cached(step):
        if not on:
            return "not cached: the session has no cache"
        try:
            step_key(step, {})
        except Unkeyable as why:
            return f"not cached: {why}"
        return "cached" if step.ttl_s is None else f"cached for {write_duration(step.ttl_s)}"
    if step.cache is False or step.kind in _LM_KINDS or step.kind == "template":
        return ""
    if step.kind in _CALLS:
        asked = asked or step.ttl_s is not None
        return "not cached: not known to be pure (cache=True or @dx.pure says so)" if asked else ""
    if step.cache is True:
        inner = "its steps" if step.kind in ("parallel", "pipeline") else "its LM calls"
        return f"not cached as a whole: {inner} are, one by one"
    return ""
