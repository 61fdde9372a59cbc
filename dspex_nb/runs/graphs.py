"""What a plan's runs share: its steps with what each waits for, its routes, and where results are read. Derived once a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex_nb.ambient import Session
from dspex_nb.pipelines.records import FieldRef, PipelineSpec, Step
from dspex_nb.predictions import Route
from dspex_nb.routing import Plan
from dspex_nb.runs.calling import is_call, is_task
from dspex_nb.runs.step_cache import cached_steps
from dspex_nb.runs.together import overlaps


@dataclass(frozen=True, slots=True)
class Node:
    """A step in the graph.

    Attributes:
        feeds: The steps that read what it writes.
        waits: Whether it spends its time waiting, so that others may go on meanwhile.
        call: Whether it is one call of a function in the driving thread and nothing more.
        task: Whether it is a task of its pool and nothing more, for which no thread here need wait.
        follows: Whether it is one that is submitted as soon as what it reads is there, without a question.
    """

    step: Step
    feeds: tuple[str, ...]
    waits: bool
    call: bool
    task: bool
    follows: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """The steps of a pipeline, or of an inner one.

    Attributes:
        nodes: Its steps, by name.
        awaited: How many steps must be over before each.
        first: The steps that wait for none.
        routes: Each step's route, children's and fallbacks' too, by its name without the prefix.
        result: Where the outputs are read, `fields` every shared field.
        cached: The steps that the step cache serves.
    """

    nodes: Mapping[str, Node]
    awaited: Mapping[str, int]
    first: tuple[str, ...]
    routes: Mapping[str, Route]
    result: Mapping[str, FieldRef]
    fields: Mapping[str, FieldRef]
    cached: frozenset[str]


def graph_of(spec: PipelineSpec, plan: Plan, session: Session, prefix: str) -> Graph:
    """Return the graph of a pipeline under a plan; `prefix` is `"outer/"` for an inner one."""
    key = f"graph:{prefix}:{session.steps is None}:{session.cache is None}"
    found: Graph | None = plan.compiled.get(key)
    if found is None:
        found = plan.compiled[key] = _derived(spec, plan, session, prefix)
    return found


def _derived(spec: PipelineSpec, plan: Plan, session: Session, prefix: str) -> Graph:
    needs = {step.name: {ref.step for ref in step.refs if ref.step} for step in spec.steps}
    feeds: dict[str, list[str]] = {name: [] for name in needs}
    for name, writers in needs.items():
        for writer in writers:
            feeds[writer].append(name)
    cached = frozenset() if session.steps is None else cached_steps(spec, session)
    return Graph(
        nodes={step.name: _node(step, feeds[step.name], cached=step.name in cached) for step in spec.steps},
        awaited={name: len(writers) for name, writers in needs.items()},
        first=tuple(name for name, writers in needs.items() if not writers),
        routes={route.step.removeprefix(prefix): route for route in plan.routes if route.step.startswith(prefix)},
        result=dict(spec.result),
        fields=dict(spec.fields),
        cached=cached,
    )


def _node(step: Step, feeds: Sequence[str], *, cached: bool) -> Node:
    call, task = is_call(step) and not cached, is_task(step) and not cached
    return Node(step, tuple(feeds), waits=overlaps(step), call=call, task=task, follows=task and step.when is None)
