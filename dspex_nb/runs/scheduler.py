"""Runs a pipeline: each step once, as soon as what it reads is there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import MissingInputError, did_you_mean
from dspex_nb.pipelines.records import PipelineSpec
from dspex_nb.routing import Plan
from dspex_nb.runs.driving import Driver
from dspex_nb.runs.outcomes import Outcome, StepResult
from dspex_nb.runs.resuming import Kept
from dspex_nb.scopes import Scope

_layer = threading.local()


@contextlib.contextmanager
def inline_steps() -> Iterator[None]:
    """Within the block, in this thread, steps get no threads of their own: for one of many rows that run at once."""
    before = getattr(_layer, "inline", False)
    _layer.inline = True
    try:
        yield
    finally:
        _layer.inline = before


def execute(
    spec: PipelineSpec,
    plan: Plan,
    inputs: Mapping[str, Any],
    *,
    session: Session,
    scope: Scope,
    prefix: str = "",
    threads: bool | None = None,
    apart: bool = False,
    kept: Kept | None = None,
) -> Outcome:
    """Run a pipeline and return what it left.

    Args:
        spec: The pipeline.
        plan: Its plan, which may be shared by any number of runs at once.
        inputs: Its inputs; those with defaults may be left out.
        session: LM, adapter, cache and pools.
        scope: Whose events and cancellation these are.
        prefix: `"outer/"` for an inner pipeline: goes before the names of its steps in events and results.
        threads: Whether steps may run at once; None means yes, except in a row of a map.
        apart: Run functions on threads too. For a run that no KeyboardInterrupt reaches (in the background), so that a stop
            returns at once even if a function hangs.
        kept: Where finished steps leave what they wrote; what an earlier attempt of the run left there is not done again.

    Raises:
        MissingInputError: An input is not given.
        LMNotConfiguredError: A step needs an LM and none is set.
        StepError: A step failed and said nothing else of it; steps running beside it are stopped.
        Cancelled: The scope was cancelled or ■ was pressed. What could not be stopped is named in the message and left behind.
    """
    given = _inputs(spec, inputs)
    if plan.needs_lm:
        session.require_lm()
    may = threads if threads is not None else not getattr(_layer, "inline", False)
    return Driver(spec, plan, given, session, scope, prefix, may, apart, kept, execute).run()


def _inputs(spec: PipelineSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in spec.inputs:
        if one.name in given:
            values[one.name] = given[one.name]
        elif not one.required:
            values[one.name] = one.fresh()
        else:
            names = ", ".join(each.name for each in spec.inputs)
            near = did_you_mean(one.name, [name for name in given if name not in {each.name for each in spec.inputs}])
            raise MissingInputError(f"{spec.name}: missing input {one.name!r}", hint=f"{near}inputs are: {names}")
    unknown = [name for name in given if name not in values]
    if unknown:
        known = ", ".join(values) or "none"
        raise MissingInputError(
            f"{spec.name}: there is no input {unknown[0]!r}", hint=f"{did_you_mean(unknown[0], values)}inputs are: {known}"
        )
    return values


__all__ = ["Outcome", "StepResult", "execute", "inline_steps"]
