"""What the steps of one run share, and what each reads of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from dspex_nb.ambient import Session
from dspex_nb.pipelines.records import FieldRef, Step
from dspex_nb.predictions import Route
from dspex_nb.routing import Plan
from dspex_nb.runs.outcomes import StepResult
from dspex_nb.runs.resuming import Kept
from dspex_nb.runs.retrieving import as_texts
from dspex_nb.scopes import Scope

Results = Mapping[str, Mapping[str, Any]]


class Surroundings(Struct):
    """What every step of one run shares.

    Attributes:
        prefix: `"outer/"` inside a nested pipeline.
        threads: False where rows of a map already fill the threads: then steps run one after the other.
        results: What each step wrote so far; `""` holds the inputs.
        inner: Fates of children and inner steps, by full name.
        routes: The steps' routes, by their names without the prefix.
        cached: Names of the steps that the step cache serves.
        kept: Where the run keeps what finished steps wrote, if it can be resumed.
    """

    plan: Plan
    session: Session
    scope: Scope
    prefix: str
    threads: bool
    results: dict[str, dict[str, Any]]
    inner: dict[str, StepResult]
    run_pipeline: Callable[..., Any]
    run_child: Callable[..., Any]
    routes: Mapping[str, Route]
    cached: frozenset[str] = frozenset()
    kept: Kept | None = None


_NONE: Mapping[str, Any] = {}


class Blank(dict[str, Any]):
    """The fields of a step that did not run or failed: all None. Its class tells it from a step that gave None."""


def read_all(refs: Mapping[str, FieldRef], results: Results) -> dict[str, Any]:
    """Return the value of each field: what `ref.read` gives, without a call for each where there are no keys to go through."""
    return {
        name: ref.read(results) if ref.keys else results.get(ref.step or "", _NONE).get(ref.name) for name, ref in refs.items()
    }


def values_of(step: Step, results: Results) -> dict[str, Any]:
    """Return the value of each parameter that is given one; what a blank step left out takes its default."""
    values = {}
    for name, value in step.bindings.items():
        if type(value) is not FieldRef:
            values[name] = value
            continue
        written = results.get(value.step or "", _NONE)
        if type(written) is not Blank:
            values[name] = value.read(results) if value.keys else written.get(value.name)
    for name in step.texts:
        if name in values:
            values[name] = as_texts(values[name])
    return values
