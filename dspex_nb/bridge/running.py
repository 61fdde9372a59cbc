"""One call of a DSPy module on our client, from any thread, inside `dspy.context` only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.primitives.prediction import Completions
from dspy.utils.exceptions import AdapterParseError as DSPyParseError

from dspex_nb.adapters.accepting import accepted
from dspex_nb.bridge.lm import BridgeLM, Stopped
from dspex_nb.bridge.making import make_module
from dspex_nb.bridge.plans import Inner
from dspex_nb.bridge.programs import dspy_adapter
from dspex_nb.bridge.sandbox import interpreter_factory
from dspex_nb.errors import AdapterParseError, MissingInputError, PipelineError
from dspex_nb.messages import Usage
from dspex_nb.scopes import Scope, stopped
from dspex_nb.signatures import Signature

_LM_OPTIONS = frozenset({
    "temperature", "max_tokens", "max_completion_tokens", "n", "top_p", "top_k", "stop", "seed", "rollout_id", "presence_penalty",
    "frequency_penalty", "logprobs", "reasoning_effort", "response_format", "ttl_s",
})  # fmt: skip


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
    inner: Inner | None = None,
    state: Mapping[str, Any] | None = None,
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
        state: What was learned for it, in DSPy's saved form.
        inner: The step inside `best_of_n` and `refine`; None for a chain of thought over the signature.

    Raises:
        Cancelled: The run was stopped.
        PlanError: An unknown kind or option, or an option that is missing.
        MissingInputError: An input of the signature is not there.
        AdapterParseError: A model's answer does not hold the fields asked for.
    """
    if signature is not None:
        _check_inputs(signature, inputs)
        inputs = accepted(signature, inputs)
    lm_options, build_options = split_options(options or {})
    lm = BridgeLM(client, scope=scope, cache=cache, **lm_options)
    chosen = dspy_adapter(adapter or client.default_adapter, lm)
    try:
        with dspy.context(
            lm=lm,
            adapter=chosen,
            callbacks=[],
            disable_history=True,
            trace=[],
            interpreter_factory=interpreter_factory(scope.cancel),
        ):
            call = make_module(module, signature, build_options, inner)
            if state is not None:
                call.load_state({**state})
            returned = call(**inputs)
        if returned is None and isinstance(call, (dspy.BestOfN, dspy.Refine)):  # they print why, and return nothing
            raise PipelineError("none of its attempts succeeded", hint="run the step inside it alone to see its error")
    except Stopped as stop:
        raise stopped() from stop
    except DSPyParseError as error:
        raise _unread(error) from error
    ledger = lm.ledger
    return ModuleResult(_outputs(returned, signature), ledger.usage, ledger.cost, ledger.cached, _completions(returned))


def _unread(error: DSPyParseError) -> AdapterParseError:
    """Return DSPy's error of an answer that cannot be read as ours, which says in a line what was asked for and what to do."""
    if isinstance(error.__cause__, AdapterParseError):
        return error.__cause__
    asked = ", ".join(map(repr, error.signature.output_fields))
    hint = "run again, raise max_tokens, or use adapter='compact' where the server takes a JSON schema"
    return AdapterParseError(
        f"the answer does not hold {asked}", hint=hint, adapter=error.adapter_name, answer=str(error.lm_response)
    )


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the LM, and the others, which are the module's."""
    lm = {key: value for key, value in options.items() if key in _LM_OPTIONS}
    return lm, {key: value for key, value in options.items() if key not in _LM_OPTIONS}


def _check_inputs(signature: Signature, inputs: Mapping[str, Any]) -> None:
    missing = [name for name, one in signature.inputs.items() if name not in inputs and one.required]
    if missing:
        raise MissingInputError(f"missing input {missing[0]!r}", hint=f"inputs are: {', '.join(signature.inputs)}")


def _completions(returned: Any) -> tuple[dict[str, Any], ...]:
    found = getattr(returned, "completions", None)
    return tuple(dict(found[index].items()) for index in range(len(found))) if isinstance(found, Completions) else ()


def _outputs(returned: Any, signature: Signature | None) -> dict[str, Any]:
    if not isinstance(returned, dspy.Example):  # a Prediction is one
        return dict(returned) if isinstance(returned, Mapping) else {"output": returned}
    found = dict(returned.items())
    if isinstance(found.get("reasoning"), dspy.Reasoning) and (signature is None or "reasoning" not in signature.outputs):
        found["reasoning"] = str(found["reasoning"].content)
    return found
