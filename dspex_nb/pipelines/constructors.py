"""The constructors as plain Python calls (`dx.predict`, `dx.native`, …) and `build`, which joins them to a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dspex_nb.errors import PlanError
from dspex_nb.pipelines.arguments import Argument, Call
from dspex_nb.pipelines.drafting import as_draft, draft
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.fields import InputDraft
from dspex_nb.pipelines.linking import link
from dspex_nb.pipelines.options import STEP_OPTIONS
from dspex_nb.pipelines.places import NOWHERE
from dspex_nb.pipelines.records import Defaults, FieldRef, InputSpec, PipelineSpec
from dspex_nb.pipelines.settings import directive
from dspex_nb.signatures import MISSING
from dspex_nb.signatures.types import TypeReadError, is_type, read_type

_F = TypeVar("_F", bound=Callable[..., Any])


def field(name: str) -> FieldRef:
    """Return a reference to a field, for arguments of constructors: `dx.field("desk")`, `dx.field("triage.reasoning")`."""
    step, _, rest = name.partition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        raise PlanError(f"field({name!r}): expected a field's name or step.field", hint='write e.g. dx.field("desk")')
    if not rest:
        return FieldRef(name)
    first, *keys = rest.split(".")
    return FieldRef(first, step, tuple(keys))


def pure(function: _F) -> _F:
    """Declare that a function's result depends on its arguments only, so that the step cache may reuse it."""
    function.__dspex_pure__ = True  # type: ignore[attr-defined]
    return function


def _constructor(function: _F) -> _F:
    function.__dspex_constructor__ = function.__name__  # type: ignore[attr-defined]  # `dx.predict(...)` works in a cell too
    return function


