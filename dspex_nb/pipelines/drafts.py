"""`StepDraft`: a step before its fields are known, and `draft`: how each constructor reads its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, cast

from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.pipelines.places import NOWHERE, Place
from dspex_nb.pipelines.targets import (
    Parameter,
    Parameters,
    constructor_names,
    fields_of_module,
    is_signature,
    kind_of,
    parameters_of_function,
    parameters_of_signature,
    return_type,
    spec_of,
    takes_signature,
)
from dspex_nb.signatures import MISSING, Signature

STEP_OPTIONS = ("engine", "adapter", "pool", "cache", "ttl", "retry", "timeout_s", "on_error", "when", "over")
"""Options that every step takes."""

_LM = (
    "temperature", "max_tokens", "n", "rollout_id", "config", "demos", "top_p", "stop", "seed", "presence_penalty",
    "frequency_penalty", "reasoning_effort",
)  # fmt: skip
OPTIONS: dict[str, tuple[str, ...]] = {
    "predict": _LM,
    "chain_of_thought": _LM,
    "react": ("tools", "max_iters"),
    "react_v2": ("tools", "max_iters"),
    "program_of_thought": ("max_iters", "interpreter_factory"),
    "code_act": ("tools", "max_iters", "interpreter_factory"),
    "rlm": ("max_iters", "max_llm_calls", "max_output_chars", "verbose", "tools", "sub_lm", "interpreter_factory"),
    "best_of_n": ("N", "reward_fn", "threshold", "fail_count"),
    "refine": ("N", "reward_fn", "threshold", "fail_count"),
    "multi_chain_comparison": ("chains", "aggregation", *_LM),
    "knn": ("k", "trainset", "vectorizer"),
    "native": (),
    "module": (),
    "template": (),
    "parallel": ("merge", "k"),
    "retriever": (),
    "rerank": (),
    "respond": (),
}
"""Each constructor, and the options it takes beside `STEP_OPTIONS`."""

_NEEDED = {
    "react": ("tools",), "react_v2": ("tools",), "code_act": ("tools",), "best_of_n": ("N", "reward_fn", "threshold"),
    "refine": ("N", "reward_fn", "threshold"), "knn": ("k", "trainset"),
}  # fmt: skip
_HIDDEN = {
    "chain_of_thought": ("reasoning",),
    "react": ("reasoning", "trajectory"),
    "react_v2": ("reasoning", "history", "termination_reason"),
    "program_of_thought": ("reasoning",),
    "code_act": ("reasoning", "trajectory"),
    "rlm": ("trajectory", "final_reasoning"),
    "best_of_n": ("reasoning",),
    "refine": ("reasoning",),
    "multi_chain_comparison": ("rationale", "reasoning"),
    "module": ("reasoning", "trajectory", "rationale", "history"),
}
_LATER = {"retriever", "rerank", "respond"}
SIGNATURE_KINDS = frozenset(OPTIONS) - {"native", "module", "template", "parallel"} - _LATER
"""Constructors whose first argument is a signature."""

NOT_CHILDREN = frozenset({"merge", "k", "query", "filter", *STEP_OPTIONS})
"""Keywords of `parallel` that never name a child."""


@dataclass(frozen=True, slots=True)
class BareName:
    """A name alone in an argument: a field if one has that name, else the user's variable (`value`, `MISSING` if none)."""

    name: str
    value: Any = MISSING


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """An expression of the cell, compiled, evaluated only after the whole cell was checked.

    Attributes:
        text: Its source.
        names: The names it needs from outside itself, each with whether the user has it.
        evaluate: Evaluates it in the user's namespace.
        parameters: A lambda's parameters, required or not; None for every other expression.
        predicate: Makes the expression a function of the given fields, for `when=`.
    """

    text: str
    names: Mapping[str, bool]
    evaluate: Callable[[], Any]
    parameters: Mapping[str, bool] | None
    predicate: Callable[[Sequence[str]], Deferred]


