"""What is known of a pipeline's run, built from its events, in whatever order and number they arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.events import Event, LMCalled, RunEnded, RunStarted, StepEnded, StepStarted, TokenReceived
from dspex_nb.views.charges import charges


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One step of a run.

    Attributes:
        name: The step's name.
        kind: `"predict"`, `"function"`, …
        parent: The step that holds it, empty at the outermost level.
        state: `"waiting"`, `"running"`, `"done"`, `"failed"`, `"skipped"`, `"cached"` or `"cancelled"`.
        engine: `"native"`, `"dspy"`, `"python"`, or empty.
        reason: Why that engine.
        pool: Where it runs, empty if unknown.
        started_at: Seconds since the epoch, None before it starts.
        elapsed_s: Seconds it took or, while it runs, has taken; None before it starts.
        attempts: How often it was started.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        tokens: Prompt and completion tokens.
        cost: US dollars of its LM requests, None if any price is unknown.
        error: What went wrong, empty if nothing did.
        note: What else is to be known of how it ended: why its result was not cached.
        written: While it runs, the end of what its model has written so far, empty if nothing was told.
    """

    name: str
    kind: str = ""
    parent: str = ""
    state: str = "waiting"
    engine: str = ""
    reason: str = ""
    pool: str = ""
    started_at: float | None = None
    elapsed_s: float | None = None
    attempts: int = 0
    calls: int = 0
    cache_hits: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    error: str = ""
    note: str = ""
    written: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run at one moment.

    Attributes:
        name: The pipeline's name.
        run_id: The run's id.
        status: `"waiting"`, `"running"`, `"done"`, `"failed"`, `"cancelled"` or `"interrupted"`.
        steps: Its steps in the order of the cell.
        described: What `pipelines.describe` returned, for the picture; empty if unknown.
        elapsed_s: Seconds since it began, or that it took.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        prompt_tokens: Tokens in.
        completion_tokens: Tokens out.
        cost: US dollars of the requests sent, None if any price is unknown.
        error: What ended it, message and hint, empty if nothing did.
    """

    name: str = "pipeline"
    run_id: str = ""
    status: str = "waiting"
    steps: Sequence[StepInfo] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    error: str = ""

    @property
    def live(self) -> bool:
        """Whether it is still going on."""
        return self.status in {"waiting", "running", "stopping"}


_TAIL = 160  # characters of a growing text that a run's table shows
_ROUTE = ("step", "engine", "pool", "reason")


def _routed(step: StepInfo, facts: Mapping[str, Any]) -> StepInfo:
    """Return the step with what its route says; what happened already says more than what was planned."""
    return replace(
        step,
        engine=str(facts.get("engine") or step.engine),
        reason=str(facts.get("reason") or step.reason),
        pool=str(facts.get("pool") or step.pool),
    )


def holder_of(name: str, known: Container[str]) -> str:
    """Return the known step that holds one of that name (`outer/inner`, `parent.child`), the nearest; empty if none does."""
    for at in range(len(name) - 1, 0, -1):
        if name[at] in "/." and name[:at] in known:
            return name[:at]
    return ""


def _without_events(name: str, outer: str) -> str:
    """Return the state of an inner step that sent no events when its outer step ended."""
    if name.endswith(".on_error"):  # a fallback is still to come, or is not needed
        return "waiting" if outer == "failed" else "skipped"
    return outer  # DSPy ran it inside its own module


class RunState:
    """Takes a run's events and gives snapshots, from any threads.

    Args:
        run_id: The run to follow; without it, the run of the first event seen.
        described: What `pipelines.describe` returns, to show the steps before the run begins.
        routes: Mappings or records with `step`, `engine`, `pool`, `reason`, as planned.
    """

    def __init__(self, run_id: str = "", described: Mapping[str, Any] | None = None, routes: Sequence[Any] = ()) -> None:
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._info = RunInfo(run_id=run_id)
        self._steps: dict[str, StepInfo] = {}
        self._texts: dict[str, tuple[str, str]] = {}
        self._describe(described or {}, routes)

    def _describe(self, described: Mapping[str, Any], routes: Sequence[Any]) -> None:
        for entry in described.get("steps") or ():
            name = str(entry.get("name", ""))
            known = self._steps.get(name, StepInfo(name))
            self._steps[name] = replace(
                known,
                kind=str(entry.get("kind") or known.kind),
                parent=str(entry.get("parent") or ""),
                engine=known.engine or str(entry.get("engine") or ""),
            )
        for route in routes:
            facts = route if isinstance(route, Mapping) else {key: getattr(route, key, "") for key in _ROUTE}
            name = str(facts.get("step") or "")
            if name in self._steps:
                self._steps[name] = _routed(self._steps[name], facts)
        if described.get("steps"):
            self._info = replace(self._info, described=dict(described), name=str(described.get("name") or self._info.name))

    def apply(self, event: Event) -> None:
        """Take an event; those of other runs and of unknown kinds change nothing."""
        with self._lock:
            if not self._info.run_id:
                self._info = replace(self._info, run_id=event.run_id)
            if event.run_id != self._info.run_id:
                return
            if isinstance(event, RunStarted):
                self._begin(event)
            elif isinstance(event, StepStarted):
                self._step_started(event)
            elif isinstance(event, StepEnded):
                self._step_ended(event)
            elif isinstance(event, LMCalled):
                self._called(event)
            elif isinstance(event, TokenReceived):
                self._written(event)
            elif isinstance(event, RunEnded):
                self._end(event)

    def set_status(self, status: str) -> None:
        """Show a state that no event tells of, such as `"stopping"` after the button."""
        with self._lock:
            if self._info.live:
                self._info = replace(self._info, status=status)

    def _begin(self, event: RunStarted) -> None:
        self._started_at = event.at
        status = "running" if self._info.status == "waiting" else self._info.status
        self._info = replace(self._info, name=event.name or self._info.name, status=status)
        described = event.info.get("pipeline") or event.info
        if isinstance(described, Mapping):
            self._describe(described, event.info.get("routes") or ())

    def _step(self, name: str) -> StepInfo:
        return self._steps.get(name) or StepInfo(name, parent=holder_of(name, self._steps))

    def _step_started(self, event: StepStarted) -> None:
        if self._started_at is None:
            self._started_at = event.at
        if self._info.status == "waiting":
            self._info = replace(self._info, status="running")
        step = self._step(event.step)
        self._steps[event.step] = replace(
            step, state="running", engine=event.engine or step.engine, reason=event.reason or step.reason,
            started_at=event.at, attempts=step.attempts + 1, error="",
        )  # fmt: skip

    def _step_ended(self, event: StepEnded) -> None:
        step = self._step(event.step)
        elapsed = None if event.status == "skipped" and not event.elapsed_s else event.elapsed_s
        self._steps[event.step] = replace(step, state=event.status, elapsed_s=elapsed, error=event.error or "", note=event.note)
        for name, inner in self._steps.items():
            if inner.parent == event.step and inner.state == "waiting":
                self._steps[name] = replace(inner, state=_without_events(name, event.status))

    def _called(self, event: LMCalled) -> None:
        info = self._info
        self._info = replace(
            info,
            prompt_tokens=info.prompt_tokens + event.prompt_tokens,
            completion_tokens=info.completion_tokens + event.completion_tokens,
            **charges(info, event),
        )
        if event.step:
            step = self._step(event.step)
            tokens = step.tokens + event.prompt_tokens + event.completion_tokens
            self._steps[event.step] = replace(step, tokens=tokens, **charges(step, event))

    def _written(self, event: TokenReceived) -> None:
        """Keep the end of what a step's model writes: the field written last, and its text."""
        field, text = self._texts.get(event.step, ("", ""))
        before = "" if event.withdrawn or field != event.field else text
        self._texts[event.step] = (event.field, (before + event.text)[-_TAIL:])

    def _end(self, event: RunEnded) -> None:
        elapsed = event.elapsed_s or (event.at - self._started_at if self._started_at else 0.0)
        self._info = replace(self._info, status=event.status, elapsed_s=elapsed, error=event.error or "")
        if event.status in {"cancelled", "failed", "interrupted"}:
            for name, step in self._steps.items():
                if step.state == "running":
                    took = event.at - step.started_at if step.started_at else None
                    self._steps[name] = replace(step, state="cancelled", elapsed_s=took)

    def snapshot(self, now: float | None = None) -> RunInfo:
        """Return the run as it is; `now` (seconds since the epoch) dates the steps still running."""
        at = time.time() if now is None else now
        with self._lock:
            info, steps, texts = self._info, tuple(self._steps.values()), dict(self._texts)
        steps = tuple(_so_far(s, at, texts.get(s.name)) if s.state == "running" and s.started_at else s for s in steps)
        elapsed = max(at - self._started_at, 0.0) if info.live and self._started_at else info.elapsed_s
        return replace(info, steps=steps, elapsed_s=elapsed)


def _so_far(step: StepInfo, at: float, text: tuple[str, str] | None) -> StepInfo:
    """Return a running step as it is at a moment."""
    written = ""
    if text and text[1]:
        written = f"{text[0]}: {'…' if len(text[1]) == _TAIL else ''}{' '.join(text[1].split())}"
    return replace(step, elapsed_s=max(at - (step.started_at or at), 0.0), written=written)
