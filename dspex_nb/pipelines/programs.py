"""The steps of what runs by itself: a `dspy.Module`, a native program, another pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.pipelines.arguments import Argument, Call, Construct, Deferred
from dspex_nb.pipelines.drafts import StepDraft, outputs_of, read_signature
from dspex_nb.pipelines.options import LM_OPTIONS, sort
from dspex_nb.pipelines.targets import (
    Parameter,
    Parameters,
    constructor_names,
    fields_of_module,
    kind_of,
    parameters_of_signature,
    spec_of,
    takes_signature,
)
from dspex_nb.signatures import Signature


def module_step(target: Argument, signature: Signature | None, call: Call) -> StepDraft:
    """Return the step of a `dspy.Module` class or instance; the call's keywords are its arguments and options.

    Raises:
        PipelineSyntaxError: `target` is no module.
        PlanError: The fields it reads cannot be told.
    """
    module = target.user
    if kind_of(module) != "module":
        found = (
            f"the expression {module.text!r}"
            if isinstance(module, Deferred)
            else repr(getattr(module, "__name__", type(module).__name__))
        )
        raise target.place.syntax_error(
            f"expected a dspy.Module class or instance, found {found}", "a plain function goes in native(...)"
        )
    inputs, outputs = fields_of_module(module)
    if signature is not None:
        inputs, outputs = parameters_of_signature(signature), outputs_of(signature)
    name = getattr(module, "__name__", type(module).__name__)
    if not inputs.known:
        raise target.place.plan_error(
            f"the fields that {name} reads cannot be told", f'say them: module({name}, "question -> answer")'
        )
    if takes_signature(module) and signature is None:
        raise target.place.plan_error(f"{name} is made from a signature", f'write module({name}, "question -> answer")')
    init = constructor_names(module) if isinstance(module, type) else ()
    parts = sort(call, inputs, (*init, *(LM_OPTIONS if takes_signature(module) else ())))
    built: Any = module
    if isinstance(module, type) and not takes_signature(module):
        built, parts["options"] = Construct(module, parts["options"]), {}
    return StepDraft(
        "module", "module", target=built, signature=signature, parameters=inputs, outputs=outputs, place=call.place, **parts
    )


def called_module(target: Any, call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step of `MyModule("question -> answer", k=3)`, `MyModule(k=3)` or `my_module(question=query)`."""
    argument = Argument(target, call.place)
    if takes_signature(target):
        call.refuse_more_than(1, "a signature")
        written, rest = call.take_signature(0)
        return module_step(argument, None if written is None else read_signature(written, types), rest)
    if isinstance(target, type):
        names = Parameters(tuple(Parameter(name) for name in constructor_names(target)))
        return module_step(argument, None, call.by_name(names, target.__name__))
    return module_step(argument, None, call.by_name(fields_of_module(target)[0], call.name))


def program_step(target: Any, kind: str, call: Call) -> StepDraft:
    """Return the step of a native program (`dx.Predict`), which keeps its demos and its signature."""
    signature: Signature = target.signature
    parameters = parameters_of_signature(signature)
    call = call.by_name(parameters, call.name)
    outputs = {name: found for name, found in outputs_of(signature).items() if kind == "predict" or name != "reasoning"}
    return StepDraft(
        call.name, kind, target=target, signature=signature, parameters=parameters, outputs=outputs, place=call.place,
        **sort(call, parameters, LM_OPTIONS),
    )  # fmt: skip


def pipeline_step(target: Any, call: Call) -> StepDraft:
    """Return the step that runs a pipeline inside another: it reads its inputs and writes its outputs."""
    spec = spec_of(target)
    assert spec is not None  # noqa: S101 - kind_of said so
    parameters = Parameters(tuple(Parameter(item.name, item.type, item.default, item.required) for item in spec.inputs))
    call = call.by_name(parameters, spec.name)
    outputs = {name: spec.type_of(ref) for name, ref in spec.result.items()}
    return StepDraft(
        "pipeline",
        "pipeline",
        target=target,
        parameters=parameters,
        outputs=outputs,
        place=call.place,
        **sort(call, parameters),
    )