@dataclass(frozen=True, slots=True)
class Construct:
    """A module class to be called with `options` once the whole cell was checked."""

    cls: type
    options: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument's value (plain, `FieldRef`, `BareName`, `Deferred`, `StepDraft`) and where it stands."""

    value: Any
    place: Place = NOWHERE

    @property
    def user(self) -> Any:
        """The value where no field is meant: a bare name is the user's variable."""
        return self.value.value if isinstance(self.value, BareName) else self.value


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step as its constructor was called. `outputs` None means one field named after the step, of type `gives`."""

    constructor: str
    kind: str
    target: Any = None
    signature: Signature | None = None
    parameters: Parameters = field(default_factory=Parameters)
    outputs: Mapping[str, Any] | None = None
    gives: Any = Any
    bindings: Mapping[str, Argument] = field(default_factory=dict)
    options: Mapping[str, Argument] = field(default_factory=dict)
    settings: Mapping[str, Argument] = field(default_factory=dict)
    children: tuple[tuple[str, StepDraft], ...] = ()
    place: Place = NOWHERE

    @property
    def hidden(self) -> tuple[str, ...]:
        """Outputs reachable only as `step.name`."""
        return tuple(name for name in _HIDDEN.get(self.kind, ()) if name not in (self.outputs or {}))

    def with_binding(self, name: str, argument: Argument) -> StepDraft | None:
        """Return the draft with a parameter bound, unless it is bound already; None if nothing in it has that parameter."""
        if self.constructor == "parallel":
            changed = [(label, child.with_binding(name, argument)) for label, child in self.children]
            if all(child is None for _, child in changed):
                return None
            kept = zip(changed, self.children, strict=True)
            return replace(self, children=tuple((label, child or old) for (label, child), (_, old) in kept))
        if name not in self.parameters.names and not self.parameters.open:
            return None
        return self if name in self.bindings else replace(self, bindings={**self.bindings, name: argument})


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor or a target as called: its arguments by position and by keyword, and where."""

    name: str
    args: tuple[Argument, ...]
    keywords: Mapping[str, Argument]
    place: Place = NOWHERE

    def refuse_more_than(self, count: int, expected: str) -> None:
        """Refuse further positional arguments."""
        if len(self.args) > count:
            raise self.args[count].place.syntax_error(
                f"{self.name}(...) takes {expected}, found a further argument",
                "give the others by name: field=value or option=value",
            )


