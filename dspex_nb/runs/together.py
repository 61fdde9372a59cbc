"""Several calls of one step: side by side where they wait, and what they wrote made one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from dspex_nb.ambient import Session
from dspex_nb.messages import Usage
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import crew
from dspex_nb.runs.calling import is_async
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.surroundings import Surroundings
from dspex_nb.scopes import CancelToken, Scope

_AT_ONCE = 8


@contextlib.contextmanager
def grouped(scope: Scope) -> Iterator[Scope]:
    """Lend a scope to calls that are made together: if one fails, cancelling it stops the others and nothing else."""
    token = CancelToken()
    forget = scope.cancel.on_cancel(token.cancel)
    try:
        yield replace(scope, cancel=token)
    finally:
        forget()


def several(step: Step, around: Surroundings, scope: Scope, calls: Sequence[Callable[[], Written]]) -> list[Written]:
    """Make the calls: waiting ones a few at once, Python functions one after the other."""
    width = min(len(calls), _width(around.session)) if around.threads and overlaps(step) else 1
    if width <= 1:
        return [checked(scope, call) for call in calls]
    lanes = [calls[start::width] for start in range(width)]
    done = crew.at_once([partial(_in_turn, scope, lane) for lane in lanes], scope.cancel.cancel)
    return [done[index % width][index // width] for index in range(len(calls))]


def overlaps(step: Step) -> bool:
    """Whether a step waits for something else than this thread, so that others gain by running meanwhile."""
    if step.kind == "template" and step.pool is None:
        return bool(step.options.get("call"))
    return step.kind not in ("function", "reduce", "respond") or step.pool is not None or is_async(step.callable)


def _in_turn(scope: Scope, calls: Sequence[Callable[[], Written]]) -> list[Written]:
    return [checked(scope, call) for call in calls]


def checked(scope: Scope, call: Callable[[], Written]) -> Written:
    """Make a call unless the run was stopped."""
    scope.cancel.check()
    return call()


def _width(session: Session) -> int:
    return int(getattr(session.lm, "max_concurrency", None) or _AT_ONCE)


def gathered(step: Step, parts: Sequence[Written]) -> Written:
    """Return what several calls wrote as one: each field a list, what they took summed."""
    names = (*step.writes, *(name for name in step.hidden if any(name in part.fields for part in parts)))
    fields = {name: [part.fields.get(name) for part in parts] for name in names}
    usage = sum((part.usage for part in parts), Usage())
    cost = None if any(part.cost is None for part in parts) else sum(part.cost or 0.0 for part in parts)
    cached = parts[0].cached if parts and all(part.cached for part in parts) else None
    return Written(fields, usage, cost, cached)
