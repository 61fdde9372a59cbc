"""One call of a DSPy module on our client, from any thread, inside `dspy.context` only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.primitives.prediction import Completions

from dspex_nb.bridge.conversion import to_dspy
from dspex_nb.bridge.lm import BridgeLM, Stopped
from dspex_nb.bridge.programs import dspy_adapter
from dspex_nb.errors import Cancelled, MissingInputError, PlanError, did_you_mean
from dspex_nb.messages import Usage
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature

_LM_OPTIONS = frozenset({
    "temperature", "max_tokens", "max_completion_tokens", "n", "top_p", "top_k", "stop", "seed", "rollout_id", "presence_penalty",
    "frequency_penalty", "logprobs", "reasoning_effort", "response_format", "ttl_s",
})  # fmt: skip

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


@dataclass(frozen=True, slots=True)
class ModuleResult:
    """What a DSPy module returned, and what its calls took. `cached` names a tier if no call was sent at all.

    `completions` holds each candidate's fields where the module asked for several.
    """

    outputs: dict[str, Any]
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    cached: str | None = None
    completions: tuple[dict[str, Any], ...] = ()


def run_module(
    module: Any,
    signature: Signature | None,
    inputs: Mapping[str, Any],
    *,
    client: Any,
    adapter: Any = None,
    cache: Any = None,
    scope: Scope,
    options: Mapping[str, Any] | None = None,
) -> ModuleResult:
    """Run a DSPy module once.

    Args:
        module: A kind (`"react"`, …), a `dspy.Module` class or an instance.
        signature: For kinds and classes; an instance has its own.
        inputs: Its keyword arguments.
        client: Our client, which serves every LM call of it.
        adapter: A name, one of ours or a `dspy.Adapter`; None means the client's default.
        cache: Our cache, or None.
        scope: The run; a stop there ends the call.
        options: Options of the module's constructor, and LM options (`temperature`, `max_tokens`, …).

    Raises:
        Cancelled: The run was stopped.
        PlanError: An unknown kind or option, or an option that is missing.
        MissingInputError: An input of the signature is not there.
    """
    if signature is not None:
        _check_inputs(signature, inputs)
    lm_options, build_options = _split(options or {})
    lm = BridgeLM(client, scope=scope, cache=cache, **lm_options)
    chosen = dspy_adapter(adapter or client.default_adapter, lm)
    try:
        with dspy.context(lm=lm, adapter=chosen, callbacks=[], disable_history=True, trace=[]):
            call = _callable(module, signature, build_options)
            returned = call(**inputs)
    except Stopped as stop:
        raise Cancelled("stopped", hint="what was finished is kept; run again to go on") from stop
    ledger = lm.ledger
    return ModuleResult(_outputs(returned), ledger.usage, ledger.cost, ledger.cached, _completions(returned))


def _callable(module: Any, signature: Signature | None, options: dict[str, Any]) -> Callable[..., Any]:
    if isinstance(module, dspy.Module):
        if options:
            name = next(iter(options))
            raise PlanError(f"option {name!r} cannot be given to an instance", hint="set it where the module is made")
        copied: Callable[..., Any] = module.deepcopy()  # a call may change demos or the LM, and others run at once
        return copied
    if isinstance(module, str):
        return _of_kind(module, signature, options)
    if isinstance(module, type) and issubclass(module, dspy.Module):
        given = (to_dspy(signature),) if signature is not None else ()
        return _construct(module, given, options)
    raise PlanError(f"{module!r} is no DSPy module", hint="give a dspy.Module class or instance, or a kind such as 'react'")


def _of_kind(kind: str, signature: Signature | None, options: dict[str, Any]) -> Callable[..., Any]:
    if kind not in _KINDS:
        raise PlanError(f"there is no module kind {kind!r}", hint=f"{did_you_mean(kind, _KINDS)}kinds: {', '.join(_KINDS)}")
    if signature is None:
        raise PlanError(f"{kind} needs a signature", hint=f"write {kind}('question -> answer')")
    sig = to_dspy(signature)
    if kind in {"best_of_n", "refine"}:
        return _sampled(kind, sig, options)
    if kind == "multi_chain_comparison":
        return _compared(sig, options)
    if kind == "knn":
        return _nearest(sig, options)
    return _construct(getattr(dspy, _KINDS[kind]), (sig,), options)


def _sampled(kind: str, sig: Any, options: dict[str, Any]) -> Callable[..., Any]:
    """BestOfN and Refine wrap a module; given none, a chain of thought over the signature."""
    inner = options.pop("module", None)
    if not isinstance(inner, dspy.Module):
        inner = _construct(inner, (sig,), {}) if isinstance(inner, type) else dspy.ChainOfThought(sig)
    options.setdefault("N", options.pop("n_samples", 3))
    options.setdefault("threshold", 1.0)
    if "reward_fn" not in options:
        raise PlanError(f"{kind} needs reward_fn=", hint="a function reward_fn(inputs, prediction) that returns a number")
    return _construct(getattr(dspy, _KINDS[kind]), (), {"module": inner, **options})


def _compared(sig: Any, options: dict[str, Any]) -> Callable[..., Any]:
    """Sample M chains, then let DSPy's module compare them."""
    count = int(options.pop("M", options.pop("chains", 3)))
    temperature = float(options.pop("temperature", 0.7))
    sample = dspy.ChainOfThought(sig, n=count, temperature=temperature)
    compare = _construct(dspy.MultiChainComparison, (sig,), {"M": count, "temperature": temperature, **options})

    def run(**inputs: Any) -> Any:
        sampled = sample(**inputs).completions
        return compare([sampled[index] for index in range(count)], **inputs)

    return run


def _nearest(sig: Any, options: dict[str, Any]) -> Callable[..., Any]:
    """Predict with the k nearest examples as demos."""
    find = _construct(dspy.KNN, (), {"k": 3, **options})
    predict = dspy.Predict(sig)

    def run(**inputs: Any) -> Any:
        return predict(demos=find(**inputs), **inputs)

    return run


def _construct(cls: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Callable[..., Any]:
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
    made: Callable[..., Any] = cls(*given, **options)
    return made


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    lm = {key: value for key, value in options.items() if key in _LM_OPTIONS}
    return lm, {key: value for key, value in options.items() if key not in _LM_OPTIONS}


def _check_inputs(signature: Signature, inputs: Mapping[str, Any]) -> None:
    missing = [name for name, one in signature.inputs.items() if name not in inputs and one.required]
    if missing:
        raise MissingInputError(f"missing input {missing[0]!r}", hint=f"inputs are: {', '.join(signature.inputs)}")


def _completions(returned: Any) -> tuple[dict[str, Any], ...]:
    found = getattr(returned, "completions", None)
    return tuple(dict(found[index].items()) for index in range(len(found))) if isinstance(found, Completions) else ()


def _outputs(returned: Any) -> dict[str, Any]:
    if isinstance(returned, dspy.Example):  # a Prediction is one
        return dict(returned.items())
    return dict(returned) if isinstance(returned, Mapping) else {"output": returned}
