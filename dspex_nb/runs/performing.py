"""One step, performed: from the step cache, or once or more by its retries, time limit and `over=`."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dspex_nb.errors import (
    AdapterParseError,
    Cancelled,
    LMError,
    MissingInputError,
    PipelineError,
    PlanError,
    TaskTimeoutError,
)
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import crew
from dspex_nb.runs.kinds import once
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.surroundings import Surroundings, values_of
from dspex_nb.runs.together import gathered, grouped, several
from dspex_nb.scopes import CancelToken, Scope


def perform(step: Step, around: Surroundings, scope: Scope) -> Written:
    """Run a step with its retries, or take its result from the step cache.

    Raises:
        Exception: Whatever its last attempt raised.
        Cancelled: The run was stopped.
    """
    if step.name in around.cached:
        run = partial(_tried, step, around, scope)
        return around.session.steps.through(step, values_of(step, around.results), run, around.session.cache)  # type: ignore[no-any-return]
    if not step.retry and step.timeout_s is None and not step.over:  # most steps, without the cost of what they do not ask for
        return once(step, around, scope, 0, values_of(step, around.results))
    return _tried(step, around, scope)


def _tried(step: Step, around: Surroundings, scope: Scope) -> Written:
    if not step.retry:
        return _limited(step, around, scope, 0)
    for attempt in range(step.retry):
        try:
            written = _limited(step, around, scope, attempt)
            return replace(written, attempts=attempt + 1)
        except Exception as error:
            if not worth_another(error):
                raise
            scope.cancel.check()
            _pause(wait_s(step, attempt, error), scope)
    try:
        return replace(_limited(step, around, scope, step.retry), attempts=step.retry + 1)
    except Exception as error:
        error.add_note(f"the last of {step.retry + 1} attempts")
        raise


def wait_s(step: Step, attempt: int, error: Exception) -> float:
    """Return how long to wait before the next attempt."""
    if isinstance(error, AdapterParseError):
        return 0.0  # another answer is asked for; nobody is overloaded
    waits = step.backoff.longest_s(attempt) * (1 - step.backoff.jitter * random.random())  # noqa: S311 - spreads retries
    return max(waits, getattr(error, "retry_after_s", None) or 0.0)


def _pause(seconds: float, scope: Scope) -> None:
    if seconds <= 0:
        return
    wake = threading.Event()
    forget = scope.cancel.on_cancel(wake.set)
    try:
        wake.wait(seconds)
    finally:
        forget()
    scope.cancel.check()


def worth_another(error: Exception) -> bool:
    """Whether the same call may succeed: not where it was stopped, refused, or called with the wrong things."""
    if isinstance(error, Cancelled | PlanError | MissingInputError):
        return False
    return error.retryable if isinstance(error, LMError) else True


def _limited(step: Step, around: Surroundings, scope: Scope, attempt: int) -> Written:
    """Make one attempt, broken off after `timeout_s`."""
    if step.timeout_s is None or _in_pool(step):
        return _attempt(step, around, scope, attempt)
    token = CancelToken()  # its own, so that a time limit closes this step's sockets and no other's
    forget = scope.cancel.on_cancel(token.cancel)
    future = crew.start(_attempt, step, around, replace(scope, cancel=token), attempt)
    wake = threading.Event()
    future.add_done_callback(lambda _: wake.set())
    forget_wake = scope.cancel.on_cancel(wake.set)
    try:
        wake.wait(step.timeout_s)
        if future.done():
            written: Written = future.result()
            return written
        scope.cancel.check()
        raise TaskTimeoutError(
            f"not done after {step.timeout_s:g} s; its thread was abandoned, its result will be discarded",
            hint="raise timeout_s, or give the step on_error='skip'",
        )
    finally:
        forget()
        forget_wake()
        if not future.done():
            token.cancel()
            future.cancel()


def _in_pool(step: Step) -> bool:
    return step.pool is not None and step.kind == "function"


def _attempt(step: Step, around: Surroundings, scope: Scope, attempt: int) -> Written:
    if not step.over or step.kind == "parallel":  # whose children go through the list themselves
        return once(step, around, scope, attempt, values_of(step, around.results))
    values = values_of(step, around.results)
    lists = {name: _listed(step, name, values[name]) for name in step.over}
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise PipelineError(f"over= goes through lists of different lengths: {lengths}", hint="give lists of one length")
    rows = [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
    with grouped(scope) as group:
        calls = [partial(_element, number, step, around, group, attempt, {**values, **row}) for number, row in enumerate(rows)]
        return gathered(step, several(step, around, group, calls))


def _element(number: int, step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    """Make the call of one element of a list; an error says which it was."""
    try:
        return once(step, around, scope, attempt, values)
    except Exception as error:
        note = f"at element {number} of over={', '.join(str(step.bindings[name]) for name in step.over)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def _listed(step: Step, name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise PipelineError(
            f"over={step.bindings[name]}: expected a list, found {type(value).__name__}",
            hint=f"let what {step.name!r} reads there be a list",
        )
    return list(value)
