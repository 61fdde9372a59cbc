"""What a step may run, told from an object without running it: functions, DSPy modules, pipelines, native programs."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dspex_nb.pipelines.records import PipelineSpec
from dspex_nb.signatures import MISSING, Signature


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something a step reads: a signature's input, a function's parameter, a template's variable.

    Attributes:
        said: Only an argument binds it: a field or an input that happens to have its name does not.
    """

    name: str
    type: Any = Any
    default: Any = MISSING
    required: bool = True
    positional: bool = False
    said: bool = False


@dataclass(frozen=True, slots=True)
class Parameters:
    """All that a target reads. `open` says it takes any further keyword; `known` is false where nothing can be told."""

    items: tuple[Parameter, ...] = ()
    open: bool = False
    known: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(item.name for item in self.items)


def kind_of(target: Any) -> str | None:  # noqa: PLR0911 - one return a kind
    """Return "draft", "pipeline", "module", "predict", "chain_of_thought", "retriever", "function", "signature" or None."""
    if type(target).__name__ == "StepDraft" and type(target).__module__.startswith("dspex_nb."):
        return "draft"
    if spec_of(target) is not None:
        return "pipeline"
    if _is_module(target):
        return "module"
    if is_signature(target):
        return "signature"
    if isinstance(_attribute(target, "signature"), Signature) and callable(_attribute(target, "call")):
        return "chain_of_thought" if "ChainOfThought" in type(target).__name__ else "predict"
    if is_retriever(target):
        return "retriever"
    return "function" if callable(target) else None


def is_retriever(target: Any) -> bool:
    """Return whether `target` can be searched: it has `search`, `asearch` and a `version`, as `retrieval.Retriever` says."""
    return not isinstance(target, type) and all(callable(_attribute(target, name)) for name in ("search", "asearch", "add"))


def spec_of(target: Any) -> PipelineSpec | None:
    """Return the spec of a pipeline, None for anything else."""
    if isinstance(target, PipelineSpec):
        return target
    found = None if isinstance(target, type) else _attribute(target, "spec")
    return found if isinstance(found, PipelineSpec) else None


def is_signature(target: Any) -> bool:
    """Return whether `target` is a signature, ours or DSPy's."""
    if isinstance(target, Signature):
        return True
    dspy = sys.modules.get("dspy")
    return dspy is not None and isinstance(target, type) and issubclass(target, dspy.Signature)


def parameters_of_signature(signature: Signature) -> Parameters:
    """Return a signature's inputs; one without an annotation accepts every type."""
    return Parameters(tuple(
        Parameter(name, Any if item.untyped else item.type, item.default_value(), item.required)
        for name, item in signature.inputs.items()
    ))  # fmt: skip


def parameters_of_function(function: Callable[..., Any]) -> Parameters:
    """Return a function's parameters and their annotations."""
    try:
        found = inspect.signature(function)
    except (ValueError, TypeError):  # many builtins do not say
        return Parameters(open=True, known=False)
    hints = _hints(function)
    items = tuple(
        Parameter(
            item.name,
            hints.get(item.name, Any),
            MISSING if item.default is item.empty else item.default,
            item.default is item.empty,
            item.kind is item.POSITIONAL_ONLY,
        )
        for item in found.parameters.values()
        if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
    )
    return Parameters(items, open=any(item.kind is item.VAR_KEYWORD for item in found.parameters.values()))


def return_type(function: Callable[..., Any]) -> Any:
    """Return what a function is annotated to give back, `Any` where it does not say; of a generator, the list it becomes."""
    if isinstance(function, type):
        return function
    hint = _hints(function).get("return", Any)
    if not (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        return hint
    items = typing.get_args(hint)
    return list[items[0]] if items else list  # type: ignore[valid-type]


def fields_of_module(module: Any) -> tuple[Parameters, dict[str, Any] | None]:
    """Return what a `dspy.Module` reads, and its outputs with their types (None: it does not say)."""
    inner = (
        None
        if isinstance(module, type)
        else _attribute(module, "signature") or _attribute(_attribute(module, "predict"), "signature")
    )
    if inner is not None and is_signature(inner) and not isinstance(inner, Signature):
        inputs = tuple(Parameter(name, info.annotation, required=info.is_required()) for name, info in inner.input_fields.items())
        declared = {name: info.annotation for name, info in inner.output_fields.items()}
        if _attribute(module, "signature") is None:
            declared.pop("reasoning", None)  # ChainOfThought put it there: reachable as step.reasoning only
        return Parameters(inputs), declared
    forward = _attribute(module if isinstance(module, type) else type(module), "forward")  # DSPy warns at an object's
    if forward is None:
        return Parameters(open=True, known=False), None
    found = parameters_of_function(forward)
    items = tuple(item for item in found.items if item.name != "self")
    return Parameters(items, found.open, found.known and bool(items)), None


def takes_signature(module: Any) -> bool:
    """Return whether a module class is constructed from a signature, as `dspy.Predict` is."""
    return isinstance(module, type) and "signature" in constructor_names(module)


def constructor_names(cls: type) -> tuple[str, ...]:
    """Return the names that a class's constructor takes."""
    return tuple(name for name in parameters_of_function(_init(cls)).names if name != "self")


def _init(cls: type) -> Any:
    return getattr(cls, "__init__", None)


def _is_module(target: Any) -> bool:
    dspy = sys.modules.get("dspy")  # a module cannot exist before DSPy was imported, so nothing is imported here
    base = getattr(dspy, "Module", None)
    if base is None:
        return False
    return issubclass(target, base) if isinstance(target, type) else isinstance(target, base)


def _attribute(target: Any, name: str) -> Any:
    try:
        return getattr(target, name, None)
    except Exception:  # noqa: BLE001 - a user's property may raise anything; then the object is not what we look for
        return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    subject = _init(function) if isinstance(function, type) else function
    try:
        return typing.get_type_hints(subject)
    except Exception:  # noqa: BLE001 - a name in an annotation that does not exist: then the type is unknown
        return {name: hint for name, hint in getattr(subject, "__annotations__", {}).items() if not isinstance(hint, str)}
