"""One step, performed: from the step cache, or once or more by its retries and time limit; under `over=` each item so."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import structs

from dspex_nb.errors import (
    AdapterParseError,
    Cancelled,
    LMError,
    MissingInputError,
    PlanError,
    TaskTimeoutError,
)
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import crew
from dspex_nb.runs.calling import is_async
from dspex_nb.runs.going_over import perform_items
from dspex_nb.runs.once import ends_itself, once
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.surroundings import Surroundings, values_of
from dspex_nb.scopes import CancelToken, Scope


def perform(step: Step, around: Surroundings, scope: Scope) -> Written:
    """Run a step with its retries, or take its result from the step cache.

    Raises:
        Exception: Whatever its last attempt raised.
        Cancelled: The run was stopped.
    """
    cached = step.name in around.cached
    if not (
        cached or step.retry or step.over or step.timeout_s is not None
    ):  # most steps, at no cost of what they do not ask for
        return once(step, around, scope, 0, values_of(step, around.results))
    if cached:
        run = partial(_performed, step, around, scope)
        return around.session.steps.through(step, values_of(step, around.results), run, around.session.cache)  # type: ignore[no-any-return]
    return _performed(step, around, scope)


def _performed(step: Step, around: Surroundings, scope: Scope) -> Written:
    if step.over and step.kind != "parallel":  # whose children go through the list themselves
        return perform_items(step, around, scope, _tried)
    return _tried(step, around, scope, values_of(step, around.results))


def _tried(step: Step, around: Surroundings, scope: Scope, values: dict[str, Any]) -> Written:
    for attempt in range(step.retry):
        try:
            written = _limited(step, around, scope, attempt, values)
            return structs.replace(written, attempts=attempt + 1)
        except Exception as error:
            if not worth_another(error):
                raise
            scope.cancel.check()
            _pause(wait_s(step, attempt, error), scope)
    try:
        written = _limited(step, around, scope, step.retry, values)
    except Exception as error:
        if step.retry:
            error.add_note(f"the last of {step.retry + 1} attempts")
        raise
    return structs.replace(written, attempts=step.retry + 1)


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


def _limited(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    """Make one attempt, broken off after `timeout_s`."""
    given = dict(values)  # a call takes out what it gives by position
    if step.timeout_s is None or ends_itself(step, around):
        return once(step, around, scope, attempt, given)
    token = CancelToken()  # its own, so that a time limit closes this step's sockets and no other's
    forget = scope.cancel.on_cancel(token.cancel)
    future = crew.start(once, step, around, replace(scope, cancel=token), attempt, given)
    wake = threading.Event()
    future.add_done_callback(lambda _: wake.set())
    forget_wake = scope.cancel.on_cancel(wake.set)
    try:
        wake.wait(step.timeout_s)
        if future.done():
            written: Written = future.result()
            return written
        scope.cancel.check()
        ends = step.kind in ("predict", "chain_of_thought") or (step.kind == "function" and is_async(step.callable))
        told = "it was stopped" if ends else "its thread was abandoned, its result will be discarded"
        raise TaskTimeoutError(
            f"not done after {step.timeout_s:g} s; {told}",
            hint="raise timeout_s, or give the step on_error='skip'",
        )
    finally:
        forget()
        forget_wake()
        if not future.done():
            token.cancel()
            future.cancel()