def draft(call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step that a constructor call makes; `types` are the names a signature's text may use.

    Raises:
        PipelineSyntaxError: Arguments missing or of the wrong kind.
        PlanError: An unknown option, or a constructor that this version does not have.
    """
    if call.name in _LATER:
        raise call.place.plan_error(
            f"{call.name}(...) is not in this version of dspex_nb: retrieval comes later",
            "use a Python function that returns the passages, e.g. hits = search(query)",
        )
    if call.name == "parallel":
        return _parallel(call)
    if call.name == "template":
        return _template(call)
    if call.name in SIGNATURE_KINDS:
        return _with_signature(call, types)
    call.refuse_more_than(2, f"a {'function' if call.name == 'native' else 'dspy.Module'} and a signature")
    target = _first(call, "a function" if call.name == "native" else "a dspy.Module class or instance")
    written = call.args[1] if len(call.args) > 1 else call.keywords.get("signature")
    signature = None if written is None else read_signature(written, types)
    rest = replace(call, args=(), keywords={name: value for name, value in call.keywords.items() if name != "signature"})
    return _native(target, signature, rest) if call.name == "native" else _module(target, signature, rest)


def draft_of(target: Any, call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step that runs one of the user's own objects: a function, a module, a pipeline, a native program."""
    kind = kind_of(target)
    if kind == "draft":
        made = cast("StepDraft", target)
        return replace(made, place=made.place if made.place.line else call.place)
    if kind == "pipeline":
        return _pipeline(target, call)
    if kind == "module":
        return _module_call(target, call, types)
    if kind in ("predict", "chain_of_thought"):
        return _program(target, kind, call)
    if kind == "function":
        return _native(Argument(target, call.place), None, call)
    if kind == "signature":
        raise call.place.syntax_error(
            f"{call.name!r} is a signature: it says what goes in and out, not how",
            f"write predict({call.name}) or chain_of_thought({call.name})",
        )
    raise call.place.syntax_error(
        f"{call.name!r} is a {type(target).__name__}; a step runs a constructor, a function, a dspy.Module or a pipeline",
        'write e.g. name = predict("question -> answer")',
    )


def read_signature(argument: Argument, types: Mapping[str, Any]) -> Signature:
    """Return the signature that an argument names or writes out.

    Raises:
        PipelineSyntaxError: It is neither a text nor a signature, or the text cannot be read.
    """
    value, place = argument.user, argument.place
    if isinstance(value, Signature):
        return value
    if isinstance(value, str):
        try:
            return Signature(value, types=types)
        except DSPexError as error:
            reason = getattr(error, "reason", error.message)
            raise place.find(_quoted(reason)).syntax_error(f"in the signature {value!r}: {reason}", error.hint) from None
    if value is MISSING and isinstance(argument.value, BareName):
        known = [name for name, found in types.items() if isinstance(found, Signature)]
        raise place.syntax_error(
            f"no signature is named {argument.value.name!r}",
            f"{did_you_mean(argument.value.name, known)}declare it with %%signature in a cell above",
        )
    if is_signature(value):
        raise place.syntax_error(
            f"{value.__name__} is DSPy's signature class", f"write dx.Signature.from_dspy({value.__name__}) in a cell above"
        )
    found = f"the expression {value.text!r}" if isinstance(value, Deferred) else f"a {type(value).__name__}"
    raise place.syntax_error(f"expected a signature, found {found}", 'write "question -> answer" or the name of a signature')


def _quoted(reason: str) -> str:
    parts = reason.split("'")
    return parts[1] if len(parts) > 2 else "\0"  # noqa: PLR2004 - the first quoted word, where there is one


def _first(call: Call, expected: str) -> Argument:
    if not call.args:
        raise call.place.syntax_error(f"{call.name}(...) needs {expected}", f"write it first: {call.name}(..., ...)")
    argument = call.args[0]
    if isinstance(argument.value, BareName) and argument.user is MISSING:
        raise argument.place.syntax_error(
            f"{argument.value.name!r} is not defined", f"{call.name}(...) needs {expected}; define it in a cell above"
        )
    return argument


class Parts(TypedDict):
    """Keyword arguments of a constructor, sorted."""

    bindings: dict[str, Argument]
    options: dict[str, Argument]
    settings: dict[str, Argument]


def _sorted(call: Call, parameters: Parameters, options: Sequence[str] = ()) -> Parts:
    """Sort keyword arguments into bindings, options and settings; a parameter wins over an option of the same name."""
    sorted_: Parts = {"bindings": {}, "options": {}, "settings": {}}
    for name, argument in call.keywords.items():
        if name in parameters.names:
            sorted_["bindings"][name] = argument
        elif name in options:
            sorted_["options"][name] = argument
        elif name in STEP_OPTIONS:
            sorted_["settings"][name] = argument
        elif parameters.open:
            sorted_["bindings"][name] = argument
        else:
            raise unknown_option(call, name, parameters.names, options)
    return sorted_


def unknown_option(call: Call, name: str, fields: Sequence[str], options: Sequence[str]) -> DSPexError:
    """Return the error of a keyword that is neither a field of the step nor an option."""
    known = [*fields, *options, *STEP_OPTIONS]
    reads = f"; it reads {', '.join(fields)}" if fields else ""
    takes = f"it takes {', '.join((*options, *STEP_OPTIONS))}"
    place = call.keywords[name].place
    return place.plan_error(f"{call.name}(...) has no option {name!r}", f"{did_you_mean(name, known)}{takes}{reads}")


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
    parts = _sorted(call, parameters, OPTIONS[call.name])
    for needed in _NEEDED.get(call.name, ()):
        if needed not in parts["options"]:
            raise call.place.plan_error(f"{call.name}(...) needs {needed}=", f"it takes {', '.join(OPTIONS[call.name])}")
    return StepDraft(
        call.name, call.name, signature=signature, parameters=parameters, outputs=_outputs(signature),
        children=children, place=call.place, **parts,
    )  # fmt: skip


def _outputs(signature: Signature) -> dict[str, Any]:
    return {name: Any if item.untyped else item.type for name, item in signature.outputs.items()}


def _native(target: Argument, signature: Signature | None, call: Call) -> StepDraft:
    function = target.user
    described = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, Deferred) or not callable(function):
        found = f"the expression {function.text!r}" if isinstance(function, Deferred) else f"a {type(function).__name__}"
        raise target.place.syntax_error(
            f"expected a function, found {found}", "define the function in a cell above and give its name"
        )
    own = parameters_of_function(function)
    parameters = own if signature is None else _described(function, own, signature, target.place, call)
    call = _by_position(call, parameters, described)
    parts = _sorted(call, parameters)
    if not own.known and signature is None:
        raise target.place.plan_error(
            f"the parameters of {described!r} cannot be read",
            f'say them: native({described}, "text -> result: int"), or wrap it in a function',
        )
    outputs = None if signature is None else _outputs(signature)
    return StepDraft(
        "native", "function", target=function, signature=signature, parameters=parameters, outputs=outputs,
        gives=return_type(function), place=call.place, **parts,
    )  # fmt: skip


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


