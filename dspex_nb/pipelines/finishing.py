"""The last act of planning: options checked, the user's expressions evaluated, steps made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from dspex_nb.errors import DSPexError
from dspex_nb.pipelines.arguments import Argument, BareName, Construct, Deferred
from dspex_nb.pipelines.conditions import truth
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.matching import mismatch, reads_text
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import Defaults, FieldRef, InputSpec, PipelineSpec, Predicate, Step
from dspex_nb.pipelines.settings import check_setting, with_defaults
from dspex_nb.pipelines.targets import spec_of
from dspex_nb.signatures import MISSING, type_text

if TYPE_CHECKING:
    from dspex_nb.pipelines.nodes import Node

_APART = ("on_error", "when", "over")


def finish(
    name: str,
    inputs: Sequence[tuple[str, Any, Argument | None, int]],
    inferred: Sequence[InputSpec],
    nodes: Sequence[Node],
    defaults: Defaults,
    source: str,
) -> PipelineSpec:
    """Return the pipeline of a checked graph.

    Raises:
        PlanError: An option has an impossible value, or one of the user's expressions raised.
    """
    for node in nodes:
        for inner in node.family():
            _check_options(inner)
    values: dict[int, Any] = {}
    declared = tuple(
        InputSpec(one, found, MISSING if default is None else _default(one, found, default, values), line)
        for one, found, default, line in inputs
    )
    steps = tuple(_step(node, defaults, values) for node in nodes)
    return PipelineSpec(name, (*declared, *inferred), steps, defaults, source)


def _check_options(node: Node) -> None:
    """Check what is known before anything of the user's is evaluated."""
    for name, argument in (*node.draft.options.items(), *node.draft.settings.items()):
        if name not in _APART:
            check_setting(name, argument.user, argument.place, node.draft.constructor)


def _value(argument: Argument, values: dict[int, Any]) -> Any:
    """Return an argument's value; an expression shared by several children is evaluated once."""
    given = argument.user
    if not isinstance(given, Deferred):
        return given
    if id(given) not in values:
        try:
            values[id(given)] = given.evaluate()
        except DSPexError as error:
            raise argument.place.plan_error(f"evaluating {given.text!r}: {error.message}", error.hint) from error
        except Exception as error:  # the user's own code: anything may come
            raise argument.place.plan_error(
                f"evaluating {given.text!r} raised {type(error).__name__}: {_said(error)}", "try it in a cell of its own"
            ) from error
    return values[id(given)]


