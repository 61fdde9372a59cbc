"""`describe`: a pipeline as JSON-able facts, for views, events and people."""

from __future__ import annotations

from typing import Any

from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.signatures import type_text


def describe(spec: PipelineSpec) -> dict[str, Any]:
    """Return the pipeline's inputs, steps (children and fallbacks after their parent), edges between steps, and result fields.

    A step's `parent` is the step it belongs to, or None; `summary` says what goes in and out: `message -> desk, urgency`.
    """
    return {
        "name": spec.name,
        "inputs": [
            {"name": one.name, "type": text_of(one.type), "required": one.required, "line": one.line} for one in spec.inputs
        ],
        "steps": [_step(step, None) for step in spec.steps] + _inner(spec),
        "edges": [list(edge) for edge in spec.edges()],
        "outputs": list(spec.result),
    }


def text_of(annotation: Any) -> str:
    """Return a type as it is written; `Any` where nothing says."""
    return "Any" if annotation is Any else type_text(annotation)


def _inner(spec: PipelineSpec) -> list[dict[str, Any]]:
    top = {step.name for step in spec.steps}
    return [_step(step, step.name.rpartition(".")[0]) for step in spec.all_steps() if step.name not in top]


def _step(step: Step, parent: str | None) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "engine": step.engine,
        "line": step.line,
        "reads": list(step.reads),
        "writes": list(step.writes),
        "parent": parent,
        "fallback": parent is not None and step.label == "on_error",
        "summary": summary(step),
    }


def summary(step: Step) -> str:
    """Return what goes in and out of a step in one line."""
    if step.children and step.kind == "parallel":
        return f"{', '.join(step.reads)} -> {{{', '.join(child.label for child in step.children)}}}".strip()
    return f"{', '.join(step.reads)} -> {', '.join(step.writes)}".strip()