def _by_position(call: Call, parameters: Parameters, described: str) -> Call:
    """Return the call with its positional arguments under their parameters' names."""
    if len(call.args) > len(parameters.items):
        expected = f"{len(parameters.items)} arguments ({', '.join(parameters.names) or 'none'})"
        raise call.args[len(parameters.items)].place.syntax_error(
            f"{described}() takes {expected}, found {len(call.args)}", "check the parameters"
        )
    keywords = dict(call.keywords)
    for item, argument in zip(parameters.items, call.args, strict=False):
        if item.name in keywords:
            raise argument.place.syntax_error(
                f"{described}() is given {item.name!r} twice", "give it by position or by name, not both"
            )
        keywords[item.name] = argument
    return replace(call, args=(), keywords=keywords)


def _template(call: Call) -> StepDraft:
    from dspex_nb.templates import Template

    call.refuse_more_than(1, "the template's text")
    argument = _first(call, "the template's text")
    text = argument.user
    if not isinstance(text, str | Template):
        found = f"the expression {text.text!r}" if isinstance(text, Deferred) else f"a {type(text).__name__}"
        raise argument.place.syntax_error(
            f"expected the template's text, found {found}", 'write template("Hello {{ name }}") or a variable that holds the text'
        )
    try:
        template = text if isinstance(text, Template) else Template(text)
    except DSPexError as error:
        raise argument.place.syntax_error(getattr(error, "reason", error.message), error.hint) from None
    parameters = Parameters(tuple(Parameter(name) for name in template.fields))
    return StepDraft(
        "template", "template", target=template, parameters=parameters, gives=str, place=call.place, **_sorted(call, parameters)
    )


def _pipeline(target: Any, call: Call) -> StepDraft:
    spec = spec_of(target)
    assert spec is not None  # noqa: S101 - kind_of said so
    parameters = Parameters(tuple(Parameter(item.name, item.type, item.default, item.required) for item in spec.inputs))
    call = _by_position(call, parameters, spec.name)
    outputs = {name: spec.type_of(ref) for name, ref in spec.result.items()}
    return StepDraft(
        "pipeline",
        "pipeline",
        target=target,
        parameters=parameters,
        outputs=outputs,
        place=call.place,
        **_sorted(call, parameters),
    )


def _program(target: Any, kind: str, call: Call) -> StepDraft:
    """Return the step of a native program (`dx.Predict`), which keeps its demos and its signature."""
    signature: Signature = target.signature
    parameters = parameters_of_signature(signature)
    call = _by_position(call, parameters, call.name)
    outputs = {name: found for name, found in _outputs(signature).items() if kind == "predict" or name != "reasoning"}
    return StepDraft(
        call.name, kind, target=target, signature=signature, parameters=parameters, outputs=outputs, place=call.place,
        **_sorted(call, parameters, _LM),
    )  # fmt: skip


def _module(target: Argument, signature: Signature | None, call: Call) -> StepDraft:
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
        inputs, outputs = parameters_of_signature(signature), _outputs(signature)
    name = getattr(module, "__name__", type(module).__name__)
    if not inputs.known:
        raise target.place.plan_error(
            f"the fields that {name} reads cannot be told", f'say them: module({name}, "question -> answer")'
        )
    if takes_signature(module) and signature is None:
        raise target.place.plan_error(f"{name} is made from a signature", f'write module({name}, "question -> answer")')
    init = constructor_names(module) if isinstance(module, type) else ()
    parts = _sorted(call, inputs, (*init, *(_LM if takes_signature(module) else ())))
    built: Any = module
    if isinstance(module, type) and not takes_signature(module):
        built, parts["options"] = Construct(module, parts["options"]), {}
    return StepDraft(
        "module", "module", target=built, signature=signature, parameters=inputs, outputs=outputs, place=call.place, **parts
    )


