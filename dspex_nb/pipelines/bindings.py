"""Arguments of the steps: which are fields, which are values, and which can be neither."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspex_nb.errors import PlanError, did_you_mean
from dspex_nb.pipelines.arguments import Argument, BareName, Construct, Deferred
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.fields import Fields
from dspex_nb.pipelines.nodes import Node
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import FieldRef
from dspex_nb.signatures import MISSING


def read_bindings(fields: Fields) -> None:
    """Sort each node's bound arguments into `refs` and `values`, and check its options.

    Raises:
        PlanError: A field where a value is needed, a step where neither can be, or a name that is neither.
    """
    for node in fields.all_nodes():
        for name, argument in node.draft.bindings.items():
            found = _argument(fields, node, argument)
            if isinstance(found, FieldRef):
                node.refs[name] = found
            else:
                node.values[name] = replace(argument, value=found)
        for name, argument in (*node.draft.options.items(), *node.draft.settings.items()):
            if name not in ("on_error", "when", "over"):
                _option(fields, node, name, argument)
        if isinstance(node.draft.target, Construct):
            for name, argument in node.draft.target.options.items():
                _option(fields, node, name, argument)


def _argument(fields: Fields, node: Node, argument: Argument) -> Any:
    """Return the field that an argument means, or its value."""
    value, place = argument.value, argument.place
    if isinstance(value, FieldRef):
        return reference(fields, node, value, place)
    if isinstance(value, StepDraft):
        raise place.plan_error("a step cannot stand inside an argument", "give it a line of its own and use its field here")
    if isinstance(value, Deferred):
        check_expression(fields, value, place)
        return value
    if not isinstance(value, BareName):
        return value
    if value.name in fields:
        return FieldRef(value.name)
    if value.value is not MISSING:
        return value.value
    if value.name in fields.by_name:
        raise _step_as_field(fields, value.name, place)
    if fields.declared:
        raise fields.unknown(node, value.name, place)
    fields.infer(node, value.name, Any, place)
    return FieldRef(value.name)


def _step_as_field(fields: Fields, name: str, place: Place) -> PlanError:
    writes = fields.by_name[name].writes
    first = next(iter(writes), "field")
    return place.plan_error(f"{name!r} is a step, not a field; it writes {', '.join(writes)}", f"write {first} or {name}.{first}")


def _option(fields: Fields, node: Node, name: str, argument: Argument) -> None:
    """Refuse a field where a value is needed before the run."""
    value = argument.value
    if isinstance(value, StepDraft):
        raise argument.place.plan_error(f"{name}= takes a value, not a step", "give the step a line of its own")
    if isinstance(value, Deferred):
        check_expression(fields, value, argument.place)
    is_field = isinstance(value, FieldRef) or (
        isinstance(value, BareName) and (value.name in fields.writers or value.name in fields.declared)
    )
    if is_field:
        raise argument.place.plan_error(
            f"{name}={value.name}: {value.name!r} is a field here, "
            f"and {name}= of {node.name!r} is an option, fixed before the run",
            "give a value, or rename your variable",
        )
    if isinstance(value, BareName) and value.value is MISSING:
        raise argument.place.plan_error(f"{value.name!r} is not defined", "define it in a cell above")


def check_expression(fields: Fields, value: Deferred, place: Place) -> None:
    """Refuse an expression over fields, which would need them before the run, and names that are not defined."""
    for name, defined in value.names.items():
        if name in fields.writers or name in fields.declared or name in fields.by_name:
            raise place.find(name).plan_error(
                f"{name!r} is a field here, and a field can only be given whole, not inside {value.text!r}",
                "compute it in a function step of its own",
            )
        if not defined:
            raise place.find(name).plan_error(f"{name!r} is not defined", "define it in a cell above")


def reference(fields: Fields, node: Node, ref: FieldRef, place: Place) -> FieldRef:
    """Return a written-out reference, `step.field`, made exact."""
    if not ref.step:
        if ref.name not in fields:
            fields.infer(node, ref.name, Any, place)
        return FieldRef(ref.name)
    writer = fields.by_name.get(ref.step)
    if writer is None:
        fallback = any(inner.draft.settings.get("on_error") is not None for inner in fields.nodes)
        hint = (
            "a fallback step's fields are those of the step it stands in for"
            if fallback
            else f"{did_you_mean(ref.step, fields.by_name)}steps: {', '.join(fields.by_name)}"
        )
        raise place.plan_error(f"there is no step {ref.step!r} to read {ref.name!r} from", hint)
    if ref.name in writer.writes or ref.name in writer.draft.hidden:
        if ref.keys:
            raise place.plan_error(
                f"{ref.step}.{ref.name} is a field; its parts cannot be named in a cell", "take them apart in a function step"
            )
        return ref
    if writer.draft.kind == "parallel" and "over" in writer.draft.settings:
        raise place.plan_error(
            f"{ref.step!r} is a list, one value for each item that it went over, so there is no {ref.step}.{ref.name}",
            f"read {ref.step}, and take it apart in a function step",
        )
    labels = {child.name.rpartition(".")[2]: child for child in writer.children}
    if ref.name in labels and writer.draft.kind == "parallel" and "merge" not in writer.draft.options:
        inner = list(labels[ref.name].writes)
        if (len(inner) == 1 and not ref.keys) or (len(ref.keys) <= 1 and set(ref.keys) <= set(inner) and len(inner) > 1):
            return FieldRef(writer.name, writer.name, (ref.name, *ref.keys))
    known = [*writer.writes, *writer.draft.hidden, *(labels if writer.draft.kind == "parallel" else ())]
    raise place.plan_error(
        f"step {ref.step!r} has no field {'.'.join((ref.name, *ref.keys))!r}",
        f"{did_you_mean(ref.name, known)}it has {', '.join(known)}",
    )
