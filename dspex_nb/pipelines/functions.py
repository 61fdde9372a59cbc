"""The step of a Python function, described by its own parameters or by a signature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspex_nb.errors import did_you_mean
from dspex_nb.pipelines.arguments import Argument, Call, Deferred
from dspex_nb.pipelines.drafts import StepDraft, outputs_of
from dspex_nb.pipelines.options import OPTIONS, sort
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import FieldRef
from dspex_nb.pipelines.targets import Parameter, Parameters, parameters_of_function, parameters_of_signature, return_type
from dspex_nb.signatures import Signature


def function_step(target: Argument, signature: Signature | None, call: Call) -> StepDraft:
    """Return the step of a function; without a signature it writes one field, named after the step.

    Raises:
        PipelineSyntaxError: `target` is no function.
        PlanError: Its parameters cannot be read, or are not those of the signature.
    """
    function = target.user
    described = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, Deferred) or not callable(function):
        raise target.place.syntax_error(
            f"expected a function, found {target.described}", "define the function in a cell above and give its name"
        )
    own = parameters_of_function(function)
    parameters = own if signature is None else _described(function, own, signature, target.place, call)
    call = call.by_name(parameters, described)
    parts = sort(call, parameters)
    if not own.known and signature is None:
        raise target.place.plan_error(
            f"the parameters of {described!r} cannot be read",
            f'say them: native({described}, "text -> result: int"), or wrap it in a function',
        )
    outputs = None if signature is None else outputs_of(signature)
    return StepDraft(
        "native", "function", target=function, signature=signature, parameters=parameters, outputs=outputs,
        gives=return_type(function), place=call.place, **parts,
    )  # fmt: skip


def reduce_step(call: Call) -> StepDraft:
    """Return the step of `reduce(fn, over=field, initial=…)`: `fn(so_far, item)` for each element of a list field.

    Further parameters of the function are fields, as in any step.

    Raises:
        PipelineSyntaxError: No function, or none of two parameters.
        PlanError: No `over=`.
    """
    call.refuse_more_than(1, "a function of what was found so far and the next element")
    target = call.first("a function of what was found so far and the next element")
    function = target.user
    described = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, Deferred) or not callable(function):
        raise target.place.syntax_error(
            f"expected a function, found {target.described}",
            "write e.g. reduce(lambda total, n: total + n, over=counts, initial=0)",
        )
    own = parameters_of_function(function)
    if own.known and not (own.open or len(own.items) >= _SO_FAR_AND_NEXT):
        raise target.place.syntax_error(
            f"{described}() takes {len(own.items)} arguments; reduce calls it with what was found so far and the next element",
            "write e.g. def add(total, n): return total + n",
        )
    if "over" not in call.keywords:
        raise call.place.plan_error("reduce(...) needs over=, the list field it goes through", "write e.g. over=counts")
    parameters = Parameters((Parameter("over", list), *own.items[_SO_FAR_AND_NEXT:]))
    return StepDraft(
        "reduce", "reduce", target=function, parameters=parameters, gives=return_type(function), place=call.place,
        **sort(_named_over(call), parameters, OPTIONS["reduce"]),
    )  # fmt: skip


_SO_FAR_AND_NEXT = 2


def _named_over(call: Call) -> Call:
    """Return the call with `over="counts"` as the field of that name, as in every `over=`."""
    over = call.keywords["over"]
    if not isinstance(over.value, str):
        return call
    return replace(call, keywords={**call.keywords, "over": replace(over, value=FieldRef(over.value))})


def _described(function: Any, own: Parameters, signature: Signature, place: Place, call: Call) -> Parameters:
    """Return the parameters of a function that a signature describes: its inputs, then what else the function takes."""
    told = parameters_of_signature(signature)
    if not own.known:  # the signature is all there is; such functions take their arguments by position
        return Parameters(tuple(replace(item, positional=True) for item in told.items))
    needed = [item.name for item in own.items if item.required]
    if len(told.items) == 1 and len(own.items) == 1 and told.names != own.names and not own.open:
        return Parameters((replace(told.items[0], positional=True),))  # one of each: nothing to confuse
    for name in told.names:
        if name not in own.names and not own.open:
            raise place.plan_error(
                f"{function.__name__}() has no parameter {name!r}, which the signature reads",
                f"{did_you_mean(name, own.names)}its parameters are {', '.join(own.names) or 'none'}",
            )
    for name in needed:
        if name not in told.names and name not in call.keywords:
            raise place.plan_error(
                f"{function.__name__}() needs {name!r}, which the signature does not name",
                f"add {name!r} to the signature's inputs or write {name}=...",
            )
    by_position = {item.name for item in own.items if item.positional}
    items = tuple(replace(item, positional=item.name in by_position) for item in told.items)
    # What the signature leaves out keeps the function's default unless an argument binds it.
    extra = tuple(item for item in own.items if item.name not in told.names and item.name in call.keywords)
    return Parameters(items + extra, own.open)