def _said(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error whose text raises in turn
        return "(it has no text)"


def _default(name: str, kind: Any, argument: Argument, values: dict[int, Any]) -> Any:
    value = _value(argument, values)
    written = Literal[value] if isinstance(value, str | bytes | int) and not isinstance(value, Enum) else type(value)
    if value is not None and mismatch(written, kind):
        raise argument.place.plan_error(
            f"the input {name!r} is {type_text(kind)}, but its default is {value!r:.60}", "change one of the two"
        )
    return value


def _step(node: Node, defaults: Defaults, values: dict[int, Any]) -> Step:
    draft = node.draft
    settings = {
        name: _option(name, given, values, draft.constructor) for name, given in draft.settings.items() if name not in _APART
    }
    options = {name: _option(name, given, values, draft.constructor) for name, given in draft.options.items()}
    bindings = {**{name: _value(given, values) for name, given in node.values.items()}, **node.refs}
    ordered = [item.name for item in draft.parameters.items]
    fallback = None if node.fallback is None else _step(replace_writes(node.fallback, node), defaults, values)
    return Step(
        name=node.name,
        kind=draft.kind,
        line=draft.place.line,
        column=draft.place.column,
        text=draft.place.text,
        signature=draft.signature,
        callable=_target(draft, draft.place, values),
        options=options,
        bindings={
            name: bindings[name]
            for name in sorted(bindings, key=lambda one: ordered.index(one) if one in ordered else len(ordered))
        },
        positional=tuple(item.name for item in draft.parameters.items if item.positional and item.name in bindings),
        reads=_reads(node),
        writes=tuple(node.writes),
        hidden=draft.hidden,
        types=node.writes,
        children=tuple(_step(child, defaults, values) for child in node.children),
        on_error=fallback or node.on_error or defaults.on_error,
        when=_predicate(node, values),
        over=_over(node),
        texts=tuple(item.name for item in draft.parameters.items if _reads_text(item.type, draft)),
        sources=_sources(node),
        made_with=_made_with(draft, values),
        **with_defaults(draft.kind, settings, defaults),
    )


def _over(node: Node) -> tuple[str, ...]:
    """Return the parameters that take the elements of a list, or the labels of the children of `parallel` that go through it."""
    if node.over is None:
        return ()
    if node.draft.kind == "parallel":
        return tuple(child.name.rpartition(".")[2] for child in node.children if child.over is not None)
    return tuple(name for name, ref in node.refs.items() if ref.name == node.over)


def _reads_text(annotation: Any, draft: StepDraft) -> bool:
    """Return whether passages arrive there as their texts: a prompt's untyped field, and whatever is typed so."""
    return reads_text(annotation) or (annotation is Any and draft.signature is not None and draft.kind != "function")


def replace_writes(fallback: Node, node: Node) -> Node:
    """Return the fallback writing its step's fields only: what it gives beside them would have no reader."""
    given = fallback.draft.outputs or {}
    fallback.draft = replace(fallback.draft, outputs={name: given[name] for name in node.writes})
    return fallback


def _option(name: str, argument: Argument, values: dict[int, Any], constructor: str) -> Any:
    return check_setting(name, _value(argument, values), argument.place, constructor)


def _made_with(draft: StepDraft, values: dict[int, Any]) -> dict[str, Any]:
    options = draft.target.options if isinstance(draft.target, Construct) else {}
    return {name: _value(argument, values) for name, argument in options.items()}


def _target(draft: StepDraft, place: Place, values: dict[int, Any]) -> Any:
    target = draft.target
    if draft.kind == "pipeline":
        return spec_of(target)
    if isinstance(target, Deferred):
        return _value(Argument(target, place), values)
    if not isinstance(target, Construct):
        return target
    options = {name: _value(argument, values) for name, argument in target.options.items()}
    try:
        return target.cls(**options)
    except DSPexError as error:
        raise place.plan_error(f"making {target.cls.__name__}: {error.message}", error.hint) from error
    except Exception as error:  # the user's own constructor
        raise place.plan_error(
            f"making {target.cls.__name__} raised {type(error).__name__}: {_said(error)}", "try it in a cell of its own"
        ) from error


def _reads(node: Node) -> tuple[str, ...]:
    """Return the fields that the step and its children read, each once, in order."""
    refs = [ref for inner in node.family() if inner is not node.fallback for ref in (*inner.refs.values(), *inner.when.values())]
    return tuple(dict.fromkeys(str(ref) if ref.keys else ref.name for ref in refs))


def _predicate(node: Node, values: dict[int, Any]) -> Predicate | None:
    if node.condition is None:
        return None
    given = node.condition.value
    text = given.text if isinstance(given, Deferred) else getattr(given, "__name__", "")
    if given is truth:
        text = str(node.when["value"])
    return Predicate(_value(node.condition, values), dict(node.when), text)


def _sources(node: Node) -> Mapping[str, str]:
    """Return the source of each argument that is more than a literal, which export may need."""
    making = node.draft.target.options if isinstance(node.draft.target, Construct) else {}
    made = ", ".join(f"{name}={given.place.text or repr(given.user)}" for name, given in making.items())
    arguments = {**making, **node.draft.options, **node.draft.settings, **node.draft.bindings}
    return ({"": made} if isinstance(node.draft.target, Construct) else {}) | {
        name: argument.value.text if isinstance(argument.value, Deferred) else argument.value.name
        for name, argument in arguments.items()
        if isinstance(argument.value, Deferred)
        or (isinstance(argument.value, BareName) and not isinstance(node.refs.get(name), FieldRef))
    }
