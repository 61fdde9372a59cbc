"""`Fields`: the fields of a pipeline, who writes each, and which of them become inputs because nobody does."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import PlanError, did_you_mean
from dspex_nb.pipelines.arguments import Argument
from dspex_nb.pipelines.nodes import Node
from dspex_nb.pipelines.places import NOWHERE, Place
from dspex_nb.pipelines.records import FieldRef, InputSpec
from dspex_nb.signatures import MISSING, type_text

_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class InputDraft:
    """An input as declared; its default is evaluated with everything else, at the end."""

    name: str
    type: Any = Any
    default: Argument | None = None
    place: Place = NOWHERE


class Fields:
    """What the fields of one pipeline are, as far as it has been read.

    Attributes:
        declared: Inputs that the cell declares, by name.
        inferred: Inputs found by being read; only where none is declared.
        nodes: The steps in order; `by_name` finds one.
        writers: The steps that write each field.
    """

    def __init__(self, inputs: Sequence[InputDraft], nodes: Sequence[Node]) -> None:
        self.declared = {one.name: one for one in inputs}
        self.inferred: dict[str, InputSpec] = {}
        self.nodes = nodes
        self.by_name = {node.name: node for node in nodes}
        self.writers: dict[str, list[Node]] = {}
        for node in nodes:
            for written in node.writes:
                self.writers.setdefault(written, []).append(node)

    def __contains__(self, name: str) -> bool:
        return name in self.writers or name in self.declared or name in self.inferred

    @property
    def names(self) -> str:
        """All names, for an error's hint."""
        return ", ".join((*self.declared, *self.inferred, *self.writers))

    def all_nodes(self) -> Iterator[Node]:
        """Yield the steps with their children and fallbacks."""
        for node in self.nodes:
            yield from node.family()

    def type_of(self, ref: FieldRef) -> Any:
        """Return the type of the field that a resolved reference means; `Any` if unknown."""
        if ref.keys:
            return Any
        if ref.step:
            return self.by_name[ref.step].writes.get(ref.name, Any)
        found = self.declared.get(ref.name) or self.inferred.get(ref.name)
        return Any if found is None else found.type

    def written_outside(self, name: str, node: Node) -> bool:
        """Return whether a field comes from elsewhere than the node itself: an input, or another step."""
        return name in self.declared or name in self.inferred or any(one.at != node.at for one in self.writers.get(name, ()))

    def infer(self, node: Node, name: str, annotation: Any, place: Place | None = None) -> None:
        """Make a field nobody writes an input, where no input is declared and it is no slip of the pen."""
        place = place or node.place_of(name)
        if self.declared:
            raise self.unknown(node, name, place)
        written = [one for one in self.writers if one != name and any(writer.at != node.at for writer in self.writers[one])]
        if near := _near_miss(name, written):
            raise place.plan_error(
                f"{node.name!r} reads {name!r}, which no step writes; did you mean {near!r}?",
                f"correct the name, or declare it as an input on a line of its own: {name}: {annotation_text(annotation)}",
            )
        annotation = list[annotation] if node.over == name and annotation is not Any else annotation
        self.inferred.setdefault(name, InputSpec(name, annotation, MISSING, 0, declared=False))

    def unknown(self, node: Node, name: str, place: Place) -> PlanError:
        """Return the error of a field that is read and does not exist."""
        known = [*self.declared, *self.writers]
        only = " but itself" if name in self.writers else ""
        return place.plan_error(
            f"{node.name!r} reads {name!r}, which is no input and which no step{only} writes",
            f"{did_you_mean(name, [one for one in known if one != name])}"
            f"known fields: {', '.join(known)}; a variable of yours is given by {name}=...",
        )


def _near_miss(name: str, written: Sequence[str]) -> str | None:
    """Return the written field that `name` is a slip of; names that differ in their numbers only are meant."""
    found = difflib.get_close_matches(name.lower(), [one.lower() for one in written], n=1, cutoff=_NEAR)
    near = next((one for one in written if found and one.lower() == found[0]), None)
    return None if near is None or re.sub(r"\d+", "", near) == re.sub(r"\d+", "", name) else near


def annotation_text(annotation: Any) -> str:
    """Return a type as a cell would write it."""
    return "Any" if annotation is Any else type_text(annotation)
