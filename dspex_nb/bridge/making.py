"""DSPy's modules out of a step's kind, signature and options."""

from __future__ import annotations

import asyncio
import functools
import inspect
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from dspex_nb.bridge.conversion import to_dspy
from dspex_nb.bridge.plans import Inner
from dspex_nb.bridge.programs import program_for
from dspex_nb.errors import PlanError, did_you_mean
from dspex_nb.pools import crew
from dspex_nb.signatures import Signature

_KINDS = {
    "predict": "Predict",
    "chain_of_thought": "ChainOfThought",
    "react": "ReAct",
    "react_v2": "ReActV2",
    "program_of_thought": "ProgramOfThought",
    "code_act": "CodeAct",
    "rlm": "RLM",
    "best_of_n": "BestOfN",
    "refine": "Refine",
    "multi_chain_comparison": "MultiChainComparison",
    "knn": "KNN",
}
_SIZE = 512


def make_module(module: Any, signature: Signature | None, options: dict[str, Any], inner: Inner | None = None) -> Any:
    """Return what runs: a fresh module of a kind or class, or a copy of an instance.

    Args:
        module: A kind (`"react"`, …), a `dspy.Module` class or an instance.
        signature: For kinds and classes.
        options: Those of the constructor; LM options are not among them.
        inner: The step inside `best_of_n` and `refine`.

    Raises:
        PlanError: An unknown kind or option, or an option that is missing.
    """
    if isinstance(module, dspy.Module):
        if options:
            name = next(iter(options))
            raise PlanError(f"option {name!r} cannot be given to an instance", hint="set it where the module is made")
        return module.deepcopy()  # a call may change demos or the LM, and others run at once
    if isinstance(module, str):
        return _of_kind(module, signature, options, inner)
    if isinstance(module, type) and issubclass(module, dspy.Module):
        given = (to_dspy(signature),) if signature is not None else ()
        return _construct(module, given, options)
    raise PlanError(f"{module!r} is no DSPy module", hint="give a dspy.Module class or instance, or a kind such as 'react'")


def _of_kind(kind: str, signature: Signature | None, options: dict[str, Any], inner: Inner | None) -> Any:
    if kind not in _KINDS:
        raise PlanError(f"there is no module kind {kind!r}", hint=f"{did_you_mean(kind, _KINDS)}kinds: {', '.join(_KINDS)}")
    if signature is None:
        raise PlanError(f"{kind} needs a signature", hint=f"write {kind}('question -> answer')")
    sig = to_dspy(signature)
    if kind in {"best_of_n", "refine"}:
        return _sampled(kind, sig, options, inner)
    if kind == "multi_chain_comparison":
        return _Compared(sig, options)
    if kind == "knn":
        return _Nearest(sig, tuple(signature.inputs), options)
    if "tools" in options:
        options["tools"] = [_tool(one) for one in options["tools"]]
    if kind == "chain_of_thought":
        _set_reasoning(options)
    demos = options.pop("demos", None)
    made = _construct(getattr(dspy, _KINDS[kind]), (sig,), options)
    for predictor in made.predictors() if demos else ():
        predictor.demos = [dspy.Example(**demo) for demo in demos or ()]
    return made


def _set_reasoning(options: dict[str, Any]) -> None:
    """`reasoning_extraction=True` is DSPy's `rationale_field_type=dspy.Reasoning`; `advanced=True` only says who serves."""
    options.pop("advanced", None)
    if options.pop("reasoning_extraction", False):
        options.setdefault("rationale_field_type", dspy.Reasoning)


def _sampled(kind: str, sig: Any, options: dict[str, Any], inner: Inner | None) -> Any:
    """BestOfN and Refine wrap a module; given none, a chain of thought over the signature."""
    wrapped = _inner(inner) if inner is not None else dspy.ChainOfThought(sig)
    options.setdefault("N", 3)
    options.setdefault("threshold", 1.0)
    if "reward_fn" not in options:
        raise PlanError(f"{kind} needs reward_fn=", hint="a function reward_fn(inputs, prediction) that returns a number")
    return _construct(getattr(dspy, _KINDS[kind]), (), {"module": wrapped, **options})


def _inner(inner: Inner) -> Any:
    if getattr(inner.module, "base_signature", None) is not None:
        return program_for(inner.module)
    lm_options = {name: value for name, value in inner.options.items() if name != "demos"}
    made = make_module(inner.module, inner.signature, {} if inner.module in ("predict", "chain_of_thought") else lm_options)
    if inner.module in ("predict", "chain_of_thought"):
        for predictor in made.predictors():
            predictor.config = {**predictor.config, **lm_options}
            predictor.demos = [dspy.Example(**demo) for demo in inner.options.get("demos") or ()]
    return made


