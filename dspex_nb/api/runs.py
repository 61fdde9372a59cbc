"""`Run`: a handle on a pipeline's run: its status, result, events, timings, and a way to stop it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.displays import Watch, in_notebook, show, tell_user
from dspex_nb.api.run_metrics import metric_frame, metric_rows, timings_of, usage_of
from dspex_nb.errors import Cancelled, DSPexError
from dspex_nb.events import Event, RunEnded, RunStarted
from dspex_nb.messages import Usage
from dspex_nb.pipelines import describe
from dspex_nb.predictions import Prediction
from dspex_nb.runs.outcomes import Outcome
from dspex_nb.runs.resuming import kept_of
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import RunState, run_html, run_text


class Run:
    """A pipeline's run, started in a background thread when made.

    Awaitable (gives the result) and iterable with `async for` or `for` (gives the events until it is over; a model's text as it
    comes, by step and field, among them). Showing it shows it live.

    Args:
        pipeline: What runs.
        inputs: Its inputs, checked.
        now: The session it runs in.
        on_progress: Called with each event.
        run_id: The run that it continues; a new one without.
        keep: Whether finished steps are kept on disk until it is done, so that it can be resumed.
        stream: Whether its LM steps tell their texts as they come, as `TokenReceived` events.
    """

    def __init__(
        self,
        pipeline: Any,
        inputs: Mapping[str, Any],
        now: Session,
        *,
        on_progress: Any = None,
        run_id: str | None = None,
        keep: bool = True,
        stream: bool = False,
    ) -> None:
        self.pipeline, self.inputs, self._stream = pipeline, dict(inputs), stream
        self.id = run_id or new_run_id()
        self.status = "running"
        self.events: list[Event] = []
        self._now, self._on_progress = now, on_progress
        self._scope = Scope(self.id, now.bus, tokens=stream)
        self._plan = pipeline.planned(now)
        self._kept = kept_of(now, self.id) if keep else None
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._views: list[threading.Thread] = []
        self._state = RunState(self.id, describe(pipeline.spec), [_route(route) for route in self._plan.routes])
        self._subscribed = [now.bus.subscribe(self._take, quick=True)]
        if on_progress is not None:
            self._subscribed.append(tell_user(self._scope, on_progress))
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name=f"dspex-run-{self.id}", daemon=True).start()

    def _take(self, event: Event) -> None:
        if event.run_id == self.id:
            self.events.append(event)
            self._state.apply(event)

    def _work(self) -> None:
        started = time.perf_counter()
        spec = self.pipeline.spec
        info = {**describe(spec), "routes": [_route(route) for route in self._plan.routes]}
        if self._kept is not None and (why := self._kept.save_inputs(spec, self.inputs)):
            info["inputs_not_kept"] = why
        self._scope.publish(RunStarted(run_id=self.id, name=self.pipeline.name, of="pipeline", total=len(spec.steps), info=info))
        error = None
        try:
            self._outcome = execute(
                spec, self._plan, self.inputs, session=self._now, scope=self._scope, apart=True, kept=self._kept
            )
            status = "done"
            if self._kept is not None:
                self._kept.forget()
        except Cancelled as stopped:
            status, self._error = "cancelled", stopped
        except BaseException as failed:  # noqa: BLE001 - kept, and raised in whoever asks for the result
            status, self._error = "failed", failed
            error = str(failed)
        elapsed_s = time.perf_counter() - started
        metrics = {"metrics": metric_rows(self._state.snapshot())}
        self._scope.publish(RunEnded(run_id=self.id, status=status, elapsed_s=elapsed_s, error=error, info=metrics))
        self.status = status
        for unsubscribe in self._subscribed:
            unsubscribe()
        self._done.set()

    def result(self, timeout_s: float | None = None) -> Prediction:
        """Wait for the run and return its prediction; ■ while waiting cancels it.

        Raises:
            Cancelled: It was stopped.
            DSPexError: A step failed, or `timeout_s` passed (the run goes on).
        """
        try:
            finished = self._done.wait(timeout_s)
        except KeyboardInterrupt:
            raise self._interrupted() from None
        if not finished:
            raise DSPexError(
                f"run of {self.pipeline.name!r} is not done after {timeout_s} s",
                hint="it goes on; call .result() again or .cancel()",
            )
        for view in list(self._views):  # so that a cell that waits for the run ends with the view's last picture
            view.join(_LAST_PICTURE_S)
        if self._error is not None:
            raise self._error
        if self._outcome is None:
            raise AssertionError("a run without an error has an outcome")
        return self._outcome.prediction(self.id)

    def _interrupted(self) -> Cancelled:
        self.cancel()
        return Cancelled(
            f"run of {self.pipeline.name!r} stopped", hint="what was finished is kept: run.resume() goes on from there"
        )

    def cancel(self) -> None:
        """Stop it: its LM sockets close, its steps end or are abandoned; idempotent."""
        self._scope.cancel.cancel()

    def resume(self, pipeline: Any = None) -> Run:
        """Go on from the last finished step: the same run, the same inputs; steps that were finished are not run again.

        A step whose definition has changed since, and what depends on it, runs again; so does one whose result could not be
        kept, which the run says in that step's note. In another kernel: `dx.load_run(id).resume()` or `pipe.resume(id)`.

        Args:
            pipeline: The pipeline in its present form, if its cell was run again; else the one that the run began with.

        Raises:
            DSPexError: It still runs, or is done, by this handle or another.
        """
        refuse_resuming(self.pipeline.name, self.id, self._latest_status())
        return Run(
            pipeline or self.pipeline, self.inputs, self._now, on_progress=self._on_progress, run_id=self.id, stream=self._stream
        )

    def _latest_status(self) -> str:
        """Return how the run stands: another handle may have gone on with it."""
        if self.status == "running" or self._now.store is None:
            return self.status
        self._now.store.flush()
        row = self._now.store.run(self.id)
        return self.status if row is None else str(row.status)

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The result's fields; empty until it is done."""
        return self._outcome.outputs if self._outcome else {}

    @property
    def metrics(self) -> Any:
        """A DataFrame, a row a step: its state, seconds, calls, cache hits, tokens, cost, engine, pool, and why."""
        return metric_frame(metric_rows(self._state.snapshot()))

    @property
    def timings(self) -> dict[str, float]:
        """Seconds each step took, or has taken so far."""
        if self._outcome is not None:
            return {name: step.elapsed_s for name, step in self._outcome.step_results.items()}
        return timings_of(self._state.snapshot())

    @property
    def usage(self) -> Usage:
        """Tokens and calls so far."""
        return self._outcome.usage if self._outcome else usage_of(self._state.snapshot())

    @property
    def cost(self) -> float | None:
        """US dollars so far, None where a price is unknown."""
        return self._outcome.cost if self._outcome else self._state.snapshot().cost

    def __await__(self) -> Generator[Any, None, Prediction]:
        return self._wait().__await__()

    async def _wait(self) -> Prediction:
        try:
            while not self._done.is_set():  # noqa: ASYNC110 - the end comes from a thread, and any loop may be waiting
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()

    def __iter__(self) -> Iterator[Event]:
        for event in self._told():
            if event is not None:
                yield event
                continue
            try:
                self._done.wait(_LOOK_S)
            except KeyboardInterrupt:
                raise self._interrupted() from None

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self._told():
            if event is not None:
                yield event
            else:
                await asyncio.sleep(_LOOK_S)

    def _told(self) -> Iterator[Event | None]:
        """Yield the events up to the end, None where the next one is still to come."""
        seen = 0
        while True:
            finished = self._done.is_set()
            while seen < len(self.events):
                seen += 1
                yield self.events[seen - 1]
            if finished:
                return
            yield None

    def __repr__(self) -> str:
        return f"Run({self.pipeline.name!r}, {self.status})"

    def _ipython_display_(self) -> None:
        self.show()

    def show(self) -> None:
        """Show the run; while it goes on, the view is live and has a Stop button."""
        state = self._state
        if not in_notebook():
            show(run_html(state), run_text(state))
            return
        draws = (lambda: run_html(state), lambda: run_text(state))
        watch = Watch(self._scope, None, *draws, actions={"cancel": self.cancel})
        watch.__enter__()
        if self._done.is_set():
            watch.__exit__()
        else:
            view = threading.Thread(target=self._finish_view, args=(watch,), name=f"dspex-view-{self.id}", daemon=True)
            self._views.append(view)
            view.start()

    def _finish_view(self, watch: Watch) -> None:
        self._done.wait()
        watch.__exit__()


_LAST_PICTURE_S = 2.0
_LOOK_S = 0.01


def refuse_resuming(name: str, run_id: str, status: str) -> None:
    """Raise unless a run has ended before it was done."""
    if status == "running":
        raise DSPexError(f"run {run_id} of {name!r} still runs", hint="wait for it, or cancel it first")
    if status == "done":
        raise DSPexError(f"run {run_id} of {name!r} is done: nothing is left to resume", hint=f"start another: {name}.run(…)")


def _route(route: Any) -> dict[str, str]:
    return {"step": route.step, "engine": route.engine, "pool": route.pool, "reason": route.reason}
