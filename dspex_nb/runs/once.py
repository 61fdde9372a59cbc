"""One call of a step where it is to be made: here, on a pool's thread, or in a worker process with the notebook's settings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from dspex_nb.ambient import current
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import Task
from dspex_nb.pools.carrying import settings
from dspex_nb.predictions import Route
from dspex_nb.routing import Plan
from dspex_nb.runs.calling import call_function, call_in_pool, pool_of
from dspex_nb.runs.kinds import perform_kind
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.spreading import spread
from dspex_nb.runs.surroundings import Surroundings
from dspex_nb.scopes import Scope


def once(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    """Make one call of a step with these values, in its pool if it names one."""
    name = around.prefix + step.name
    if step.kind == "function":
        return Written(spread(step, call_function(step, around.session, scope, name, values)))
    if step.pool is None:
        return perform_kind(step, around, scope, attempt, values)
    pool = pool_of(step, around.session)
    if pool.separate:
        call: Any = _InWorker(_bare(step), around.routes[step.name], scope.run_id, name)
        task = Task(call, (attempt, values), timeout_s=step.timeout_s)
    else:
        task = Task(partial(perform_kind, step, around, scope, attempt, values))
    written: Written = call_in_pool(pool, scope, name, task)
    return written


def ends_itself(step: Step, around: Surroundings) -> bool:
    """Whether a step's pool keeps its time limit; a model's call on a thread is ended by its socket, from outside."""
    return step.pool is not None and (step.kind == "function" or pool_of(step, around.session).separate)


def _bare(step: Step) -> Step:
    """Return what the call needs of a step: what it reads and what comes before and after stays here."""
    return replace(step, bindings={}, sources={}, text="", when=None, on_error="stop", pool=None)


class _InWorker:
    """The call, as it travels; under the step's name, which messages and a pool's table show."""

    def __init__(self, step: Step, route: Route, run_id: str, name: str) -> None:
        self.step, self.route, self.run_id = step, route, run_id
        self.__qualname__ = name

    def __call__(self, attempt: int, values: dict[str, Any]) -> Written:
        """Make the call in a worker; what it asks of a model is told to the run by the worker itself."""
        settings.ready()
        session, step, route, name = current(), self.step, self.route, self.__qualname__
        scope = Scope(self.run_id, session.bus, step=name)
        around = Surroundings(
            plan=Plan(name, (route,)), session=session, scope=scope, prefix="", threads=True, results={}, inner={},
            run_pipeline=_nothing_inside, run_child=_nothing_inside, routes={step.name: route},
        )  # fmt: skip
        return perform_kind(step, around, scope, attempt, values)


def _nothing_inside(*_: object, **__: object) -> None:
    raise AssertionError("steps that hold steps run where those say")
