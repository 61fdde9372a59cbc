"""The records of a pipeline: inputs, steps, references between them, and the whole as `PipelineSpec`."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.signatures import MISSING, Signature

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A field of the graph, to be read when the run gets there.

    Attributes:
        name: The field.
        step: The step that writes it, `""` for an input of the pipeline, None while not resolved (`dx.field("name")`).
        keys: Keys within its value: a child's label of a `parallel` step.
    """

    name: str
    step: str | None = None
    keys: tuple[str, ...] = ()

    def read(self, results: Mapping[str, Mapping[str, Any]]) -> Any:
        """Return the value from `results[step][field]` (inputs under `""`); None where it is absent or was skipped."""
        value = results.get(self.step or "", _NOTHING).get(self.name)
        for key in self.keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def __str__(self) -> str:
        return ".".join((*((self.step,) if self.step and self.step != self.name else ()), self.name, *self.keys))


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input of a pipeline; `default` is `MISSING` where a call must give it, `line` 0 where no cell declares it."""

    name: str
    type: Any = Any
    default: Any = MISSING
    line: int = 0
    declared: bool = True

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is MISSING

    def fresh(self) -> Any:
        """Return the default as no run can change it for the next one."""
        return copy.deepcopy(self.default) if isinstance(self.default, list | dict | set) else self.default


@dataclass(frozen=True, slots=True)
class Predicate:
    """A step's `when=`: `function` called with the bound fields by keyword; a false answer skips the step."""

    function: Callable[..., Any]
    bindings: Mapping[str, FieldRef] = field(default_factory=dict)
    text: str = ""

    def holds(self, results: Mapping[str, Mapping[str, Any]]) -> bool:
        """Return whether the step is to run."""
        return bool(self.function(**{name: ref.read(results) for name, ref in self.bindings.items()}))


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before each retry: `wait_s`, then `factor` times as long each time, at most `max_s`.

    `jitter` is the share of it that is left to chance, so that many rows do not try again at the same moment.
    """

    wait_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.5

    def longest_s(self, retry: int) -> float:
        """Return the wait before retry number `retry`, counted from 0, without its jitter."""
        try:
            return float(min(self.max_s, self.wait_s * self.factor**retry))
        except OverflowError:
            return self.max_s


@dataclass(frozen=True, slots=True)
class Step:
    """One step, resolved: what it runs, where each of its parameters comes from, and what it writes.

    Attributes:
        name: Unique in the pipeline; a child of `parallel` is `"parent.label"`, a fallback `"step.on_error"`.
        kind: `"function"`, `"reduce"`, `"predict"`, `"chain_of_thought"`, `"module"`, a DSPy constructor's name (`"react"`, …),
            `"template"`, `"parallel"`, `"retriever"`, `"rerank"`, `"respond"` or `"pipeline"`.
        line: Cell line, 0 if built in plain Python; `column` from 0; `text` is the statement.
        signature: Inputs and outputs where the step has a signature.
        callable: The function, the `dspy.Module` instance (a class if it takes the signature), the `Template`, the retriever,
            the inner `PipelineSpec`, a native program (`dx.Predict`), or None.
        options: The constructor's options: `temperature`, `tools`, `merge`, …
        bindings: Every parameter the step is given: a resolved `FieldRef`, or a value. Parameters absent here use their default.
        positional: Parameters that the function takes by position only, in order.
        writes: The fields it writes. One field: the value itself. Several: a mapping, or a tuple in this order.
        hidden: Further outputs, reachable only as `step.name` (`reasoning`).
        types: The type of each field it writes.
        children: `parallel`'s steps (its value is a dict from label to value, or to a dict of outputs where a child has several;
            `options["merge"]`, if given, is called with that dict); the inner step of `best_of_n` and `refine`.
        on_error: `"stop"`, `"skip"`, or the fallback step, which writes the same fields.
        over: Parameters that receive one element at a time of the list bound to them; every field written becomes a list. Of
            `parallel`: the labels of the children that go through the list.
        texts: Parameters that read text: passages given to them arrive as their texts.
        backoff: How long to wait before each retry.
        made_with: The arguments that a `dspy.Module` instance written in the cell was made with.
        state: What an optimizer found for it, in DSPy's saved form: demos, instructions, descriptions; None for an untuned step.
        cache: True or False if said, None if not (LM calls are cached all the same).
        pure: The function is marked `@dx.pure`, or the step says `cache=True`: its result may be reused.
    """

    name: str
    kind: str
    line: int = 0
    column: int = 0
    text: str = ""
    signature: Signature | None = None
    callable: Any = None
    engine: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    bindings: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    types: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Step, ...] = ()
    on_error: str | Step = "stop"
    retry: int = 0
    backoff: Backoff = Backoff()
    timeout_s: float | None = None
    when: Predicate | None = None
    over: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    cache: bool | None = None
    ttl_s: float | None = None
    pool: Any = None
    adapter: Any = None
    sources: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """The last part of the name: a child's key in its parent's value."""
        return self.name.rpartition(".")[2]

    @property
    def pure(self) -> bool:
        """Whether the same inputs may reuse an earlier result without running it."""
        return self.cache is True or (self.cache is None and bool(getattr(self.callable, "__dspex_pure__", False)))

    @property
    def refs(self) -> tuple[FieldRef, ...]:
        """Every field the step needs before it can start: its own, its predicate's, its children's and its fallback's."""
        return tuple(dict.fromkeys(self._refs()))

    def _refs(self) -> Iterator[FieldRef]:
        yield from (value for value in self.bindings.values() if isinstance(value, FieldRef))
        if self.when is not None:
            yield from self.when.bindings.values()
        for inner in (*self.children, *([self.on_error] if isinstance(self.on_error, Step) else [])):
            yield from inner.refs


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the directives of a cell say for all steps; each step holds the outcome already."""

    cache: bool | None = None
    ttl_s: float | None = None
    retry: int = 0
    on_error: str = "stop"


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline that was read and checked: it has an order, each field one writer a version, each reader a writer."""

    name: str
    inputs: tuple[InputSpec, ...]
    steps: tuple[Step, ...]
    defaults: Defaults = Defaults()
    source: str = ""

    def __getitem__(self, name: str) -> Step:
        """Return a step by name, children and fallbacks too."""
        for step in self.all_steps():
            if step.name == name:
                return step
        raise KeyError(name)

    def all_steps(self) -> Iterator[Step]:
        """Yield the steps in cell order, each followed by its children and its fallback."""
        stack = list(reversed(self.steps))
        while stack:
            step = stack.pop()
            yield step
            fallback = [step.on_error] if isinstance(step.on_error, Step) else []
            stack.extend(reversed([*step.children, *fallback]))

    def edges(self) -> list[tuple[str, str]]:
        """Return (writer, reader) for each pair of steps that share a field, in cell order."""
        return list(dict.fromkeys((ref.step, step.name) for step in self.steps for ref in step.refs if ref.step))

    def order(self) -> list[Step]:
        """Return the steps so that each comes after those it reads from; cell order where data leaves it open."""
        place = {step.name: at for at, step in enumerate(self.steps)}
        needs = {step.name: {ref.step for ref in step.refs if ref.step} for step in self.steps}
        feeds: dict[str, list[str]] = {name: [] for name in place}
        for name, writers in needs.items():
            for writer in writers:
                feeds[writer].append(name)
        waiting = {name: len(writers) for name, writers in needs.items()}
        ready = [place[name] for name, count in waiting.items() if not count]
        ordered: list[Step] = []
        while ready:  # linking refused cycles, so this reaches every step
            step = self.steps[heapq.heappop(ready)]
            ordered.append(step)
            for name in feeds[step.name]:
                waiting[name] -= 1
                if not waiting[name]:
                    heapq.heappush(ready, place[name])
        return ordered

    def levels(self) -> list[tuple[str, ...]]:
        """Return the steps in rounds: those of one round need nothing of each other and may run at once."""
        depth: dict[str, int] = {}
        for step in self.order():
            depth[step.name] = max((depth[ref.step] + 1 for ref in step.refs if ref.step), default=0)
        rounds: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for step in self.steps:
            rounds[depth[step.name]].append(step.name)
        return [tuple(names) for names in rounds]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The steps nobody reads from."""
        read = {writer for writer, _ in self.edges()}
        return tuple(step.name for step in self.steps if step.name not in read)

    @property
    def result(self) -> dict[str, FieldRef]:
        """The fields of the result: what the steps nobody reads from write."""
        written = {step.name: step.writes for step in self.steps}
        return {name: FieldRef(name, step) for step in self.outputs for name in written[step]}

    @property
    def fields(self) -> dict[str, FieldRef]:
        """Every shared field in its last version, inputs first."""
        inputs = {spec.name: FieldRef(spec.name, "") for spec in self.inputs}
        return inputs | {name: FieldRef(name, step.name) for step in self.order() for name in step.writes}

    def type_of(self, ref: FieldRef) -> Any:
        """Return the type of a field; `Any` where nothing says."""
        if ref.keys:
            return Any
        if not ref.step:
            return next((spec.type for spec in self.inputs if spec.name == ref.name), Any)
        return self[ref.step].types.get(ref.name, Any)
