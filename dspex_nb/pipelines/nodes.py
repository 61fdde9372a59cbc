"""`Node`: a draft on its way to a step, with its children and its fallback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.errors import did_you_mean
from dspex_nb.pipelines.arguments import Argument, BareName, Deferred
from dspex_nb.pipelines.drafting import as_draft
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import FieldRef


@dataclass(slots=True)
class Node:
    """A draft on its way to a step: `refs` fills as fields are found. Children and fallbacks share the line order `at`.

    `over_lent` says that a fallback has its `over=` from the step it stands in for.
    """

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
    over_lent: bool = False
    on_error: str = ""

    @property
    def writes(self) -> dict[str, Any]:
        """The fields it writes and their types."""
        given = {self.name: self.draft.gives} if self.draft.outputs is None else dict(self.draft.outputs)
        return {name: list[found] if "over" in self.draft.settings else found for name, found in given.items()}  # type: ignore[valid-type]

    @property
    def all_refs(self) -> tuple[FieldRef, ...]:
        """The fields that it reads itself, its condition's included."""
        return (*self.refs.values(), *self.when.values())

    def family(self) -> Iterator[Node]:
        """Yield the node, its children and its fallback, and theirs."""
        yield self
        for inner in (*self.children, *([self.fallback] if self.fallback else [])):
            yield from inner.family()

    def place_of(self, word: str) -> Place:
        """Return where the step says `word`."""
        return self.draft.place.find(word)


def nodes_of(drafts: Sequence[tuple[str, StepDraft]]) -> list[Node]:
    """Return the steps with their children and fallbacks; a step that only stands in for another is no node of its own.

    Raises:
        PlanError: Two steps of one name, or an `on_error=` that names nothing that fits.
    """
    seen: dict[str, StepDraft] = {}
    for name, draft in drafts:
        if name in seen:
            line = seen[name].place.line
            where = f" (first on line {line})" if line else ""
            raise draft.place.plan_error(f"the step name {name!r} is used twice{where}", "give each step a name of its own")
        seen[name] = draft
    fallbacks = {_fallback_name(draft, seen) for draft in seen.values()} - {None}
    return [_node(name, draft, at, seen) for at, (name, draft) in enumerate(seen.items()) if name not in fallbacks]


def _node(name: str, draft: StepDraft, at: int, steps: Mapping[str, StepDraft]) -> Node:
    node = Node(name, draft, at)
    node.children = [_node(f"{name}.{label}", _labelled(label, child), at, steps) for label, child in draft.children]
    _add_fallback(node, steps)
    return node


def _labelled(label: str, child: StepDraft) -> StepDraft:
    """Return a child whose one field is called by its label, wherever the step stands."""
    return child if child.outputs is not None else replace(child, outputs={label: child.gives})


def _add_fallback(node: Node, steps: Mapping[str, StepDraft]) -> None:
    argument = node.draft.settings.get("on_error")
    if argument is None:
        return
    if isinstance(argument.user, str) and argument.user in ("stop", "skip"):
        node.on_error = argument.user
        return
    named = _fallback_name(node.draft, steps)
    draft = steps.get(named) if named else as_draft(argument)
    if draft is None or draft is node.draft:
        if isinstance(argument.user, Deferred):
            raise argument.place.plan_error(
                f'on_error= is {argument.described}: expected "stop", "skip" or a fallback step',
                "give the fallback a line of its own and its name here, or write native(function, ...)",
            )
        found = argument.value.name if isinstance(argument.value, BareName) else argument.user
        hint = did_you_mean(str(found), ("stop", "skip", *steps))
        raise argument.place.plan_error(
            f'on_error={found!r}: expected "stop", "skip" or a fallback step', f'{hint}write e.g. on_error="skip"'
        )
    written = node.writes
    if draft.outputs is None:  # a function in place of a model call gives what that step gives
        draft = replace(draft, outputs=node.draft.outputs or {node.name: node.draft.gives})
    lent = "over" in node.draft.settings and "over" not in draft.settings
    draft = _inheriting(draft, node.draft)
    fallback = Node(f"{node.name}.on_error", draft, node.at, over_lent=lent)
    missing = [name for name in written if name not in (draft.outputs or {})]
    if missing:
        raise argument.place.plan_error(
            f"the fallback of {node.name!r} does not write {missing[0]!r}",
            f"a fallback writes what its step writes: {', '.join(written)}",
        )
    node.fallback = fallback


def _fallback_name(draft: StepDraft, steps: Mapping[str, StepDraft]) -> str | None:
    """Return the name of the step that `on_error=` names, if it names one."""
    argument = draft.settings.get("on_error")
    value = None if argument is None else argument.value
    name = value.name if isinstance(value, BareName) else value
    return name if isinstance(name, str) and name not in ("stop", "skip") and name in steps and steps[name] is not draft else None


def _inheriting(fallback: StepDraft, draft: StepDraft) -> StepDraft:
    """Return the fallback with its step's arguments and its `over=` where it says none of its own."""
    for name, argument in draft.bindings.items():
        fallback = fallback.with_binding(name, argument) or fallback
    over = draft.settings.get("over")
    return fallback if over is None else replace(fallback, settings={"over": over, **fallback.settings})
