"""One row of a map as a task of the event loop: no thread a row, so that the LM's own speed is the map's.

Only pipelines whose steps wait for nothing but native LM calls are run so; `row_runner` says whether one is. A Python function
runs on a crew thread until it was quick often enough, then on the loop, and back on a thread as soon as it was slow once: the
loop serves every other row meanwhile, so it must never wait for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.pools import crew
from dspex_nb.predictions import Facts, Prediction
from dspex_nb.routing import Plan
from dspex_nb.runs.calling import is_async
from dspex_nb.runs.fates import Fates
from dspex_nb.runs.graphs import graph_of
from dspex_nb.runs.kinds import lm_call
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.performing import perform, wait_s, worth_another
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.spreading import spread_outputs
from dspex_nb.runs.surroundings import Surroundings, read_all, values_of
from dspex_nb.scopes import Scope

RowCall = Callable[[Mapping[str, Any], Scope], Awaitable[Prediction]]

_QUICK_S, _SLOW_S, _VERY_SLOW_S = 0.001, 0.005, 0.05
_TRIES = 3
_LM = ("predict", "chain_of_thought")
_HERE = ("function", "template", "reduce", "respond")


def row_runner(spec: PipelineSpec, plan: Plan, session: Session) -> RowCall | None:
    """Return what runs a row on the loop; None where a step would hold it up, and rows need threads."""
    routes = {route.step: route.engine for route in plan.routes}
    if not all(_fits(step, routes[step.name]) for step in spec.steps) or not any(step.kind in _LM for step in spec.steps):
        return None
    return _Rows(spec, plan, session).run


def _fits(step: Step, engine: str) -> bool:
    if step.timeout_s is not None or step.pool is not None or isinstance(step.on_error, Step):
        return False
    if step.kind in _LM:
        return engine == "native" and not step.over
    return step.kind in _HERE and not step.options.get("call")


class _Rows:
    """A pipeline made ready for many rows."""

    def __init__(self, spec: PipelineSpec, plan: Plan, session: Session) -> None:
        self.spec, self.plan, self.session = spec, plan, session
        self.graph = graph = graph_of(spec, plan, session, "")
        self.rounds = [[graph.nodes[name].step for name in names] for names in spec.levels()]
        self.places = {step.name: _Place(step, cached=step.name in graph.cached) for step in spec.steps if step.kind not in _LM}

    async def run(self, row: Mapping[str, Any], scope: Scope) -> Prediction:
        """Run one row.

        Raises:
            StepError: A step failed and said nothing else of it.
            Cancelled: The map was stopped.
        """
        inputs = {one.name: row[one.name] if one.name in row else one.fresh() for one in self.spec.inputs}
        results: dict[str, dict[str, Any]] = {"": inputs}
        scope = scope.counting()
        fates = Fates(self.graph.nodes, scope, "", quiet=True)
        around = Surroundings(
            plan=self.plan, session=self.session, scope=scope, prefix="", threads=False, results=results, inner=fates.inner,
            run_pipeline=execute, run_child=fates.child, routes=self.graph.routes, cached=self.graph.cached,
        )  # fmt: skip
        for steps in self.rounds:
            if scope.cancel.cancelled:
                scope.cancel.check()
            if len(steps) == 1:
                await self._step(steps[0], around, fates)
            else:
                done = await asyncio.gather(*(self._step(step, around, fates) for step in steps), return_exceptions=True)
                for error in filter(None, done):
                    raise error
        return self._prediction(fates, results, scope)

    async def _step(self, step: Step, around: Surroundings, fates: Fates) -> None:
        blank = fates.skipped(step, around)
        if blank is not None:
            around.results[step.name] = blank
            return
        started = fates.begin(step, around)
        scope = around.scope.at_step(step.name) if step.kind in _LM else around.scope
        try:
            if step.kind in _LM:
                written = await _asked(step, around, scope)
            else:
                written = await self.places[step.name].run(around, scope)
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            around.results[step.name] = fates.failed(step, error, started, around)
        else:
            around.results[step.name] = fates.done(step, written, started, around)

    def _prediction(self, fates: Fates, results: Mapping[str, Mapping[str, Any]], scope: Scope) -> Prediction:
        usage, cost, cached = fates.total()
        fields = read_all(self.graph.fields, results)
        facts = Facts(usage=usage, cost=cost, run_id=scope.run_id, elapsed_s=fates.elapsed_s, cached=cached, fields=fields)
        return Prediction(read_all(self.graph.result, results), facts)


async def _asked(step: Step, around: Surroundings, scope: Scope) -> Written:
    """Ask the model, again where `retry=` says so."""
    for attempt in range(step.retry + 1):
        program, options = lm_call(step, around, attempt)
        try:
            prediction = await program.acall_in(values_of(step, around.results), session=around.session, scope=scope, **options)
            fields = spread_outputs(step, prediction)
        except Exception as error:
            if attempt == step.retry or not worth_another(error):
                raise
            await asyncio.sleep(wait_s(step, attempt, error))
            scope.cancel.check()
        else:
            return Written(fields, prediction.usage, prediction.cost, prediction.cached, attempt + 1)
    raise AssertionError("the last attempt returns or raises")


class _Place:
    """Where a function's calls run: on a thread until several were quick, then on the loop until one was slow.

    After each slow one twice as many quick ones are needed, so that a function which waits holds the loop up a few times at most,
    however many rows there are, and one that was only unlucky is soon back.
    """

    __slots__ = ("inline", "may", "needed", "quick", "step")

    def __init__(self, step: Step, *, cached: bool) -> None:
        self.step, self.quick, self.needed = step, 0, _TRIES
        self.may = not cached and not is_async(step.callable)  # the step cache is on disk; async functions have their own task
        self.inline = step.kind in ("template", "respond")

    async def run(self, around: Surroundings, scope: Scope) -> Written:
        """Perform the step once."""
        if not self.inline:
            return await asyncio.wrap_future(crew.start(self._timed, around, scope))
        started = time.perf_counter()
        try:
            return perform(self.step, around, scope)
        finally:
            if time.perf_counter() - started > _SLOW_S:
                self.inline, self.quick, self.needed = False, 0, 2 * self.needed

    def _timed(self, around: Surroundings, scope: Scope) -> Written:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return perform(self.step, around, scope)
        finally:
            # The clock also counts waiting for the interpreter, which the busy loop holds; a wait of the function's own shows on
            # the loop, and brings it back here.
            is_quick = time.thread_time() - cpu < _QUICK_S and time.perf_counter() - wall < _VERY_SLOW_S
            self.quick = self.quick + 1 if is_quick else 0
            self.inline = self.may and self.quick >= self.needed