class _Compared(dspy.Module):  # type: ignore[misc]
    """Samples M chains, then lets DSPy's module compare them."""

    def __init__(self, sig: Any, options: dict[str, Any]) -> None:
        super().__init__()
        options.pop("aggregation", None)
        self.count = int(options.pop("M", options.pop("chains", 3)))
        temperature = float(options.pop("temperature", 0.7))
        self.sample = dspy.ChainOfThought(sig, n=self.count, temperature=temperature)
        self.compare = _construct(dspy.MultiChainComparison, (sig,), {"M": self.count, "temperature": temperature, **options})

    def forward(self, **inputs: Any) -> Any:
        sampled = self.sample(**inputs).completions
        return self.compare([sampled[index] for index in range(self.count)], **inputs)


class _Nearest(dspy.Module):  # type: ignore[misc]
    """Predicts with the k nearest examples as demos."""

    def __init__(self, sig: Any, names: tuple[str, ...], options: dict[str, Any]) -> None:
        super().__init__()
        self.names, self.find = names, _neighbours(names, options)
        self.predict = dspy.Predict(sig)

    def forward(self, **inputs: Any) -> Any:
        ordered = {name: inputs[name] for name in self.names if name in inputs}  # as the examples were written
        return self.predict(demos=self.find(**ordered), **inputs)


_FOUND: dict[tuple[Any, ...], tuple[Any, Any]] = {}
_FEW = 16


def _neighbours(names: tuple[str, ...], options: dict[str, Any]) -> Any:
    """Return DSPy's KNN over the examples, whose vectors are made once: a step hands over the same objects in each run."""
    trainset, vectorizer, k = options["trainset"], options.get("vectorizer"), options.get("k", 3)
    key = (id(trainset), len(trainset), id(vectorizer), k, names)
    kept = _FOUND.get(key)  # once: threads share it, and another may push this one out at any moment
    if kept is None:
        rows = [_example(row, names) for row in trainset]
        found = dspy.KNN(k, rows, _vectors(vectorizer or _hashed))
        for old in list(_FOUND)[: max(0, len(_FOUND) - _FEW + 1)]:
            _FOUND.pop(old, None)
        kept = _FOUND[key] = ((trainset, vectorizer), found)  # held, so that no other object gets their ids
    return kept[1]


def _example(row: Any, names: Sequence[str]) -> Any:
    values = dict(row.items()) if hasattr(row, "items") else dict(row)
    ordered = {name: values.pop(name) for name in names if name in values}
    return dspy.Example(**ordered, **values).with_inputs(*ordered)


def _vectors(vectorizer: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
    import numpy as np

    return lambda texts: np.asarray(vectorizer(texts), dtype=np.float32)


def _hashed(texts: list[str]) -> Any:
    """Return vectors of the words of texts: what stands in where no embedder is given."""
    import numpy as np

    made = np.zeros((len(texts), _SIZE), dtype=np.float32)
    for at, text in enumerate(texts):
        for word in text.lower().split():
            made[at, zlib.crc32(word.encode("utf-8", "replace")) % _SIZE] += 1
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)


def _tool(tool: Any) -> Any:
    """Return a tool that DSPy calls and waits for: an async function runs to its end on a thread of its own."""
    if isinstance(tool, dspy.Tool) or not inspect.iscoroutinefunction(tool):
        return tool

    @functools.wraps(tool)
    def waited(*args: Any, **values: Any) -> Any:
        return crew.start(asyncio.run, tool(*args, **values)).result()

    return waited


def _construct(cls: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    parameters = inspect.signature(cls.__init__).parameters
    takes = {name for name, p in parameters.items() if name not in {"self", "signature"} and p.kind is not p.VAR_KEYWORD}
    # `Predict(**config)` takes anything and hands it to the LM: a misspelt option would travel to the server.
    for name in options:
        if name not in takes:
            hint = f"{did_you_mean(name, takes)}options of {cls.__name__}: {', '.join(sorted(takes)) or 'none'}"
            raise PlanError(f"{cls.__name__} takes no option {name!r}", hint=hint)
    lacking = [
        name
        for name, p in list(parameters.items())[1 + len(given) :]
        if p.default is p.empty and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL} and name not in options
    ]
    if lacking:
        raise PlanError(f"{cls.__name__} needs {lacking[0]}=", hint=f"add {lacking[0]}=… to the step")
    return cls(*given, **options)