def _draft(name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> StepDraft:
    call = Call(name, tuple(Argument(value) for value in args), {key: Argument(value) for key, value in keywords.items()})
    return draft(call, {})


@_constructor
def native(function: Callable[..., Any], signature: Any = None, /, **arguments: Any) -> StepDraft:
    """Make a step of a Python function; with a signature it writes its outputs, else one field named after the step."""
    return _draft("native", (function,) if signature is None else (function, signature), arguments)


@_constructor
def predict(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step that asks the LM once: `predict("message -> desk", message=dx.field("text"), temperature=0)`."""
    return _draft("predict", (signature,), arguments)


@_constructor
def chain_of_thought(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step that lets the LM reason first; the reasoning is at `step.reasoning` only.

    `reasoning_extraction=True` takes a reasoning model's own reasoning; `advanced=True` allows DSPy's `rationale_field=`.
    Both are served by DSPy.
    """
    return _draft("chain_of_thought", (signature,), arguments)


@_constructor
def react(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's ReAct: `tools=[…]`, `max_iters=`."""
    return _draft("react", (signature,), arguments)


@_constructor
def react_v2(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's ReActV2: `tools=[…]`, `max_iters=`."""
    return _draft("react_v2", (signature,), arguments)


@_constructor
def program_of_thought(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's ProgramOfThought: `max_iters=`."""
    return _draft("program_of_thought", (signature,), arguments)


@_constructor
def code_act(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's CodeAct: `tools=[…]`, `max_iters=`."""
    return _draft("code_act", (signature,), arguments)


@_constructor
def rlm(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's RLM: `max_iters=`, `max_llm_calls=`, `tools=`."""
    return _draft("rlm", (signature,), arguments)


@_constructor
def best_of_n(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's BestOfN: a signature or a step such as `predict(…)`, then `N=`, `reward_fn=`, `threshold=`."""
    return _draft("best_of_n", (signature,), arguments)


@_constructor
def refine(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of DSPy's Refine: a signature or a step such as `predict(…)`, then `N=`, `reward_fn=`, `threshold=`."""
    return _draft("refine", (signature,), arguments)


@_constructor
def multi_chain_comparison(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step of several sampled chains of thought, `chains=3` unless said.

    `aggregation="compare"` lets the model compare them (DSPy's module); `"majority"` counts equal answers; `"weighted_vote"`
    counts them by the model's own confidence, which is at `step.confidence`, as the votes are at `step.votes`.
    """
    return _draft("multi_chain_comparison", (signature,), arguments)


@_constructor
def knn(signature: Any, /, **arguments: Any) -> StepDraft:
    """Make a step that asks with the nearest examples as demos: `k=`, `trainset=`, `vectorizer=` (a function of texts)."""
    return _draft("knn", (signature,), arguments)


@_constructor
def module(module: Any, signature: Any = None, /, **arguments: Any) -> StepDraft:
    """Make a step of a `dspy.Module` class or instance; `forward`'s parameters are its fields unless a signature says them."""
    return _draft("module", (module,) if signature is None else (module, signature), arguments)


@_constructor
def template(text: Any, /, **arguments: Any) -> StepDraft:
    """Make a step that fills a Jinja2 template; its variables are the fields it reads, its text the one field it writes.

    With `call=True` the text is sent to the LM as a prompt (after `system=`, if given), and the answer is the field.
    """
    return _draft("template", (text,), arguments)


@_constructor
def parallel(*steps: Any, **arguments: Any) -> StepDraft:
    """Make a step whose children run at once and which writes one field named after it.

    The value is a dict from each child's label to what the child wrote: the value itself where it writes one field, a dict of
    its fields where it writes several. The label is the keyword (`tone=predict("message -> tone")`); a child given by position
    is called by its signature's one output, else by its function's name or its kind, numbered where two would be called alike.
    A child may be a constructor call, a function, a `dspy.Module` or a pipeline. `step.label` reaches one child's value.

    Keywords that are step options (`timeout_s=`, …), `merge=`, `weights=` or `k=` are options; `query=`, `filter=` and every
    other value binds the parameter of that name in each child that has it. Children may also stand in a list or in a dict by
    label.
    `merge="union"|"rrf"|"weighted"|"concat"` makes one list of the children's, at most `k=` long, in which each counts as
    `weights=` say, a number each or a dict by label; `merge=function` is called with the dict and gives the value.
    """
    return _draft("parallel", steps, arguments)


@_constructor
def reduce(function: Callable[..., Any], /, **arguments: Any) -> StepDraft:
    """Make a step that folds a list field: `reduce(fn, over=dx.field("counts"), initial=0)` calls `fn(so_far, item)`.

    Without `initial=` the first element is what was found so far. Further parameters of the function are fields.
    """
    return _draft("reduce", (function,), arguments)


@_constructor
def retriever(kind: Any, /, **arguments: Any) -> Any:
    """Make a retriever, `retriever("bm25", index=texts)`, which is searched by hand or is a step as it is.

    With a field (`query=dx.field("topic")`) or a step option it is a step at once, which reads `query` and `filter=`; several
    queries are each searched and the results fused. `k=` says how many passages.
    """
    if isinstance(kind, str) and not any(name in _OF_STEPS or isinstance(value, FieldRef) for name, value in arguments.items()):
        from dspex_nb.retrieval import retriever as make

        return make(kind, **arguments)
    return _draft("retriever", (kind,), arguments)


@_constructor
def colbertv2(**arguments: Any) -> Any:
    """Make a retriever over a ColBERTv2 server, `colbertv2(url="http://host:8893/api/search")`; otherwise as `retriever`."""
    return retriever("colbertv2", **arguments)


_OF_STEPS = frozenset({"query", "filter", *STEP_OPTIONS}) - {"pool"}
"""Arguments that say the retriever is a step; a store may have a pool of its own."""


@_constructor
def rerank(passages: Any = MISSING, /, **arguments: Any) -> StepDraft:
    """Make a step that puts passages into a better order: `rerank(dx.field("hits"), query=dx.field("query"), method="mmr")`."""
    return _draft("rerank", () if passages is MISSING else (passages,), arguments)


@_constructor
def respond(answer: Any = MISSING, /, **arguments: Any) -> StepDraft:
    """Make a step that formats an answer with citations: `respond(dx.field("answer"), passages=dx.field("ranked"))`."""
    return _draft("respond", () if answer is MISSING else (answer,), arguments)


def build(
    name: str,
    steps: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    cache: bool | None = None,
    ttl: str | float | None = None,
    retry: int = 0,
    on_error: str = "stop",
) -> PipelineSpec:
    """Return the pipeline of plain Python steps, checked as a cell is.

    Args:
        name: The pipeline's name.
        steps: Step name to constructor call, function, `dspy.Module` or pipeline, in order.
        inputs: Input name to type, type text, `(type, default)` or `InputSpec`; inferred from the steps if None or empty.
        cache: Default for all steps, as the directive `cache(...)`.
        ttl: How long cached results live: `"1h"` or seconds.
        retry: Default for all steps.
        on_error: `"stop"` or `"skip"`, the default for all steps.

    Raises:
        PlanError: A graph that cannot run.
    """
    drafts: list[tuple[str, StepDraft]] = []
    for label, given in steps.items():
        made = as_draft(Argument(given))
        if made is None:
            raise PlanError(
                f"the step {label!r} is a {type(given).__name__}; "
                "expected a constructor call, a function, a dspy.Module or a pipeline",
                hint=f'write e.g. {label}=dx.predict("question -> answer")',
            )
        drafts.append((label, made))
    if not drafts:
        raise PlanError(
            f"the pipeline {name!r} has no step", hint='add one: dx.Pipeline("name", answer=dx.predict("question -> answer"))'
        )
    declared = [_input(label, given) for label, given in (inputs or {}).items()]
    return link(name, declared, drafts, _defaults(cache, ttl, retry, on_error))


def _defaults(
    cache: bool | None,  # noqa: FBT001 - handed on from the keyword of `build`
    ttl: str | float | None,
    retry: int,
    on_error: str,
) -> Defaults:
    found: dict[str, Any] = {}
    for name, values in (("cache", {"enabled": cache, "ttl": ttl}), ("retry", {"n": retry}), ("on_error", {"action": on_error})):
        given = {key: Argument(value) for key, value in values.items() if value is not None}
        if given:
            args = (given.pop("enabled"),) if "enabled" in given else ()
            found = directive(Call(name, args, given, NOWHERE), found)
    return Defaults(**found)


def _input(name: str, given: Any) -> InputDraft:
    default: Any = MISSING
    if isinstance(given, InputSpec):
        given, default = given.type, given.default
    elif isinstance(given, tuple) and len(given) == 2:  # noqa: PLR2004 - (type, default)
        given, default = given
    if isinstance(given, str):
        try:
            given = read_type(given)
        except TypeReadError as error:
            raise PlanError(f"the input {name!r}: {error.message}", hint=error.hint) from None
    if not is_type(given) and given is not None:
        raise PlanError(
            f"the input {name!r}: expected a type, found {given!r}", hint='write e.g. inputs={"message": str} or {"k": (int, 5)}'
        )
    return InputDraft(name, given, None if default is MISSING else Argument(default))
