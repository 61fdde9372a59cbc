"""Runs a pipeline: each step once, as soon as what it reads is there, in the calling thread wherever that costs no time.

Functions run inline; a step that waits (an LM call, a module, an inner pipeline) runs inline if nothing else can go on
meanwhile, else on a crew thread. The driver alone touches the run's state, so no lock is needed.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, MissingInputError, did_you_mean
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.pools import PoolFuture, crew
from dspex_nb.routing import Plan
from dspex_nb.runs.fates import Fates
from dspex_nb.runs.graphs import Graph, Node, graph_of
from dspex_nb.runs.outcomes import KEPT_TIER, Gapped, Outcome, StepResult, Written, total
from dspex_nb.runs.performing import perform
from dspex_nb.runs.resuming import Kept
from dspex_nb.runs.surroundings import Surroundings
from dspex_nb.scopes import CancelToken, Scope

_layer = threading.local()
_GRACE_S = 0.5
_T = TypeVar("_T")


@contextlib.contextmanager
def inline_steps() -> Iterator[None]:
    """Within the block, in this thread, steps get no threads of their own: for one of many rows that run at once."""
    before = getattr(_layer, "inline", False)
    _layer.inline = True
    try:
        yield
    finally:
        _layer.inline = before


def next_of(waiting: queue.SimpleQueue[_T]) -> _T:
    """Return the next item; looks up five times a second, for an interrupt does not end a wait on every system."""
    while True:
        with contextlib.suppress(queue.Empty):
            return waiting.get(timeout=0.2)


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
    return _Driver(spec, plan, given, session, scope, prefix, may, apart, kept).run()


def _inputs(spec: PipelineSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in spec.inputs:
        if one.name in given:
            values[one.name] = given[one.name]
        elif not one.required:
            values[one.name] = _fresh(one.default)
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


def _fresh(default: Any) -> Any:
    """Return a default that no run can change for the next one."""
    return copy.deepcopy(default) if isinstance(default, list | dict | set) else default


@dataclass(slots=True)
class _Driver:
    """One run's state; used by one thread."""

    spec: PipelineSpec
    plan: Plan
    inputs: dict[str, Any]
    session: Session
    scope: Scope
    prefix: str
    threads: bool
    apart: bool
    kept: Kept | None
    graph: Graph = field(init=False)
    fates: Fates = field(init=False)
    around: Surroundings = field(init=False)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    flying: dict[str, tuple[PoolFuture, float]] = field(default_factory=dict)
    landed: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)
    token: CancelToken | None = None
    unlink: Callable[[], None] = lambda: None

    def run(self) -> Outcome:
        self.graph = graph = graph_of(self.spec, self.plan, self.session, self.prefix)
        self.fates = fates = Fates(graph.nodes, self.scope, self.prefix, self.spec.name if self.prefix else "")
        self.results[""] = self.inputs
        self.around = around = Surroundings(
            self.plan, self.session, self.scope, self.prefix, self.threads, self.results, fates.inner, execute, fates.child,
            graph.routes, graph.cached, self.kept,
        )  # fmt: skip
        if self.kept is not None:
            self.kept.start(self.spec)
        forget = self.scope.cancel.on_cancel(lambda: self.landed.put(None))
        try:
            self._drive(around)
        except KeyboardInterrupt:
            self.scope.cancel.cancel()
            raise self._stopped() from None
        except Cancelled:
            raise self._stopped() from None
        except BaseException:
            self._leave("cancelled")
            raise
        finally:
            forget()
            self.unlink()
        return self._outcome()

    def _drive(self, around: Surroundings) -> None:
        nodes, waiting, ready = self.graph.nodes, dict(self.graph.awaited), list(self.graph.first)
        cancel = self.scope.cancel
        while ready or self.flying:
            if cancel.cancelled:
                cancel.check()
            over = self._start(ready, around) if ready else [self._land(around)]
            ready = []
            for name in over:
                for fed in nodes[name].feeds:
                    waiting[fed] -= 1
                    if not waiting[fed]:
                        ready.append(fed)

    def _start(self, ready: list[str], around: Surroundings) -> list[str]:
        """Start what is ready, what waits first and on threads if others can go on; returns the steps that are over already."""
        nodes, fates = self.graph.nodes, self.fates
        many = len(ready) > 1 or bool(self.flying)
        over, inline = [], []
        for name in ready:
            node = nodes[name]
            step = node.step
            blank = fates.skipped(step, around)
            if blank is not None:
                self.results[name] = blank
                over.append(name)
            elif self.kept is not None and (fields := self.kept.load(step)) is not None:
                self.results[name] = fates.done(step, Written(fields, cached=KEPT_TIER), time.perf_counter(), around)
                over.append(name)
            elif self.apart or (self.threads and many and node.waits):
                self._launch(node, around)
            else:
                inline.append(node)
        for node in inline:
            if self.scope.cancel.cancelled:
                self.scope.cancel.check()
            self._inline(node, around)
            over.append(node.step.name)
        return over

    def _inline(self, node: Node, around: Surroundings) -> None:
        step = node.step
        started = self.fates.begin(step, around)
        try:
            scope = self.scope.at_step(self.prefix + step.name) if node.waits else self.scope
            written = perform(step, around, scope)
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            self.results[step.name] = self.fates.failed(step, error, started, around)
        except BaseException:  # ■ was pressed
            self.fates.end(step, "cancelled", time.perf_counter() - started)
            raise
        else:
            self.results[step.name] = self._done(step, written, started, around)

    def _done(self, step: Step, written: Written, started: float, around: Surroundings) -> dict[str, Any]:
        """Keep a success, on disk too if the run can be resumed, before anyone hears of it."""
        if self.kept is not None and not isinstance(written.fields, Gapped):  # what failed is tried again by resume()
            why = self.kept.save(step, written.fields)
            if why:
                written = replace(written, note="; ".join(filter(None, (written.note, f"not kept for resume(): {why}"))))
        return self.fates.done(step, written, started, around)

    def _launch(self, node: Node, around: Surroundings) -> None:
        if self.token is None:
            # Stopping the steps beside a failed one must not stop the user's other work in this scope.
            self.token = CancelToken()
            self.unlink = self.scope.cancel.on_cancel(self.token.cancel)
        name = node.step.name
        started = self.fates.begin(node.step, around)
        future = crew.start(perform, node.step, around, replace(self.scope, step=self.prefix + name, cancel=self.token))
        self.flying[name] = (future, started)
        future.add_done_callback(lambda _: self.landed.put(name))

    def _land(self, around: Surroundings) -> str:
        """Wait for a step in flight to end."""
        name = next_of(self.landed)
        if name is None:
            self.scope.cancel.check()
        assert name is not None  # noqa: S101 - None is put by a cancellation only
        future, started = self.flying.pop(name)
        step = self.graph.nodes[name].step
        try:
            written = future.result()
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            self.results[name] = self.fates.failed(step, error, started, around)
        else:
            self.results[name] = self._done(step, written, started, around)
        return name

    # The end

    def _leave(self, status: str) -> list[str]:
        """Stop what is in flight; returns the names of steps that did not stop in time and are left behind."""
        if not self.flying:
            return []
        if self.token is not None:
            self.token.cancel()
        wait([future for future, _ in self.flying.values()], _GRACE_S)
        left = []
        for name, (future, started) in self.flying.items():
            step = self.graph.nodes[name].step
            if future.done() and not future.cancelled() and future.exception() is None:
                self.results[name] = self._done(step, future.result(), started, self.around)  # it was over in time, and counts
                continue
            if not future.done():
                left.append(self.prefix + name)
                future.cancel()  # its result, should it come, is discarded
            self.fates.end(step, status, time.perf_counter() - started)
        self.flying.clear()
        return left

    def _stopped(self) -> Cancelled:
        left = self._leave("cancelled")
        done = sum(fate.status in ("done", "cached") for fate in self.fates.top.values())
        told = f"; could not be stopped and was left behind, its result will be discarded: {', '.join(left)}" if left else ""
        return Cancelled(
            f"{self.spec.name}: stopped after {done} of {len(self.graph.nodes)} steps{told}",
            hint="answers already received are in the cache",
        )

    def _outcome(self) -> Outcome:
        usage, cost, cached = total(self.fates.top)
        return Outcome(
            outputs={name: ref.read(self.results) for name, ref in self.graph.result.items()},
            fields={name: ref.read(self.results) for name, ref in self.graph.fields.items()},
            by_step={name: fields for name, fields in self.results.items() if name},
            step_results={**self.fates.top, **self.fates.inner},
            elapsed_s=self.fates.elapsed_s,
            usage=usage,
            cost=cost,
            cached=cached,
        )


__all__ = ["Outcome", "StepResult", "execute", "inline_steps", "next_of"]
