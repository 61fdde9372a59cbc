"""The constructor calls that would make a pipeline's steps again: what export prints and what a saved file holds."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dspex_nb.pipelines.conditions import truth
from dspex_nb.pipelines.options import OPTIONS
from dspex_nb.pipelines.records import Backoff, FieldRef, PipelineSpec, Step
from dspex_nb.signatures import Signature

_SAID = ("reduce", "retriever", "rerank", "respond")  # some of what these read, they read only where an argument says so
_SETTINGS = ("engine", "adapter", "pool", "cache", "timeout_s")


@dataclass(frozen=True, slots=True)
class Reading:
    """A field as a constructor is given it: `dx.field("triage.reasoning")`."""

    text: str


@dataclass(frozen=True, slots=True)
class Made:
    """A constructor's call. Values are those of the step, with `Reading`s for fields and `Made` for steps inside it.

    Attributes:
        texts: How the cell wrote a value, by keyword; `""` for the first argument.
    """

    constructor: str
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)


ModuleRecipe = Callable[[Any], tuple[type, Signature | None, dict[str, Any], dict[str, Any] | None] | None]
"""Tells of a `dspy.Module` object its class, signature, options and state, if those make it again; else None."""


def call_of(step: Step, spec: PipelineSpec, recipe: ModuleRecipe = lambda _: None) -> Made:
    """Return the call that makes a step of `spec` again; `recipe` is asked for module objects that no cell wrote."""
    return _Calls(spec, recipe, _at(step, spec)).call(step)


@dataclass(frozen=True, slots=True)
class _Calls:
    """The calls of one line of a pipeline: those of a step, of its children and of its fallback."""

    spec: PipelineSpec
    recipe: ModuleRecipe
    at: int

    def call(self, step: Step, *, whole: bool = False) -> Made:
        """Return the call; `whole` writes every binding, as a fallback must, which inherits those it does not say."""
        program = step.callable if step.kind in ("predict", "chain_of_thought") else None
        whole = whole or step.kind in _SAID
        bound = {
            name: self.value(value)
            for name, value in step.bindings.items()
            if "." not in name and (whole or not self.implied(name, value))  # a template's own text says `gist.reasoning`
        }
        parts = {child.label: self.call(_staying(child, step), whole=whole) for child in step.children if step.kind == "parallel"}
        args, options = self.first(step, program)
        settings = {**self.settings(step), **_learned(step, program)}
        texts = {**step.sources, "": _target_text(step)} | ({} if step.when is None else {"when": step.when.text})
        return Made(_constructor(step), args, {**parts, **bound, **options, **step.options, **settings}, texts)

    def implied(self, name: str, value: Any) -> bool:
        """Whether a parameter finds its field by its own name."""
        return isinstance(value, FieldRef) and not value.keys and value.name == name and value == self.plain(name)

    def first(self, step: Step, program: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments by position, which say what runs, and the options that come with it."""
        signature = () if step.signature is None else (step.signature,)
        if step.kind == "parallel":
            return (), {}
        if program is not None:
            return (program.base_signature,), {**program.lm_options, **_given("adapter", program.adapter)}
        if step.children:
            return tuple(self.call(child) for child in step.children), {}
        if step.kind == "retriever" and "" in step.sources:
            return (step.callable.name,), dict(step.made_with)
        if step.kind == "module" and not isinstance(step.callable, type):
            return self.module(step, signature)
        return (signature if step.callable is None else (step.callable, *signature)), {}

    def module(self, step: Step, signature: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return how an object of a module class is made: as the cell wrote it, else as its recipe says, else itself."""
        if "" in step.sources:
            return (type(step.callable), *signature), dict(step.made_with)
        found = self.recipe(step.callable)
        if found is None:
            return (step.callable, *signature), {}
        cls, own, options, state = found
        return (cls, *(signature if own is None else (own,))), {**options, **_given("state", state)}

    def settings(self, step: Step) -> dict[str, Any]:
        """Return the step options that are not as they would be anyway."""
        found = {name: getattr(step, name) for name in _SETTINGS if getattr(step, name) is not None}
        found |= _given("ttl", step.ttl_s) | _given("retry", step.retry or None)
        if step.backoff != Backoff():
            found["backoff"] = asdict(step.backoff)
        if isinstance(step.on_error, Step):
            found["on_error"] = self.call(step.on_error, whole=True)
        elif step.on_error != "stop":
            found["on_error"] = step.on_error
        if step.when is not None:
            ref = next(iter(step.when.bindings.values()), None)
            alone = step.when.function is truth and ref is not None
            found["when"] = self.value(ref) if alone else step.when.function
        over = _list_of(step)
        return found | _given("over", None if over is None else self.value(over))

    def value(self, value: Any) -> Any:
        """Return a binding's value, or the field it reads as it is written."""
        if not isinstance(value, FieldRef):
            return value
        if value.keys:
            return Reading(".".join((str(value.step), *value.keys)))
        return Reading(value.name if value == self.plain(value.name) else f"{value.step}.{value.name}")

    def plain(self, name: str) -> FieldRef:
        """Return what a field's bare name means in this line: its last version before, as linking found it."""
        writers = [(number, one) for number, one in enumerate(self.spec.steps) if name in one.writes]
        remakers = [
            (number, one) for number, one in writers if any(ref.name == name and ref.step != one.name for ref in one.refs)
        ]
        earlier = [one.name for number, one in remakers if number < self.at]
        first = next((one.name for number, one in writers if (number, one) not in remakers), "")
        return FieldRef(name, earlier[-1] if earlier else first)


def _list_of(step: Step) -> Any:
    """Return what a step goes through, a parallel step by way of its children; None if through nothing."""
    if step.kind == "parallel":
        return next((found for child in step.children if child.label in step.over and (found := _list_of(child))), None)
    return next((value for name, value in step.bindings.items() if name in step.over), None)


def _staying(child: Step, parent: Step) -> Step:
    """Return a child without the `over=` that it has from its parent."""
    return replace(child, over=(), children=tuple(_staying(inner, child) for inner in child.children)) if parent.over else child


def _given(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _constructor(step: Step) -> str:
    if step.kind in OPTIONS:
        return step.kind
    return "native" if step.kind == "function" else "module"


def _learned(step: Step, program: Any) -> dict[str, Any]:
    """Return what was learned: the step's own state, else that of the program it runs where there is any."""
    if step.state is not None or program is None:
        return _given("state", step.state)
    state = program.dump_state()
    inner = state.get("predict", state)
    reasoning = program.signature.fields.get("reasoning")
    described = "predict" in state and reasoning is not None and bool(reasoning.desc or reasoning.extra)
    return {"state": state} if inner["demos"] or described else {}


def _at(step: Step, spec: PipelineSpec) -> int:
    name = step.name.partition(".")[0]
    return next(number for number, one in enumerate(spec.steps) if one.name == name)


def _target_text(step: Step) -> str:
    """Return how the cell wrote what the step runs, where that is a name or a lambda."""
    try:
        tree = ast.parse(step.text).body
    except SyntaxError:
        return ""
    node: Any = getattr(tree[0], "value", None) if tree else None
    if isinstance(node, ast.Call):
        makes = isinstance(node.func, ast.Name) and node.func.id in OPTIONS
        node = (node.args[0] if node.args else None) if makes else node.func
    return ast.unparse(node) if isinstance(node, ast.Lambda | ast.Name) else ""