def _module_call(target: Any, call: Call, types: Mapping[str, Any]) -> StepDraft:
    """Return the step of `MyModule("question -> answer", k=3)`, `MyModule(k=3)` or `my_module(question=query)`."""
    argument = Argument(target, call.place)
    if takes_signature(target):
        call.refuse_more_than(1, "a signature")
        written = call.args[0] if call.args else call.keywords.get("signature")
        rest = {name: value for name, value in call.keywords.items() if name != "signature"}
        signature = None if written is None else read_signature(written, types)
        return _module(argument, signature, replace(call, args=(), keywords=rest))
    if isinstance(target, type):
        names = Parameters(tuple(Parameter(name) for name in constructor_names(target)))
        return _module(argument, None, _by_position(call, names, target.__name__))
    return _module(argument, None, _by_position(call, fields_of_module(target)[0], call.name))


def _parallel(call: Call) -> StepDraft:
    """Return the step that runs its children at once and writes one field, a dict from label to what the child wrote."""
    children: list[tuple[str, StepDraft]] = []
    keywords: dict[str, Argument] = {}
    for argument in call.args:
        child = as_draft(argument)
        if child is None:
            found = f"the name {argument.value.name!r}" if isinstance(argument.value, BareName) else "a value"
            raise argument.place.syntax_error(
                f"parallel(...) takes steps, found {found}",
                'write constructors or functions: parallel(predict("message -> tone"), detect_language)',
            )
        label, known = label_of(child), {known for known, _ in children}
        children.append((next(name for name in _numbered(label) if name not in known), child))
    for name, argument in call.keywords.items():
        child = None if name in NOT_CHILDREN else as_draft(argument)
        if child is None:
            keywords[name] = argument
        elif any(name == label for label, _ in children):
            raise argument.place.syntax_error(
                f"parallel(...) has two children named {name!r}", "give each a name of its own: tone=predict(...)"
            )
        else:
            children.append((name, child))
    if not children:
        raise call.place.syntax_error(
            "parallel(...) has no step in it", 'write e.g. parallel(tone=predict("message -> tone"), words=count_words)'
        )
    settings = {name: argument for name, argument in keywords.items() if name in STEP_OPTIONS}
    options = {name: argument for name, argument in keywords.items() if name in OPTIONS["parallel"]}
    made = StepDraft("parallel", "parallel", gives=Any if "merge" in options else dict, settings=settings, options=options,
                     children=tuple(children), place=call.place)  # fmt: skip
    for name, argument in keywords.items():
        if name not in settings and name not in options:
            bound = made.with_binding(name, argument)
            if bound is None:
                fields = sorted({field_ for _, child in made.children for field_ in child.parameters.names})
                raise unknown_option(call, name, fields, OPTIONS["parallel"])
            made = bound
    return made


def as_draft(argument: Argument) -> StepDraft | None:
    """Return the step that an argument stands for (constructor call, function, module, pipeline); None for other values."""
    if isinstance(argument.value, StepDraft):
        return argument.value
    target = argument.user
    if target is MISSING or isinstance(target, Deferred) or kind_of(target) in (None, "signature"):
        return None
    name = argument.value.name if isinstance(argument.value, BareName) else getattr(target, "__name__", type(target).__name__)
    return draft_of(target, Call(name, (), {}, argument.place), {})


def label_of(child: StepDraft) -> str:
    """Return the key of an unnamed child in its parent's value: the function's name, its single output, else its kind."""
    if child.kind == "function":
        name = getattr(child.target, "__name__", "function")
        return name if name.isidentifier() else "function"
    if child.kind == "pipeline" and (spec := spec_of(child.target)) is not None:
        return spec.name
    return next(iter(child.outputs)) if child.outputs and len(child.outputs) == 1 else child.kind


def _numbered(label: str) -> Any:
    yield label
    number = 2
    while True:
        yield f"{label}_{number}"
        number += 1
