"""`dx.load_run`: a run of the store, of this kernel or an earlier one: what it was, what it took, and how to go on with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.displays import shell, show
from dspex_nb.api.run_metrics import metric_frame, metric_rows, timings_of, usage_of
from dspex_nb.api.runs import Run, refuse_resuming
from dspex_nb.api.sessions import session
from dspex_nb.errors import DSPexError, MissingInputError, did_you_mean
from dspex_nb.events import Event
from dspex_nb.messages import Usage
from dspex_nb.runs.resuming import kept_of
from dspex_nb.store import RunRow
from dspex_nb.views import RunInfo, RunState, run_html, run_text


class PastRun:
    """A pipeline's run as the run store knows it.

    Attributes:
        id: The run's id.
        name: The pipeline's name.
        status: `"done"`, `"failed"`, `"cancelled"`, `"interrupted"` (its kernel ended before it did) or `"running"`.
        error: What ended it, None if nothing did.
        events: What happened, oldest first.
    """

    def __init__(self, row: RunRow, now: Session) -> None:
        self.id, self.name, self.status, self.error = row.run_id, row.name, row.status, row.error
        self.events: list[Event] = [event for _, event in now.store.events(row.run_id)]
        self._state = RunState(row.run_id)
        for event in self.events:
            self._state.apply(event)

    @property
    def _info(self) -> RunInfo:
        return self._state.snapshot()

    @property
    def metrics(self) -> Any:
        """A DataFrame, a row a step: its state, seconds, calls, cache hits, tokens, cost, engine, pool, and why."""
        return metric_frame(metric_rows(self._info))

    @property
    def timings(self) -> dict[str, float]:
        """Seconds each step took."""
        return timings_of(self._info)

    @property
    def usage(self) -> Usage:
        """Tokens and calls."""
        return usage_of(self._info)

    @property
    def cost(self) -> float | None:
        """US dollars, None where a price is unknown."""
        return self._info.cost

    def resume(self, pipeline: Any = None, *, on_progress: Any = None, **inputs: Any) -> Run:
        """Go on from the last finished step, in this kernel.

        Args:
            pipeline: The pipeline; None finds the one of this name among the notebook's variables.
            on_progress: Called with each event.
            **inputs: The run's inputs, only where they could not be kept.

        Raises:
            DSPexError: It still runs, is done, or no pipeline of its name is defined.
            MissingInputError: Its inputs could not be kept and are not given.
        """
        return resume_run(pipeline or _pipeline_named(self.name, self.id), self.id, session(), inputs, on_progress)

    def show(self) -> None:
        """Display the run and its metrics."""
        show(run_html(self._info, stop=False), run_text(self._info))

    def _ipython_display_(self) -> None:
        self.show()

    def __repr__(self) -> str:
        return f"PastRun({self.name!r}, {self.id}, {self.status})"


def load_run(run_id: str) -> PastRun:
    """Return a pipeline's run by its id (`dx.run_list()` shows them), with its metrics; `.resume()` goes on with it.

    Raises:
        DSPexError: The store has no pipeline run of this id.
    """
    now = session()
    row = _row(now, run_id)
    if row is None:
        known = [each.run_id for each in now.store.runs("pipeline")]
        raise DSPexError(f"no pipeline run {run_id!r}", hint=f"{did_you_mean(str(run_id), known)}dx.run_list() shows all runs")
    return PastRun(row, now)


def resume_run(pipeline: Any, run_id: str | None, now: Session, inputs: Mapping[str, Any], on_progress: Any) -> Run:
    """Continue a run in this kernel; see `Pipeline.resume`."""
    row = _row(now, run_id) if run_id is not None else _latest(now, pipeline.name)
    if row is None and run_id is None:
        raise DSPexError(f"no run of {pipeline.name!r} is left unfinished", hint="dx.run_list() shows all runs")
    found = row.run_id if row is not None else str(run_id)
    if row is not None:
        refuse_resuming(row.name, found, row.status)
        if row.name != pipeline.name:
            raise DSPexError(
                f"run {found} is of {row.name!r}, not of {pipeline.name!r}", hint=f"use {row.name}.resume({found!r})"
            )
    kept = kept_of(now, found)
    found_inputs, held = kept.inputs(pipeline.spec) if kept is not None else ({}, [])
    given = {**found_inputs, **inputs}
    missing = [one.name for one in pipeline.spec.inputs if one.name not in given and (one.required or one.name in held)]
    if missing and row is None:
        raise DSPexError(f"no run {found!r}", hint="dx.run_list() shows all runs")
    if missing:
        why = row.info.get("inputs_not_kept") if row is not None else None
        told = f": {why}" if why else ""
        call = ", ".join(f"{name}=…" for name in missing)
        raise MissingInputError(
            f"the inputs of run {found} were not kept{told}", hint=f"give them: {pipeline.name}.resume({found!r}, {call})"
        )
    known = {one.name for one in pipeline.spec.inputs}
    given = {name: value for name, value in given.items() if name in known or name in inputs}
    return Run(pipeline, pipeline.checked(given), now, on_progress=on_progress, run_id=found)


def _row(now: Session, run_id: str) -> RunRow | None:
    now.store.flush()
    now.store.mark_interrupted()
    row: RunRow | None = now.store.run(run_id)
    return row if row is not None and row.of == "pipeline" else None


def _latest(now: Session, name: str) -> RunRow | None:
    now.store.flush()
    now.store.mark_interrupted()
    return next((row for row in now.store.runs("pipeline") if row.name == name and row.status not in ("done", "running")), None)


def _pipeline_named(name: str, run_id: str) -> Any:
    running = shell()
    names = running.user_ns if running is not None else vars(sys.modules["__main__"])
    found = names.get(name)
    for value in (found, *list(names.values())):
        if type(value).__name__ == "Pipeline" and getattr(value, "name", None) == name and hasattr(value, "planned"):
            return value
    raise DSPexError(
        f"no pipeline {name!r} is defined here",
        hint=f"run the cell that defines it, or give it: load_run({run_id!r}).resume(pipe)",
    )
