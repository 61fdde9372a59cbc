"""From drafts to a checked graph: who writes each field, who reads which version of it, and in what order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.errors import PlanError, did_you_mean
from dspex_nb.pipelines.drafts import Argument, BareName, Construct, Deferred, StepDraft, as_draft
from dspex_nb.pipelines.finishing import finish
from dspex_nb.pipelines.matching import element_of, is_listable, mismatch
from dspex_nb.pipelines.places import NOWHERE, Place
from dspex_nb.pipelines.records import Defaults, FieldRef, InputSpec, PipelineSpec
from dspex_nb.pipelines.targets import Parameter, parameters_of_function
from dspex_nb.signatures import MISSING, type_text

_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class InputDraft:
    """An input as declared; its default is evaluated with everything else, at the end."""

    name: str
    type: Any = Any
    default: Argument | None = None
    place: Place = NOWHERE


@dataclass(slots=True)
class Node:
    """A draft on its way to a step: `refs` fills as fields are found. Children and fallbacks share the line order `at`."""

    name: str
    draft: StepDraft
    at: int
    children: list[Node] = field(default_factory=list)
    fallback: Node | None = None
    refs: dict[str, FieldRef] = field(default_factory=dict)
    values: dict[str, Argument] = field(default_factory=dict)
    when: dict[str, FieldRef] = field(default_factory=dict)
    condition: Any = None
    over: str | None = None
    on_error: str = ""

    @property
    def writes(self) -> dict[str, Any]:
        """The fields it writes and their types."""
        given = {self.name: self.draft.gives} if self.draft.outputs is None else dict(self.draft.outputs)
        return {name: list[found] if "over" in self.draft.settings else found for name, found in given.items()}  # type: ignore[valid-type]

    def family(self) -> Iterator[Node]:
        """Yield the node, its children and its fallback, and theirs."""
        yield self
        for inner in (*self.children, *([self.fallback] if self.fallback else [])):
            yield from inner.family()

    def place_of(self, word: str) -> Place:
        """Return where the step says `word`."""
        return self.draft.place.find(word)


def link(
    name: str, inputs: Sequence[InputDraft], drafts: Sequence[tuple[str, StepDraft]], defaults: Defaults, source: str = ""
) -> PipelineSpec:
    """Return the pipeline, checked; the user's expressions are evaluated only when nothing is left to refuse.

    Raises:
        PlanError: The graph cannot run.
    """
    return _Linker(name, inputs, drafts).spec(defaults, source)


class _Linker:
    def __init__(self, name: str, inputs: Sequence[InputDraft], drafts: Sequence[tuple[str, StepDraft]]) -> None:
        self.name = name
        self.declared = {one.name: one for one in inputs}
        self.inferred: dict[str, InputSpec] = {}
        self.nodes = self._nodes(drafts)
        self.by_name = {node.name: node for node in self.nodes}
        self.writers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for written in node.writes:
                self.writers.setdefault(written, []).append(node)

    def spec(self, defaults: Defaults, source: str) -> PipelineSpec:
        self._read_implicit()
        self._read_arguments()
        self._read_conditions()
        versions = self._versions()
        for node in self.nodes:
            for inner in node.family():
                self._resolve(inner, versions)
        self._refuse_cycles()
        self._check_types()
        inputs = [(one.name, one.type, one.default, one.place.line) for one in self.declared.values()]
        return finish(self.name, inputs, tuple(self.inferred.values()), self.nodes, defaults, source)

    # Steps and fallbacks

    def _nodes(self, drafts: Sequence[tuple[str, StepDraft]]) -> list[Node]:
        seen: dict[str, StepDraft] = {}
        for name, draft in drafts:
            if name in seen:
                line = seen[name].place.line
                where = f" (first on line {line})" if line else ""
                raise draft.place.plan_error(f"the step name {name!r} is used twice{where}", "give each step a name of its own")
            seen[name] = draft
        fallbacks = {_fallback_name(draft, seen) for draft in seen.values()} - {None}
        return [self._node(name, draft, at, seen) for at, (name, draft) in enumerate(seen.items()) if name not in fallbacks]

    def _node(self, name: str, draft: StepDraft, at: int, steps: Mapping[str, StepDraft]) -> Node:
        node = Node(name, draft, at)
        node.children = [self._node(f"{name}.{label}", child, at, steps) for label, child in draft.children]
        for child in node.children:
            if child.draft.outputs is None:  # its one field is called by its label, wherever the step stands
                child.draft = replace(child.draft, outputs={child.name.rpartition(".")[2]: child.draft.gives})
        self._add_fallback(node, steps)
        return node

    def _add_fallback(self, node: Node, steps: Mapping[str, StepDraft]) -> None:
        argument = node.draft.settings.get("on_error")
        if argument is None:
            return
        if isinstance(argument.user, str) and argument.user in ("stop", "skip"):
            node.on_error = argument.user
            return
        named = _fallback_name(node.draft, steps)
        draft = steps.get(named) if named else as_draft(argument)
        if draft is None or draft is node.draft:
            found = argument.value.name if isinstance(argument.value, BareName) else argument.user
            hint = did_you_mean(str(found), ("stop", "skip", *steps))
            raise argument.place.plan_error(
                f'on_error={found!r}: expected "stop", "skip" or a fallback step', f'{hint}write e.g. on_error="skip"'
            )
        written = node.writes
        if draft.outputs is None:  # a function in place of a model call gives what that step gives
            draft = replace(draft, outputs=node.draft.outputs or {node.name: node.draft.gives})
        draft = _inheriting(draft, node.draft)
        fallback = Node(f"{node.name}.on_error", draft, node.at)
        missing = [name for name in written if name not in (draft.outputs or {})]
        if missing:
            raise argument.place.plan_error(
                f"the fallback of {node.name!r} does not write {missing[0]!r}",
                f"a fallback writes what its step writes: {', '.join(written)}",
            )
        node.fallback = fallback

    # Who reads what

    def _others_write(self, name: str, node: Node) -> bool:
        return name in self.declared or name in self.inferred or any(one.at != node.at for one in self.writers.get(name, ()))

    def _all(self) -> Iterator[Node]:
        for node in self.nodes:
            yield from node.family()

    def _read_implicit(self) -> None:
        """Each parameter that no argument binds is the field of its name."""
        wanted: list[tuple[Node, Parameter]] = []
        for node in self._all():
            self._read_over(node)
            for item in node.draft.parameters.items:
                if item.name in node.draft.bindings or item.name in node.refs:
                    continue
                if self._others_write(item.name, node):
                    node.refs[item.name] = FieldRef(item.name)
                else:
                    wanted.append((node, item))
        for node, item in wanted:
            if item.required:
                self._infer(node, item.name, item.type)
                node.refs[item.name] = FieldRef(item.name)
        self._infer_optional([(node, item) for node, item in wanted if not item.required])

    def _read_over(self, node: Node) -> None:
        """`over=field` hands its elements to the parameters that read it, or to the only one that nothing else feeds."""
        argument = node.draft.settings.get("over")
        if argument is None:
            return
        value = argument.value
        name = value.name if isinstance(value, BareName | FieldRef) else value
        if not isinstance(name, str):
            raise argument.place.plan_error("over= takes the name of a list field", "write e.g. over=passages")
        node.over = name
        bound = [
            one for one in node.draft.parameters.names
            if (given := node.draft.bindings.get(one)) is not None and _field_name(given) == name
        ]  # fmt: skip
        if bound or name in node.draft.parameters.names:
            return
        free = [
            one
            for one in node.draft.parameters.items
            if one.name not in node.draft.bindings and not self._others_write(one.name, node)
        ]
        needed = [one for one in free if one.required] or free
        if len(needed) != 1 or not (self._others_write(name, node) or not self.declared):
            reads = ", ".join(node.draft.parameters.names) or "nothing"
            raise argument.place.plan_error(
                f"{node.name!r} goes over {name!r} but does not read it; it reads {reads}",
                f"bind it: {(node.draft.parameters.names or ('field',))[0]}={name}",
            )
        if not self._others_write(name, node):
            self._infer(node, name, Any)
        node.refs[needed[0].name] = value if isinstance(value, FieldRef) else FieldRef(name)

    def _infer(self, node: Node, name: str, annotation: Any, place: Place | None = None) -> None:
        """Make a field nobody writes an input, where no input is declared and it is no slip of the pen."""
        place = place or node.place_of(name)
        if self.declared:
            raise self._unknown(node, name, place)
        written = [one for one in self.writers if one != name and any(writer.at != node.at for writer in self.writers[one])]
        if near := _near_miss(name, written):
            raise place.plan_error(
                f"{node.name!r} reads {name!r}, which no step writes; did you mean {near!r}?",
                f"correct the name, or declare it as an input on a line of its own: {name}: {_text(annotation)}",
            )
        annotation = list[annotation] if node.over == name and annotation is not Any else annotation
        self.inferred.setdefault(name, InputSpec(name, annotation, MISSING, 0, declared=False))

    def _unknown(self, node: Node, name: str, place: Place) -> PlanError:
        known = [*self.declared, *self.writers]
        only = " but itself" if name in self.writers else ""
        return place.plan_error(
            f"{node.name!r} reads {name!r}, which is no input and which no step{only} writes",
            f"{did_you_mean(name, [one for one in known if one != name])}"
            f"known fields: {', '.join(known)}; a variable of yours is given by {name}=...",
        )

    def _infer_optional(self, wanted: list[tuple[Node, Parameter]]) -> None:
        """A parameter with a default becomes an optional input where all its readers agree on the default."""
        readers: dict[str, list[tuple[Node, Parameter]]] = {}
        for node, item in wanted:
            readers.setdefault(item.name, []).append((node, item))
        for name, found in readers.items():
            first = found[0][1]
            if name in self.inferred:
                agreed = True
            else:
                agreed = not self.declared and all(_same(item.default, first.default) for _, item in found)
                agreed = agreed and name not in self.writers
                if agreed:
                    self.inferred[name] = InputSpec(name, first.type, first.default, 0, declared=False)
            for node, _ in found if agreed else ():
                node.refs[name] = FieldRef(name)

    def _read_arguments(self) -> None:
        for node in self._all():
            for name, argument in node.draft.bindings.items():
                found = self._argument(node, argument)
                if isinstance(found, FieldRef):
                    node.refs[name] = found
                else:
                    node.values[name] = replace(argument, value=found)
            for name, argument in (*node.draft.options.items(), *node.draft.settings.items()):
                if name not in ("on_error", "when", "over"):
                    self._option(node, name, argument)
            if isinstance(node.draft.target, Construct):
                for name, argument in node.draft.target.options.items():
                    self._option(node, name, argument)

    def _argument(self, node: Node, argument: Argument) -> Any:
        """Return the field that an argument means, or its value."""
        value, place = argument.value, argument.place
        if isinstance(value, FieldRef):
            return self._reference(node, value, place)
        if isinstance(value, StepDraft):
            raise place.plan_error("a step cannot stand inside an argument", "give it a line of its own and use its field here")
        if isinstance(value, Deferred):
            self._check_expression(value, place)
            return value
        if not isinstance(value, BareName):
            return value
        if value.name in self.writers or value.name in self.declared or value.name in self.inferred:
            return FieldRef(value.name)
        if value.value is not MISSING:
            return value.value
        if value.name in self.by_name:
            raise self._step_as_field(value.name, place)
        if self.declared:
            raise self._unknown(node, value.name, place)
        self._infer(node, value.name, Any, place)
        return FieldRef(value.name)

    def _step_as_field(self, name: str, place: Place) -> PlanError:
        fields = ", ".join(self.by_name[name].writes)
        first = next(iter(self.by_name[name].writes), "field")
        return place.plan_error(f"{name!r} is a step, not a field; it writes {fields}", f"write {first} or {name}.{first}")

    def _option(self, node: Node, name: str, argument: Argument) -> None:
        """Refuse a field where a value is needed before the run."""
        value = argument.value
        if isinstance(value, StepDraft):
            raise argument.place.plan_error(f"{name}= takes a value, not a step", "give the step a line of its own")
        if isinstance(value, Deferred):
            self._check_expression(value, argument.place)
        is_field = isinstance(value, FieldRef) or (
            isinstance(value, BareName) and (value.name in self.writers or value.name in self.declared)
        )
        if is_field:
            raise argument.place.plan_error(
                f"{name}={value.name}: {value.name!r} is a field here, "
                f"and {name}= of {node.name!r} is an option, fixed before the run",
                "give a value, or rename your variable",
            )
        if isinstance(value, BareName) and value.value is MISSING:
            raise argument.place.plan_error(f"{value.name!r} is not defined", "define it in a cell above")

    def _check_expression(self, value: Deferred, place: Place) -> None:
        for name, defined in value.names.items():
            if name in self.writers or name in self.declared or name in self.by_name:
                raise place.find(name).plan_error(
                    f"{name!r} is a field here, and a field can only be given whole, not inside {value.text!r}",
                    "compute it in a function step of its own",
                )
            if not defined:
                raise place.find(name).plan_error(f"{name!r} is not defined", "define it in a cell above")

    def _reference(self, node: Node, ref: FieldRef, place: Place) -> FieldRef:
        """Return a written-out reference, `step.field`, made exact."""
        if not ref.step:
            if not (ref.name in self.writers or ref.name in self.declared or ref.name in self.inferred):
                self._infer(node, ref.name, Any, place)
            return FieldRef(ref.name)
        writer = self.by_name.get(ref.step)
        if writer is None:
            fallback = any(inner.draft.settings.get("on_error") is not None for inner in self.nodes)
            hint = (
                "a fallback step's fields are those of the step it stands in for"
                if fallback
                else f"{did_you_mean(ref.step, self.by_name)}steps: {', '.join(self.by_name)}"
            )
            raise place.plan_error(f"there is no step {ref.step!r} to read {ref.name!r} from", hint)
        if ref.name in writer.writes or ref.name in writer.draft.hidden:
            if ref.keys:
                raise place.plan_error(
                    f"{ref.step}.{ref.name} is a field; its parts cannot be named in a cell", "take them apart in a function step"
                )
            return ref
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

    def _read_conditions(self) -> None:
        """`when=`: a field, an expression over fields, or a function whose parameters name fields."""
        for node in self._all():
            argument = node.draft.settings.get("when")
            if argument is None:
                continue
            value = argument.value
            if isinstance(value, FieldRef) or (isinstance(value, BareName) and self._is_field(value.name)):
                node.when["value"] = (
                    self._reference(node, value, argument.place) if isinstance(value, FieldRef) else FieldRef(value.name)
                )
                node.condition = Argument(_truth, argument.place)
                continue
            node.condition = self._condition(node, argument)

    def _is_field(self, name: str) -> bool:
        return name in self.writers or name in self.declared or name in self.inferred

    def _condition(self, node: Node, argument: Argument) -> Argument:
        value = argument.user
        if isinstance(value, Deferred) and value.parameters is None:
            fields = [name for name in value.names if self._is_field(name)]
            unknown = [name for name, defined in value.names.items() if not defined and name not in fields]
            if unknown or not fields:
                missing = f"{unknown[0]!r} is no field" if unknown else "it names no field"
                known = ", ".join((*self.declared, *self.inferred, *self.writers))
                raise argument.place.plan_error(
                    f"when={value.text}: {missing}", f"{did_you_mean(unknown[0], self.writers) if unknown else ''}fields: {known}"
                )
            node.when.update({name: FieldRef(name) for name in fields})
            return Argument(value.predicate(fields), argument.place)
        if isinstance(value, Deferred):
            outside = {name: defined for name, defined in value.names.items() if name not in (value.parameters or {})}
            self._check_expression(replace(value, names=outside), argument.place)
            needed: Mapping[str, bool] = value.parameters or {}
        elif callable(value) and value is not MISSING:
            needed = {item.name: item.required for item in parameters_of_function(value).items}
        else:
            raise argument.place.plan_error(
                "when= takes a field, an expression over fields, or a function of fields",
                "write e.g. when=lambda urgency: urgency > 3",
            )
        for name, required in needed.items():
            if self._is_field(name):
                node.when[name] = FieldRef(name)
            elif required:
                known = ", ".join((*self.declared, *self.inferred, *self.writers))
                raise argument.place.find(name).plan_error(
                    f"when= of {node.name!r} reads {name!r}, which is no field",
                    f"{did_you_mean(name, self.writers)}fields: {known}",
                )
        return argument if isinstance(value, Deferred) else Argument(value, argument.place)

    # Versions

    def _versions(self) -> dict[str, tuple[str, list[Node]]]:
        """Return for each field its first writer's name (`""`: an input) and the steps that make new versions, in order."""
        versions: dict[str, tuple[str, list[Node]]] = {}
        for name, writers in self.writers.items():
            is_input = name in self.declared or name in self.inferred
            remakers = [
                node
                for node in writers
                if any(ref.step is None and ref.name == name for inner in node.family() for ref in _all_refs(inner))
            ]
            makers = [node for node in writers if node not in remakers]
            if len(makers) > 1 or (makers and is_input):
                raise self._two_writers(name, makers, is_input=is_input)
            if not makers and not is_input:  # every writer reads it first, so the first version comes from outside
                self._infer(remakers[0], name, Any)
            versions[name] = (makers[0].name if makers else "", remakers)
        return versions

    def _two_writers(self, name: str, makers: list[Node], *, is_input: bool) -> PlanError:
        second = makers[0] if is_input else makers[1]
        if is_input:
            first = f"it is an input{_on(self.declared[name].place) if name in self.declared else ''}"
        else:
            first = f"{makers[0].name!r}{_on(makers[0].draft.place)} writes it too"
        return second.place_of(name).plan_error(
            f"{second.name!r} writes {name!r}, and {first}: a field has one writer",
            f"rename one of them; a step that also reads {name!r} makes a new version of it",
        )

    def _resolve(self, node: Node, versions: Mapping[str, tuple[str, list[Node]]]) -> None:
        for bound in (node.refs, node.when):
            for parameter, ref in bound.items():
                if ref.step is None:
                    first, remakers = versions.get(ref.name, ("", []))
                    earlier = [one.name for one in remakers if one.at < node.at]
                    bound[parameter] = replace(ref, step=earlier[-1] if earlier else first)

    # What cannot run

    def _needs(self, node: Node) -> dict[str, FieldRef]:
        return {ref.step: ref for inner in node.family() for ref in _all_refs(inner) if ref.step}

    def _refuse_cycles(self) -> None:
        needs = {node.name: self._needs(node) for node in self.nodes}
        waiting = dict(needs)
        while ready := [name for name, refs in waiting.items() if not refs.keys() & waiting.keys()]:
            for name in ready:
                del waiting[name]
        if waiting:
            path = [next(iter(waiting))]
            while (following := next(one for one in needs[path[-1]] if one in waiting)) not in path:
                path.append(following)
            circle = [*path[path.index(following) :], following]
            node = self.by_name[circle[0]]
            field_ = needs[circle[0]][circle[1]].name
            raise node.place_of(field_).plan_error(
                f"the steps wait for each other: {' → '.join(reversed(circle))}",
                f"{node.name!r} reads {field_!r} of {circle[1]!r}; bind another field there",
            )

    def _type(self, ref: FieldRef) -> Any:
        if ref.keys:
            return Any
        if ref.step:
            return self.by_name[ref.step].writes.get(ref.name, Any)
        found = self.declared.get(ref.name) or self.inferred.get(ref.name)
        return Any if found is None else found.type

    def _check_types(self) -> None:
        for node in self._all():
            items = {item.name: item for item in node.draft.parameters.items}
            for parameter, ref in node.refs.items():
                written, read = self._type(ref), items[parameter].type if parameter in items else Any
                over = node.over is not None and ref.name == node.over
                if over and not is_listable(written):
                    raise node.place_of("over").plan_error(
                        f"{node.name!r} goes over {str(ref)!r}, which is {_text(written)}, not a list", "over= takes a list field"
                    )
                if mismatch(element_of(written) if over else written, read):
                    whose = f"{ref.step!r} writes" if ref.step else "the input is"
                    raise node.place_of(parameter).plan_error(
                        f"{node.name!r} reads {parameter!r} as {_text(read)}, but {whose} {ref.name!r} as {_text(written)}",
                        "change one of the two types, or convert it in a function step between them",
                    )


