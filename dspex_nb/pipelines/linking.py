"""From drafts to a checked graph: who writes each field, who reads which version of it, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.errors import PlanError
from dspex_nb.pipelines.bindings import read_bindings
from dspex_nb.pipelines.conditions import read_conditions
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.fields import Fields, InputDraft, annotation_text
from dspex_nb.pipelines.finishing import finish
from dspex_nb.pipelines.matching import element_of, is_listable, mismatch
from dspex_nb.pipelines.nodes import Node, nodes_of
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.reads import read_parameters
from dspex_nb.pipelines.records import Defaults, FieldRef, PipelineSpec


def link(
    name: str, inputs: Sequence[InputDraft], drafts: Sequence[tuple[str, StepDraft]], defaults: Defaults, source: str = ""
) -> PipelineSpec:
    """Return the pipeline, checked; the user's expressions are evaluated only when nothing is left to refuse.

    Raises:
        PlanError: The graph cannot run.
    """
    fields = Fields(inputs, nodes_of(drafts))
    read_parameters(fields)
    read_bindings(fields)
    read_conditions(fields)
    versions = _versions(fields)
    for node in fields.all_nodes():
        _resolve(node, versions)
    _refuse_cycles(fields)
    _check_types(fields)
    declared = [(one.name, one.type, one.default, one.place.line) for one in fields.declared.values()]
    return finish(name, declared, tuple(fields.inferred.values()), fields.nodes, defaults, source)


def _versions(fields: Fields) -> dict[str, tuple[str, list[Node]]]:
    """Return for each field its first writer's name (`""`: an input) and the steps that make new versions, in order."""
    versions: dict[str, tuple[str, list[Node]]] = {}
    for name, writers in fields.writers.items():
        is_input = name in fields.declared or name in fields.inferred
        remakers = [
            node
            for node in writers
            if any(ref.step is None and ref.name == name for inner in node.family() for ref in inner.all_refs)
        ]
        makers = [node for node in writers if node not in remakers]
        if len(makers) > 1 or (makers and is_input):
            raise _two_writers(fields, name, makers, is_input=is_input)
        if not makers and not is_input:  # every writer reads it first, so the first version comes from outside
            fields.infer(remakers[0], name, Any)
        versions[name] = (makers[0].name if makers else "", remakers)
    return versions


def _two_writers(fields: Fields, name: str, makers: list[Node], *, is_input: bool) -> PlanError:
    second = makers[0] if is_input else makers[1]
    if is_input:
        first = f"it is an input{_on(fields.declared[name].place) if name in fields.declared else ''}"
    else:
        first = f"{makers[0].name!r}{_on(makers[0].draft.place)} writes it too"
    hint = f"rename one of them; a step that also reads {name!r} makes a new version of it"
    if second.draft.kind == "pipeline":  # its fields are named in another cell
        hint = f"put both into one step, both = parallel(one=…, two=…), and read both.one and both.two; or {hint}"
    return second.place_of(name).plan_error(f"{second.name!r} writes {name!r}, and {first}: a field has one writer", hint)


def _resolve(node: Node, versions: Mapping[str, tuple[str, list[Node]]]) -> None:
    for bound in (node.refs, node.when):
        for parameter, ref in bound.items():
            if ref.step is None:
                first, remakers = versions.get(ref.name, ("", []))
                earlier = [one.name for one in remakers if one.at < node.at]
                bound[parameter] = replace(ref, step=earlier[-1] if earlier else first)


def _needs(node: Node) -> dict[str, FieldRef]:
    return {ref.step: ref for inner in node.family() for ref in inner.all_refs if ref.step}


def _refuse_cycles(fields: Fields) -> None:
    needs = {node.name: _needs(node) for node in fields.nodes}
    feeds: dict[str, list[str]] = {}
    for name, refs in needs.items():
        for writer in refs:
            feeds.setdefault(writer, []).append(name)
    waiting = {name: len(refs) for name, refs in needs.items()}
    ready = [name for name, count in waiting.items() if not count]
    while ready:
        done = ready.pop()
        del waiting[done]
        for name in feeds.get(done, ()):
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
    if waiting:
        path = [next(iter(waiting))]
        while (following := next(one for one in needs[path[-1]] if one in waiting)) not in path:
            path.append(following)
        circle = [*path[path.index(following) :], following]
        node = fields.by_name[circle[0]]
        field_ = needs[circle[0]][circle[1]].name
        raise node.place_of(field_).plan_error(
            f"the steps wait for each other: {' → '.join(reversed(circle))}",
            f"{node.name!r} reads {field_!r} of {circle[1]!r}; bind another field there",
        )


def _check_types(fields: Fields) -> None:
    for node in fields.all_nodes():
        items = {item.name: item for item in node.draft.parameters.items}
        for parameter, ref in node.refs.items():
            written, read = fields.type_of(ref), items[parameter].type if parameter in items else Any
            over = node.over is not None and ref.name == node.over
            if over and not is_listable(written):
                raise node.place_of("over").plan_error(
                    f"{node.name!r} goes over {str(ref)!r}, which is {annotation_text(written)}, not a list",
                    "over= takes a list field",
                )
            if mismatch(element_of(written) if over else written, read):
                whose = f"{ref.step!r} writes" if ref.step else "the input is"
                raise node.place_of(parameter).plan_error(
                    f"{node.name!r} reads {parameter!r} as {annotation_text(read)}, "
                    f"but {whose} {ref.name!r} as {annotation_text(written)}",
                    "change one of the two types, or convert it in a function step between them",
                )


def _on(place: Place) -> str:
    return f" (line {place.line})" if place.line else ""
