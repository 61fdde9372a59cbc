"""From what a step gave to the fields it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.pipelines.records import Step


def spread(step: Step, value: Any) -> dict[str, Any]:
    """Return the fields of a plain value: itself where the step writes one, else a mapping's or a tuple's parts."""
    writes = step.writes
    if len(writes) == 1:
        return {writes[0]: value}
    if isinstance(value, Mapping):
        missing = [name for name in writes if name not in value]
        if not missing:
            return {name: value[name] for name in writes}
        raise PipelineError(
            f"returned no {missing[0]!r}; it returned {', '.join(map(str, value))}", hint=f"return {', '.join(writes)}"
        )
    if isinstance(value, tuple | list) and len(value) == len(writes):
        return dict(zip(writes, value, strict=True))
    raise PipelineError(
        f"returned a {type(value).__name__}, which is not the {len(writes)} fields it writes",
        hint=f"return a dict with {', '.join(writes)}, or a tuple in that order",
    )


def spread_outputs(step: Step, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a module's outputs; hidden ones where it has them."""
    fields = {name: outputs[name] for name in step.writes if name in outputs}
    if not fields and len(step.writes) == 1:  # a module that does not say what it gives: one field, named after the step
        visible = {name: value for name, value in outputs.items() if name not in step.hidden}
        fields = {step.writes[0]: next(iter(visible.values())) if len(visible) == 1 else dict(visible)}
    missing = [name for name in step.writes if name not in fields]
    if missing:
        raise PipelineError(
            f"gave no {missing[0]!r}; it gave {', '.join(outputs)}", hint="name the outputs it gives in the step's signature"
        )
    return fields | {name: outputs[name] for name in step.hidden if name in outputs}