def _all_refs(node: Node) -> list[FieldRef]:
    return [*node.refs.values(), *node.when.values()]


def _truth(value: Any) -> bool:
    return bool(value)


def _fallback_name(draft: StepDraft, steps: Mapping[str, StepDraft]) -> str | None:
    """Return the name of the step that `on_error=` names, if it names one."""
    argument = draft.settings.get("on_error")
    value = None if argument is None else argument.value
    name = value.name if isinstance(value, BareName) else value
    return name if isinstance(name, str) and name not in ("stop", "skip") and name in steps and steps[name] is not draft else None


def _field_name(argument: Argument) -> str | None:
    return argument.value.name if isinstance(argument.value, BareName | FieldRef) else None


def _inheriting(fallback: StepDraft, draft: StepDraft) -> StepDraft:
    """Return the fallback with its step's arguments and its `over=` where it says none of its own."""
    for name, argument in draft.bindings.items():
        fallback = fallback.with_binding(name, argument) or fallback
    over = draft.settings.get("over")
    return fallback if over is None else replace(fallback, settings={"over": over, **fallback.settings})


def _near_miss(name: str, written: Sequence[str]) -> str | None:
    """Return the written field that `name` is a slip of; names that differ in their numbers only are meant."""
    found = difflib.get_close_matches(name.lower(), [one.lower() for one in written], n=1, cutoff=_NEAR)
    near = next((one for one in written if found and one.lower() == found[0]), None)
    return None if near is None or re.sub(r"\d+", "", near) == re.sub(r"\d+", "", name) else near


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - comparing a user's objects may raise; then they are not known to be the same
        return False


def _on(place: Place) -> str:
    return f" (line {place.line})" if place.line else ""


def _text(annotation: Any) -> str:
    return "Any" if annotation is Any else type_text(annotation)
