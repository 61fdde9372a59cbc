"""What steps read without being told: each parameter that no argument binds is the field of its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspex_nb.pipelines.arguments import Argument, BareName
from dspex_nb.pipelines.bindings import reference
from dspex_nb.pipelines.fields import Fields
from dspex_nb.pipelines.nodes import Node
from dspex_nb.pipelines.records import FieldRef, InputSpec
from dspex_nb.pipelines.targets import Parameter


def read_parameters(fields: Fields) -> None:
    """Fill `refs` of every node with the fields of its unbound parameters' names; those nobody writes become inputs.

    Raises:
        PlanError: Such a field is not declared, or `over=` names one that the step does not read.
    """
    wanted: list[tuple[Node, Parameter]] = []
    for node in fields.all_nodes():
        _read_over(fields, node)
        if node.draft.kind == "template":
            _read_parts(fields, node)
        for item in node.draft.parameters.items:
            if item.said or item.name in node.draft.bindings or item.name in node.refs:
                continue
            if fields.written_outside(item.name, node):
                node.refs[item.name] = FieldRef(item.name)
            else:
                wanted.append((node, item))
    for node, item in wanted:
        if item.required:
            fields.infer(node, item.name, item.type)
            node.refs[item.name] = FieldRef(item.name)
    _infer_optional(fields, [(node, item) for node, item in wanted if not item.required])


def _read_parts(fields: Fields, node: Node) -> None:
    """`{{ gist.reasoning }}` in a template is the field `reasoning` of the step `gist`, where a step is called so."""
    template = node.draft.target
    reached: list[str] = []
    for name, parts in template.parts.items():
        step = fields.by_name.get(name)
        if step is None or name in node.draft.bindings or name == node.name:
            continue
        for part in parts:
            labels = [child.name.rpartition(".")[2] for child in step.children]
            if (
                part in (*step.writes, *step.draft.hidden, *labels) or name not in fields
            ):  # else it is a part of the field's own value
                node.refs[f"{name}.{part}"] = reference(fields, node, FieldRef(part, name), node.place_of(f"{name}.{part}"))
                reached.append(f"{name}.{part}")
    if reached:
        template = template.reaching(reached)
        kept = tuple(item for item in node.draft.parameters.items if item.name in template.fields)
        node.draft = replace(node.draft, target=template, parameters=replace(node.draft.parameters, items=kept))


def _read_over(fields: Fields, node: Node) -> None:
    """`over=field` hands its elements to the parameters that read it, or to the only one that nothing else feeds."""
    argument = node.draft.settings.get("over")
    if argument is None:
        return
    value = argument.value
    name = value.name if isinstance(value, BareName | FieldRef) else value
    if not isinstance(name, str):
        raise argument.place.plan_error("over= takes the name of a list field", "write e.g. over=passages")
    node.over = name
    if node.draft.kind == "parallel":
        _hand_over(fields, node, argument)
        return
    if _says(node, name):
        return
    needed = _unfed(fields, node)
    if len(needed) != 1 or not (fields.written_outside(name, node) or not fields.declared):
        if node.over_lent:  # a fallback that needs nothing of the list gives the same for each item
            node.over = None
            rest = {key: given for key, given in node.draft.settings.items() if key != "over"}
            node.draft = replace(node.draft, settings=rest)
            return
        reads = ", ".join(node.draft.parameters.names) or "nothing"
        raise argument.place.plan_error(
            f"{node.name!r} goes over {name!r} but does not read it; it reads {reads}",
            f"bind it: {(node.draft.parameters.names or ('field',))[0]}={name}",
        )
    if not fields.written_outside(name, node):
        fields.infer(node, name, Any)
    node.refs[needed[0].name] = value if isinstance(value, FieldRef) else FieldRef(name)


def _says(node: Node, name: str) -> bool:
    """Return whether a step names a field, as a parameter or for one."""
    return name in node.draft.parameters.names or any(_field_name(given) == name for given in node.draft.bindings.values())


def _unfed(fields: Fields, node: Node) -> list[Parameter]:
    """Return the parameters that no argument and no field feeds; those with a default only if there are no others."""
    free = [
        one
        for one in node.draft.parameters.items
        if one.name not in node.draft.bindings and not fields.written_outside(one.name, node)
    ]
    return [one for one in free if one.required] or free


def _hand_over(fields: Fields, node: Node, over: Argument) -> None:
    """The steps inside `parallel` go through its list, those that read it; what the others give is the same for each element."""
    going = [child for child in node.children if _goes(fields, child, str(node.over))] or node.children
    for child in node.children:
        if "over" in child.draft.settings:
            raise child.draft.settings["over"].place.plan_error(
                f"{child.name!r} goes through a list of its own, inside one that goes through {node.over!r}",
                f"make a pipeline of {child.name!r} in a cell above, and put it here in its place",
            )
    for child in going:
        if child.fallback is None and not child.on_error:
            child.on_error = node.on_error  # "skip" is then said of an item, and what the others gave for it stays
        for each in (child, child.fallback):
            if each is not None and "over" not in each.draft.settings:
                each.draft = replace(each.draft, settings={**each.draft.settings, "over": over})


def _goes(fields: Fields, node: Node, name: str) -> bool:
    """Return whether a step inside `parallel` takes the elements of the list `name`."""
    if node.draft.kind == "parallel":
        return any(_goes(fields, child, name) for child in node.children)
    return _says(node, name) or any(one.required for one in _unfed(fields, node))


def _infer_optional(fields: Fields, wanted: list[tuple[Node, Parameter]]) -> None:
    """A parameter with a default becomes an optional input where all its readers agree on the default."""
    readers: dict[str, list[tuple[Node, Parameter]]] = {}
    for node, item in wanted:
        readers.setdefault(item.name, []).append((node, item))
    for name, found in readers.items():
        first = found[0][1]
        if name in fields.inferred:
            agreed = True
        else:
            agreed = not fields.declared and all(_same(item.default, first.default) for _, item in found)
            agreed = agreed and name not in fields.writers
            if agreed:
                fields.inferred[name] = InputSpec(name, first.type, first.default, 0, declared=False)
        for node, _ in found if agreed else ():
            node.refs[name] = FieldRef(name)


def _field_name(argument: Argument) -> str | None:
    return argument.value.name if isinstance(argument.value, BareName | FieldRef) else None


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - comparing a user's objects may raise; then they are not known to be the same
        return False
