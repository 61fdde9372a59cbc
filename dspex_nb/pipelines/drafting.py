"""`draft`: the step that a constructor call makes, and `draft_of`: the one that an object of the user's makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from dspex_nb.errors import DSPexError
from dspex_nb.pipelines.arguments import Argument, BareName, Call, Construct, Deferred
from dspex_nb.pipelines.drafts import StepDraft, outputs_of, read_signature
from dspex_nb.pipelines.functions import function_step, reduce_step
from dspex_nb.pipelines.grouping import parallel_step
from dspex_nb.pipelines.options import NEEDED, OPTIONS, SIGNATURE_KINDS, sort
from dspex_nb.pipelines.programs import called_module, module_step, pipeline_step, program_step
from dspex_nb.pipelines.retrieving import colbertv2_step, rerank_step, respond_step, retriever_step, searching
from dspex_nb.pipelines.targets import Parameter, Parameters, kind_of, parameters_of_signature, spec_of
from dspex_nb.signatures import MISSING


def draft(call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step that a constructor call makes; `types` are the names a signature's text may use.

    Raises:
        PipelineSyntaxError: Arguments missing or of the wrong kind.
        PlanError: An unknown option, or a constructor that this version does not have.
    """
    if call.name in _MAKERS:
        return _MAKERS[call.name](call)
    if call.name in SIGNATURE_KINDS:
        return _with_signature(call, types)
    call.refuse_more_than(2, f"a {'function' if call.name == 'native' else 'dspy.Module'} and a signature")
    target = call.first("a function" if call.name == "native" else "a dspy.Module class or instance")
    if call.name == "module" and kind_of(target.user) == "pipeline":
        return pipeline_step(target.user, replace(call, args=call.args[1:]))
    written, rest = call.take_signature(1)
    signature = None if written is None else read_signature(written, types)
    return function_step(target, signature, rest) if call.name == "native" else module_step(target, signature, rest)


def draft_of(target: Any, call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step that runs one of the user's own objects: a function, a module, a pipeline, a native program."""
    kind = kind_of(target)
    if kind == "draft":
        made = cast("StepDraft", target)
        return replace(made, place=made.place if made.place.line else call.place)
    if kind == "pipeline":
        return pipeline_step(target, call)
    if kind == "module":
        return called_module(target, call, types)
    if kind in ("predict", "chain_of_thought"):
        return program_step(target, kind, call)
    if kind == "retriever":
        return searching(target, call)
    if kind == "function":
        return function_step(Argument(target, call.place), None, call)
    if kind == "signature":
        raise call.place.syntax_error(
            f"{call.name!r} is a signature: it says what goes in and out, not how",
            f"write predict({call.name}) or chain_of_thought({call.name})",
        )
    raise call.place.syntax_error(
        f"{call.name!r} is a {type(target).__name__}; a step runs a constructor, a function, a dspy.Module or a pipeline",
        'write e.g. name = predict("question -> answer")',
    )


def as_draft(argument: Argument) -> StepDraft | None:
    """Return the step that an argument stands for (constructor call, function, module, pipeline); None for other values."""
    if isinstance(argument.value, StepDraft):
        return argument.value
    target = argument.user
    if target is MISSING or isinstance(target, Deferred) or kind_of(target) in (None, "signature"):
        return None
    name = argument.value.name if isinstance(argument.value, BareName) else getattr(target, "__name__", type(target).__name__)
    return draft_of(target, Call(name, (), {}, argument.place), {})


def _with_signature(call: Call, types: Mapping[str, Any]) -> StepDraft:
    call.refuse_more_than(1, "a signature")
    if not call.args and "signature" not in call.keywords:
        raise call.place.syntax_error(
            f"{call.name}(...) needs a signature", f'write {call.name}("question -> answer") or {call.name}(MySignature)'
        )
    first = call.args[0] if call.args else call.keywords["signature"]
    call = replace(call, keywords={name: value for name, value in call.keywords.items() if name != "signature" or call.args})
    children: tuple[tuple[str, StepDraft], ...] = ()
    if isinstance(first.value, StepDraft) and call.name in ("best_of_n", "refine") and first.value.signature is not None:
        children, signature = (("inner", first.value),), first.value.signature
    else:
        signature = read_signature(first, types)
    parameters = parameters_of_signature(signature)
    parts = sort(call, parameters, OPTIONS[call.name])
    for needed in NEEDED.get(call.name, ()):
        if needed not in parts["options"]:
            raise call.place.plan_error(f"{call.name}(...) needs {needed}=", f"it takes {', '.join(OPTIONS[call.name])}")
    return StepDraft(
        call.name, call.name, signature=signature, parameters=parameters, outputs=outputs_of(signature),
        children=children, place=call.place, **parts,
    )  # fmt: skip


def _template(call: Call) -> StepDraft:
    from dspex_nb.templates import Template

    call.refuse_more_than(1, "the template's text")
    argument = call.first("the template's text")
    text = argument.user
    if not isinstance(text, str | Template):
        raise argument.place.syntax_error(
            f"expected the template's text, found {argument.described}",
            'write template("Hello {{ name }}") or a variable that holds the text',
        )
    try:
        template = text if isinstance(text, Template) else Template(text)
    except DSPexError as error:
        raise argument.place.syntax_error(getattr(error, "reason", error.message), error.hint) from None
    parameters = Parameters(tuple(Parameter(name) for name in template.fields))
    parts = sort(call, parameters, OPTIONS["template"])
    asked = "call" in parts["options"]
    for name in () if asked else parts["options"]:
        raise call.keywords[name].place.plan_error(
            f"template(...) without call=True asks no model, so {name}= has no meaning", "add call=True, or leave it out"
        )
    return StepDraft("template", "template", target=template, parameters=parameters, gives=str, place=call.place, **parts)


def label_of(child: StepDraft) -> str:
    """Return the key of an unnamed child in its parent's value: its signature's one output, the function's name, its kind."""
    if child.kind == "function" and not (child.signature is not None and len(child.outputs or {}) == 1):
        name = getattr(child.target, "__name__", "function")
        return name if name.isidentifier() else "function"
    if child.kind == "retriever":
        found = child.target
        name = found.cls.__name__.partition("'")[2].rstrip("'") if isinstance(found, Construct) else getattr(found, "name", "")
        return str(name) if str(name).isidentifier() else "retriever"
    if child.kind == "pipeline" and (spec := spec_of(child.target)) is not None:
        return spec.name
    return next(iter(child.outputs)) if child.outputs and len(child.outputs) == 1 else child.kind


_MAKERS: dict[str, Callable[[Call], StepDraft]] = {
    "parallel": lambda call: parallel_step(call, as_draft, label_of),
    "template": _template,
    "reduce": reduce_step,
    "colbertv2": colbertv2_step,
    "retriever": retriever_step,
    "rerank": rerank_step,
    "respond": respond_step,
}
