"""`when=`: a field, an expression over fields, or a function whose parameters name fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex_nb.errors import did_you_mean
from dspex_nb.pipelines.arguments import Argument, BareName, Deferred
from dspex_nb.pipelines.bindings import check_expression, reference
from dspex_nb.pipelines.fields import Fields
from dspex_nb.pipelines.nodes import Node
from dspex_nb.pipelines.records import FieldRef
from dspex_nb.pipelines.targets import parameters_of_function
from dspex_nb.signatures import MISSING


def read_conditions(fields: Fields) -> None:
    """Fill `when` and `condition` of every node that has a `when=`.

    Raises:
        PlanError: It is none of these, or reads what is no field.
    """
    for node in fields.all_nodes():
        argument = node.draft.settings.get("when")
        if argument is None:
            continue
        value = argument.value
        if isinstance(value, FieldRef) or (isinstance(value, BareName) and value.name in fields):
            node.when["value"] = (
                reference(fields, node, value, argument.place) if isinstance(value, FieldRef) else FieldRef(value.name)
            )
            node.condition = Argument(truth, argument.place)
            continue
        node.condition = _condition(fields, node, argument)


def _condition(fields: Fields, node: Node, argument: Argument) -> Argument:
    value = argument.user
    if isinstance(value, Deferred) and value.parameters is None:
        read = [name for name in value.names if name in fields]
        unknown = [name for name, defined in value.names.items() if not defined and name not in fields]
        if unknown or not read:
            missing = f"{unknown[0]!r} is no field" if unknown else "it names no field"
            near = did_you_mean(unknown[0], fields.writers) if unknown else ""
            raise argument.place.plan_error(f"when={value.text}: {missing}", f"{near}fields: {fields.names}")
        node.when.update({name: FieldRef(name) for name in read})
        return Argument(value.predicate(read), argument.place)
    if isinstance(value, Deferred):
        outside = {name: defined for name, defined in value.names.items() if name not in (value.parameters or {})}
        check_expression(fields, replace(value, names=outside), argument.place)
        needed: Mapping[str, bool] = value.parameters or {}
    elif callable(value) and value is not MISSING:
        needed = {item.name: item.required for item in parameters_of_function(value).items}
    else:
        raise argument.place.plan_error(
            "when= takes a field, an expression over fields, or a function of fields",
            "write e.g. when=lambda urgency: urgency > 3",
        )
    for name, required in needed.items():
        if name in fields:
            node.when[name] = FieldRef(name)
        elif required:
            raise argument.place.find(name).plan_error(
                f"when= of {node.name!r} reads {name!r}, which is no field",
                f"{did_you_mean(name, fields.writers)}fields: {fields.names}",
            )
    return argument if isinstance(value, Deferred) else Argument(value, argument.place)


def truth(value: Any) -> bool:
    """Return whether a field that is a condition by itself holds."""
    return bool(value)
