"""What drives one run: steps start when what they read is there, in the calling thread wherever that costs no time.

Functions run inline; a step that waits (an LM call, a module, an inner pipeline) runs inline if nothing else can go on
meanwhile, else on a crew thread; a plain function of a pool is a task there, which no thread here waits for. One thread at a
time touches the run's state: whoever has the turn. That is the calling thread, but while it waits: then the thread in which a
pool's task ended takes the turn and starts there what comes next, so that a chain of steps in a pool wakes nobody.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.pools import Pool, PoolFuture, crew
from dspex_nb.routing import Plan
from dspex_nb.runs.calling import call_here, pool_of, task_of
from dspex_nb.runs.fates import Fates
from dspex_nb.runs.graphs import Graph, Node, graph_of
from dspex_nb.runs.outcomes import KEPT_TIER, Gapped, Outcome, Written
from dspex_nb.runs.performing import perform
from dspex_nb.runs.resuming import Kept
from dspex_nb.runs.spreading import spread
from dspex_nb.runs.surroundings import Surroundings, read_all, values_of
from dspex_nb.scopes import CancelToken, Scope

_GRACE_S = 0.5
_T = TypeVar("_T")


def next_of(waiting: queue.SimpleQueue[_T]) -> _T:
    """Return the next item; looks up five times a second, for an interrupt does not end a wait on every system."""
    while True:
        with contextlib.suppress(queue.Empty):
            return waiting.get(timeout=0.2)


def _nothing() -> None:
    """Undo nothing."""


class _Flight(NamedTuple):
    """A step that runs elsewhere.

    Attributes:
        pool: Where it is a task, whose result is the function's own; None for a step on a crew thread, which gives a `Written`.
    """

    future: PoolFuture
    started: float
    pool: Pool | None = None

    @property
    def runs_on(self) -> bool:
        """Whether it goes on although it was told to stop: a thread cannot be killed."""
        if self.pool is None or not self.future.cancelled():
            return not self.future.done()
        return self.future.began and not self.pool.separate


@dataclass(slots=True)
class Driver:
    """One run's state; touched by whoever has the turn.

    Attributes:
        run_pipeline: Runs an inner pipeline.
        threads: Whether steps may run at once.
        apart: Whether functions run on threads too.
        awaited: How many steps each still waits for.
        landed: Steps that ended elsewhere, each with the time; None says that there is something else to see to.
        turn: Held by the thread that touches the state; `mine` says whether the calling thread holds it.
        over: Whether the run is being left: nobody goes on elsewhere.
    """

    spec: PipelineSpec
    plan: Plan
    inputs: dict[str, Any]
    session: Session
    scope: Scope
    prefix: str
    threads: bool
    apart: bool
    kept: Kept | None
    run_pipeline: Callable[..., Any]
    graph: Graph = field(init=False)
    fates: Fates = field(init=False)
    around: Surroundings = field(init=False)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    awaited: dict[str, int] = field(default_factory=dict)
    flying: dict[str, _Flight] = field(default_factory=dict)
    landed: queue.SimpleQueue[tuple[str, float] | None] = field(default_factory=queue.SimpleQueue)
    turn: threading.Lock = field(default_factory=threading.Lock)
    mine: bool = False
    over: bool = False
    context: Context = field(default_factory=copy_context)
    token: CancelToken | None = None
    unlink: Callable[[], None] = _nothing
    forget: Callable[[], None] = _nothing

    def run(self) -> Outcome:
        """Run to the end; see `scheduler.execute`."""
        self.graph = graph = graph_of(self.spec, self.plan, self.session, self.prefix)
        if not self.prefix:
            self.scope = self.scope.counting()
        self.fates = fates = Fates(graph.nodes, self.scope, self.prefix, self.spec.name if self.prefix else "")
        self.results[""] = self.inputs
        self.around = Surroundings(
            self.plan, self.session, self.scope, self.prefix, self.threads, self.results, fates.inner, self.run_pipeline,
            fates.child, graph.routes, graph.cached, self.kept,
        )  # fmt: skip
        if self.kept is not None:
            self.kept.start(self.spec)
        try:
            self._drive()
        except KeyboardInterrupt:
            self.scope.cancel.cancel()
            raise self._stopped() from None
        except Cancelled:
            raise self._stopped() from None
        except BaseException:
            self._leave("cancelled")
            raise
        finally:
            self.forget()
            self.unlink()
        return self._outcome()

    def _drive(self) -> None:
        cancel = self.scope.cancel
        self.awaited, ready = dict(self.graph.awaited), list(self.graph.first)
        self.mine = self.turn.acquire()
        while ready or self.flying:
            if cancel.cancelled:
                cancel.check()
            ready = self._fed(self._start(ready) if ready else self._land())

    def _fed(self, over: Iterable[str]) -> list[str]:
        """Return the steps that waited for nothing but those that are over now."""
        nodes, awaited, ready = self.graph.nodes, self.awaited, []
        for name in over:
            for fed in nodes[name].feeds:
                awaited[fed] -= 1
                if not awaited[fed]:
                    ready.append(fed)
        return ready

    def _start(self, ready: list[str]) -> list[str]:
        """Start what is ready, what waits first and on threads if others can go on; returns the steps that are over already."""
        nodes, fates, around = self.graph.nodes, self.fates, self.around
        simple = self.kept is None and not self.apart and not fates.blanks
        if simple and len(ready) == 1 and nodes[ready[0]].call:  # a chain's next step, as most are
            self._inline(nodes[ready[0]])
            return ready
        many = len(ready) > 1 or bool(self.flying)
        over, inline = [], []
        for name in ready:
            node = nodes[name]
            if simple and node.call:
                inline.append(node)
                continue
            step = node.step
            blank = fates.skipped(step, around)
            if blank is not None:
                self.results[name] = blank
                over.append(name)
            elif self.kept is not None and (fields := self.kept.load(step)) is not None:
                self.results[name] = fates.done(step, Written(fields, cached=KEPT_TIER), time.perf_counter(), around)
                over.append(name)
            elif self.threads and node.task:
                self.context = copy_context()  # what a step has set here holds for those after it
                self._submit(node)
            elif self.apart or (self.threads and many and node.waits):
                self._launch(node)
            else:
                inline.append(node)
        for node in inline:
            if self.scope.cancel.cancelled:
                self.scope.cancel.check()
            self._inline(node)
            over.append(node.step.name)
        return over

    def _inline(self, node: Node) -> None:
        step, around = node.step, self.around
        started = self.fates.begin(step, around)
        try:
            if node.call:
                value = call_here(step, self.scope, self.prefix + step.name, values_of(step, self.results))
                written = Written(spread(step, value))
            else:
                written = perform(step, around, self.scope.at_step(self.prefix + step.name) if node.waits else self.scope)
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            self.results[step.name] = self.fates.failed(step, error, started, around)
        except BaseException:  # ■ was pressed
            self.fates.end(step, "cancelled", time.perf_counter() - started)
            raise
        else:
            self.results[step.name] = self._done(step, written, started)

    def _done(self, step: Step, written: Written, started: float, ended: float | None = None) -> dict[str, Any]:
        """Keep a success, on disk too if the run can be resumed, before anyone hears of it."""
        if self.kept is not None and not isinstance(written.fields, Gapped):  # what failed is tried again by resume()
            why = self.kept.save(step, written.fields)
            if why:
                written = structs.replace(written, note="; ".join(filter(None, (written.note, f"not kept for resume(): {why}"))))
        return self.fates.done(step, written, started, self.around, ended)

    # Steps elsewhere

    def _launch(self, node: Node) -> None:
        """Perform a step on a crew thread."""
        if self.token is None:
            # Stopping the steps beside a failed one must not stop the user's other work in this scope.
            self.token = CancelToken()
            self.unlink = self.scope.cancel.on_cancel(self.token.cancel)
        name = node.step.name
        started = self.fates.begin(node.step, self.around)
        scope = replace(self.scope, step=self.prefix + name, cancel=self.token)
        future = crew.start(perform, node.step, self.around, scope)
        self._fly(name, _Flight(future, started))
        future.add_done_callback(lambda _: self.landed.put((name, time.perf_counter())))

    def _submit(self, node: Node, *, follows: bool = False) -> None:
        """Give a step to its pool; `follows` where the task before it ends in this thread."""
        step = node.step
        name = step.name
        started = self.fates.begin(step, self.around)
        try:
            pool = pool_of(step, self.session)
            task = task_of(step, self.scope, self.prefix + name, values_of(step, self.results), self.context)
            self._fly(name, _Flight(task.future, started, pool))
            task.future.tell(partial(self._ended, name))
            task.follows = follows
            if pool.separate:
                task.scope = self.scope.at_step(self.prefix + name)  # its worker's log is told there
                self.context.run(pool.run, task)  # the settings in force are packed as it is sent
            else:
                pool.run(task)
        except Exception as error:  # noqa: BLE001 - no such pool, a full one, what cannot be sent: the step's error as any other
            future = PoolFuture()
            future.fail(error)
            self._fly(name, _Flight(future, started))
            self.landed.put((name, time.perf_counter()))

    def _fly(self, name: str, flight: _Flight) -> None:
        self.flying[name] = flight
        if self.forget is _nothing:  # a run all of whose steps are inline looks for a stop between them
            self.forget = self.scope.cancel.on_cancel(self._break_off)

    def _ended(self, name: str, future: PoolFuture) -> None:
        """Go on in the thread in which a pool's task ended, where the calling thread waits and is not needed for it."""
        if self.kept is None and future.succeeded and self.scope.bus.quick and self.turn.acquire(blocking=False):
            try:
                if self._go_on(self.graph.nodes[name], future.value):
                    return
            finally:
                self.turn.release()
        self.landed.put((name, time.perf_counter()))

    def _go_on(self, node: Node, value: Any) -> bool:
        """Take a task's result and submit the tasks that waited for it; False where anything else is to be done."""
        nodes, awaited, step = self.graph.nodes, self.awaited, node.step
        following = [nodes[fed] for fed in node.feeds if awaited[fed] == 1]
        for each in following:
            if not each.follows or each.step.pool != step.pool:  # the calling thread may hold the slot that a step needs
                return False
        if self._stops() or self.fates.blanks:
            return False
        try:
            fields = spread(step, value)
        except Exception:  # noqa: BLE001 - the calling thread meets it too, and sorts it out
            return False
        started = self.flying.pop(step.name).started
        self.results[step.name] = self.fates.done(step, Written(fields), started, self.around)
        for fed in node.feeds:
            awaited[fed] -= 1
        for each in following:
            if self._stops():
                break
            self._submit(each, follows=True)
        if not self.flying or self._stops():
            self.landed.put(None)
        return True

    def _stops(self) -> bool:
        return self.over or self.scope.cancel.cancelled

    def _land(self) -> list[str]:
        """Wait for a step in flight to end; returns its name, or none where something else is to be seen to."""
        self.mine = False
        self.turn.release()
        try:
            landed = next_of(self.landed)
        finally:
            self.mine = self.turn.acquire()
        if landed is None or self.scope.cancel.cancelled:
            return []
        name, ended = landed
        flight, step = self.flying.pop(name), self.graph.nodes[name].step
        try:
            written = self._written(step, flight)
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            self.results[name] = self.fates.failed(step, error, flight.started, self.around, ended)
        else:
            self.results[name] = self._done(step, written, flight.started, ended)
        return [name]

    @staticmethod
    def _written(step: Step, flight: _Flight) -> Written:
        value = flight.future.result()
        return value if flight.pool is None else Written(spread(step, value))

    # The end

    def _break_off(self) -> None:
        """Stop the pools' tasks at once, while the calling thread may be inside a function."""
        for flight in list(self.flying.values()):
            if flight.pool is not None:
                flight.future.cancel()
        self.landed.put(None)

    def _leave(self, status: str) -> list[str]:
        """Stop what is in flight; returns the names of steps that did not stop in time and are left behind."""
        self.over = True
        if not self.mine:  # interrupted as it waited for its turn
            self.mine = self.turn.acquire(timeout=_GRACE_S)
        if not self.flying:
            return []
        if self.token is not None:
            self.token.cancel()
        for flight in list(self.flying.values()):
            if flight.pool is not None:
                flight.future.cancel()
        wait([flight.future for flight in self.flying.values()], _GRACE_S)
        left = []
        for name, flight in list(self.flying.items()):
            step, future = self.graph.nodes[name].step, flight.future
            if future.succeeded:
                with contextlib.suppress(Exception):  # what it gave may not be what it should
                    self.results[name] = self._done(step, self._written(step, flight), flight.started)  # over in time: it counts
                    continue
            if flight.runs_on:
                left.append(self.prefix + name)
                future.cancel()  # its result, should it come, is discarded
            self.fates.end(step, status, time.perf_counter() - flight.started)
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
        fates, results = self.fates, self.results
        usage, cost, cached = fates.total()
        return Outcome(
            outputs=read_all(self.graph.result, results),
            fields=read_all(self.graph.fields, results),
            results=results,
            step_results={**fates.top, **fates.inner} if fates.inner else fates.top,
            elapsed_s=fates.elapsed_s,
            usage=usage,
            cost=cost,
            cached=cached,
        )
