"""What is known of a study, built from its events, in whatever order and number they arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.events import Event, LMCalled, Progress, RunEnded, RunStarted, TrialEnded, TrialStarted
from dspex_nb.views.charges import charges, counts

LIVE = frozenset({"waiting", "running", "paused", "pausing", "stopping"})


@dataclass(frozen=True, slots=True)
class TrialInfo:
    """One candidate of a study.

    Attributes:
        number: Its number, counted from 0.
        state: `"running"`, `"done"`, `"failed"` or `"cancelled"`.
        what: What was tried, in a few words; empty if unknown.
        kind: `"start"` (the program as it was), `"minibatch"` (scored on a part: no rival of the others), or another word.
        score: Its score in 0 to 1, None while it runs.
        examples: How many examples it was scored on, 0 if unknown.
        demos: How many demos it holds, None if unknown.
        instructions: Its instructions by predictor (`""` where there is one).
        demo_list: The demos themselves, where the event brought them.
        elapsed_s: Seconds it took, None while it runs.
        failed_rows: Examples that ended in an error.
        error: What went wrong, empty if nothing did.
        calls: LM requests sent for it.
        cache_hits: LM requests served from the cache for it.
    """

    number: int
    state: str = "running"
    what: str = ""
    kind: str = ""
    score: float | None = None
    examples: int = 0
    demos: int | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    demo_list: Sequence[Any] = ()
    elapsed_s: float | None = None
    failed_rows: int = 0
    error: str = ""
    calls: int = 0
    cache_hits: int = 0


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """A study at one moment.

    Attributes:
        name: The program's name.
        optimizer: DSPy's name of the optimizer.
        metric: The metric's name.
        status: `"waiting"`, `"running"`, `"pausing"`, `"paused"`, `"stopping"`, `"done"`, `"failed"`,
            `"cancelled"` (stopped by the user, shown so) or `"interrupted"` (its kernel ended).
        study_id: The run's id in the store.
        trials: Candidates in order of their numbers.
        total: Candidates to try, 0 if unknown.
        start: Score of the program as it was, None if it was not measured.
        done_rows: Examples scored within the current candidate.
        total_rows: Examples of a candidate, 0 if unknown.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        prompt_tokens: Tokens in.
        completion_tokens: Tokens out.
        cost: US dollars, None if any price is unknown.
        elapsed_s: Seconds since it began, or that it took.
        options: The optimizer's options, for the table of facts.
        error: What ended it, empty if nothing did.
        note: A sentence on the outcome, empty if none.
        adoptable: Whether the best candidate can be put into the program: there is one at hand, and it is not done yet.
    """

    name: str = "program"
    optimizer: str = ""
    metric: str = ""
    status: str = "waiting"
    study_id: str = ""
    trials: Sequence[TrialInfo] = ()
    total: int = 0
    start: float | None = None
    done_rows: int = 0
    total_rows: int = 0
    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    elapsed_s: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    note: str = ""
    adoptable: bool = True

    @property
    def live(self) -> bool:
        """Whether it is still going on."""
        return self.status in LIVE

    @property
    def best(self) -> TrialInfo | None:
        """The best candidate so far, the earliest of equals; those scored on a part count only while there are no others."""
        scored = [t for t in self.trials if t.score is not None]
        scored = [t for t in scored if t.kind != "minibatch"] or scored
        return max(scored, key=lambda t: (t.score or 0.0, -t.number), default=None)


class StudyState:
    """Takes a study's events and gives snapshots, from any threads.

    Args:
        study_id: The run to follow; without it, the run of the first event seen.
        name: The program's name, until `RunStarted` says it.
    """

    def __init__(self, study_id: str = "", name: str = "program") -> None:
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._trials: dict[int, TrialInfo] = {}
        self._since: dict[int, float] = {}
        self._info = StudyInfo(study_id=study_id, name=name)

    def apply(self, event: Event) -> None:
        """Take an event; those of other runs and of unknown kinds change nothing."""
        with self._lock:
            if not self._info.study_id:
                self._info = replace(self._info, study_id=event.run_id)
            if event.run_id != self._info.study_id:
                return
            self._started_at = self._started_at or event.at
            if self._info.status == "waiting":
                self._info = replace(self._info, status="running")
            if isinstance(event, RunStarted):
                self._begin(event)
            elif isinstance(event, TrialStarted):
                self._since[event.trial] = event.at
                self._trials[event.trial] = _with_info(self._trial(event.trial), event.info)
                self._info = replace(self._info, done_rows=0)
            elif isinstance(event, TrialEnded):
                self._trial_ended(event)
            elif isinstance(event, LMCalled):
                self._called(event)
            elif isinstance(event, Progress):
                self._info = replace(self._info, done_rows=event.done, total_rows=event.total)
            elif isinstance(event, RunEnded):
                self._end(event)

    def set_status(self, status: str) -> None:
        """Show a state that no event tells of: `"pausing"`, `"paused"`, `"running"`, `"stopping"`, `"interrupted"`."""
        with self._lock:
            if self._info.live:
                self._info = replace(self._info, status=status)

    def set_start(self, score: float | None) -> None:
        """Show the score of the program as it was."""
        with self._lock:
            self._info = replace(self._info, start=score)

    def set_note(self, note: str) -> None:
        """Show a sentence on the outcome."""
        with self._lock:
            self._info = replace(self._info, note=note)

    def set_adoptable(self, adoptable: bool) -> None:  # noqa: FBT001 - a setter
        """Say whether the best candidate can be put into the program."""
        with self._lock:
            self._info = replace(self._info, adoptable=adoptable)

    def _begin(self, event: RunStarted) -> None:
        self._started_at = event.at
        facts = event.info
        start = facts.get("start_score", facts.get("start"))
        options = facts.get("options")
        self._info = replace(
            self._info,
            name=event.name or self._info.name,
            optimizer=str(facts.get("optimizer") or self._info.optimizer),
            metric=str(facts.get("metric") or self._info.metric),
            total=event.total or self._info.total,
            start=float(start) if isinstance(start, int | float) else self._info.start,
            options=dict(options) if isinstance(options, Mapping) else self._info.options,
        )

    def _trial(self, number: int) -> TrialInfo:
        return self._trials.get(number, TrialInfo(number))

    def _trial_ended(self, event: TrialEnded) -> None:
        trial = _with_info(self._trial(event.trial), event.info)
        since = self._since.get(event.trial)
        took = event.elapsed_s or (event.at - since if since else None)
        state = "failed" if trial.error else "done"
        self._trials[event.trial] = replace(
            trial, state=state, score=event.score, examples=event.examples or trial.examples, elapsed_s=took
        )
        start = event.score if trial.kind == "start" and self._info.start is None else self._info.start
        self._info = replace(self._info, done_rows=0, start=start)

    def _called(self, event: LMCalled) -> None:
        info = self._info
        self._info = replace(
            info,
            prompt_tokens=info.prompt_tokens + event.prompt_tokens,
            completion_tokens=info.completion_tokens + event.completion_tokens,
            **charges(info, event),
        )
        if event.trial is not None and event.trial in self._trials:
            trial = self._trials[event.trial]
            self._trials[event.trial] = replace(trial, **counts(trial, event))

    def _end(self, event: RunEnded) -> None:
        elapsed = event.elapsed_s or event.at - (self._started_at or event.at)
        self._info = replace(self._info, status=event.status, elapsed_s=elapsed, error=event.error or "")
        for number, trial in self._trials.items():
            if trial.state == "running":
                self._trials[number] = replace(trial, state="cancelled")

    def snapshot(self, now: float | None = None) -> StudyInfo:
        """Return the study as it is; `now` (seconds since the epoch) dates what still runs."""
        at = time.time() if now is None else now
        with self._lock:
            info, trials, since = self._info, dict(self._trials), dict(self._since)
        for number, trial in trials.items():
            if trial.state == "running" and number in since and info.live:
                trials[number] = replace(trial, elapsed_s=max(at - since[number], 0.0))
        elapsed = max(at - self._started_at, 0.0) if info.live and self._started_at else info.elapsed_s
        return replace(info, trials=tuple(trials[n] for n in sorted(trials)), elapsed_s=elapsed)


def _with_info(trial: TrialInfo, facts: Mapping[str, Any]) -> TrialInfo:
    """Take what an event's `info` says: what or label, kind, demos, instructions, state, examples, errors."""
    listed = _demos(facts)
    told = facts.get("instructions")
    if isinstance(told, str):
        told = {"": told}
    counted, examples = facts.get("demos"), facts.get("examples")
    return replace(
        trial,
        what=str(facts.get("what") or facts.get("label") or trial.what),
        kind=str(facts.get("kind") or trial.kind),
        demos=counted if isinstance(counted, int) else len(listed) if listed is not None else trial.demos,
        demo_list=tuple(listed) if listed else trial.demo_list,
        instructions={str(k): str(v) for k, v in told.items()} if isinstance(told, Mapping) else trial.instructions,
        examples=examples if isinstance(examples, int) else trial.examples,
        failed_rows=facts["errors"] if isinstance(facts.get("errors"), int) else trial.failed_rows,
        error=str(facts.get("error") or trial.error),
    )


def _demos(facts: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the demos themselves: as given, by predictor, or out of the program's saved state; None if not told."""
    demos = facts.get("demos")
    if isinstance(demos, list | tuple):
        return demos
    state = facts.get("state")
    groups = demos if isinstance(demos, Mapping) else _state_demos(state) if isinstance(state, Mapping) else None
    return None if groups is None else [demo for group in groups.values() if isinstance(group, list | tuple) for demo in group]


def _state_demos(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return demos by predictor from a state as DSPy saves it: a predictor's own, or a program's of several."""
    found = {str(name): part["demos"] for name, part in state.items() if isinstance(part, Mapping) and "demos" in part}
    return {"": state["demos"], **found} if "demos" in state else found
