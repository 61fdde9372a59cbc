"""`Study`: one study by its id, watched, stopped and read from the kernel, whether its process lives or not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dspex_nb.bridge import StudyPlan
from dspex_nb.errors import StudyError, WorkerDiedError
from dspex_nb.events import Bus, Event, RunEnded, RunStarted
from dspex_nb.pools.child import ChildProcess, describe_exit
from dspex_nb.runs.study_task import LOG, TASK, read_best
from dspex_nb.store import CallRow, ExampleRow, LMUsage, RunRow, Store, TrialRow

_POLL_S = 0.25
_STOP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class StudyResult:
    """How a study ended, or stands.

    Attributes:
        status: `"running"`, `"paused"`, `"done"`, `"stopped"`, `"failed"` or `"interrupted"`.
        best_score: 0 to 1, None if nothing was scored on the whole validation set; `start_score` of the program before.
        trials: Candidates whose scoring ended.
        lm_calls: Requests sent; `cache_hits` were served without one.
        error: What failed and the next act, None otherwise.
        reason: Why it was stopped, where no one asked for it: what of its budget is used up.
    """

    status: str
    best_score: float | None
    start_score: float | None
    trials: int
    lm_calls: int
    cache_hits: int
    prompt_tokens: int
    completion_tokens: int
    elapsed_s: float
    error: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spend:
    """What a study took of the LM so far, over all its resumptions.

    Attributes:
        paid: US dollars of the calls whose price is known; `unknown_calls` is how many have none.
        saved: US dollars that cache hits would have cost, as far as that is known; `unknown_hits` are the others.
        calls: Requests sent, failed ones among them; `cache_hits` were served without one.
    """

    paid: float
    unknown_calls: int
    saved: float
    unknown_hits: int
    calls: int
    cache_hits: int
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, usage: LMUsage) -> Self:
        """Return a run's usage as what was paid, saved, and unknown."""
        return cls(
            usage.cost or 0.0, usage.unpriced, usage.saved_cost, usage.unpriced_hits, usage.calls + usage.errors,
            usage.cache_hits, usage.prompt_tokens, usage.completion_tokens,
        )  # fmt: skip

    def __str__(self) -> str:
        paid = f"paid ${self.paid:.4g} for {self.calls:,} calls"
        saved = f"saved ${self.saved:.4g} by {self.cache_hits:,} cache hits"
        unknown = f"price unknown of {self.unknown_calls:,} calls and {self.unknown_hits:,} hits"
        return ", ".join([paid, saved, *([unknown] if self.unknown_calls or self.unknown_hits else [])])


class Study:
    """A study by its id. Made by `start_study` and `load_study`.

    Attributes:
        plan: What it does, where it was started or resumed by this kernel.
        fault: What keeps its records from the disk, empty if nothing does.

    Its events are those of run `id` in the store; they are republished on `bus` a quarter of a second after they happen.
    """

    def __init__(self, run_id: str, *, store: Store, bus: Bus | None = None, child: ChildProcess | None = None) -> None:
        self.id = run_id
        self.plan: StudyPlan | None = None
        self.fault = ""
        self._store, self._bus, self._child = store, bus or Bus(keep=0), child
        self._paused = self._stopping = False
        self._over = threading.Event()
        self._seen = 0
        store.written_elsewhere(run_id)
        self._watch_over(child)

    def _watch_over(self, child: ChildProcess | None) -> None:
        self._child = child
        self._paused = self._stopping = False
        if child is not None:
            child.on_exit(self._on_exit)
            child.on_message(self._on_message)
        if self._row().status == "running":
            self._over.clear()
            threading.Thread(target=self._follow, name=f"dspex-study-{self.id}", daemon=True).start()
        else:
            self._over.set()

    def __repr__(self) -> str:
        return f"<Study {self.id} {self._row().name!r} {self.status}>"

    @property
    def name(self) -> str:
        """Optimizer and program."""
        return self._row().name

    @property
    def store(self) -> Store:
        """Where its rows are."""
        return self._store

    @property
    def info(self) -> dict[str, Any]:
        """What it was started with: optimizer, options, metric, numbers of examples."""
        return self._row().info

    @property
    def folder(self) -> Path:
        """Its folder: the best program as JSON, and the log of what DSPy printed."""
        return Path(self._row().info["folder"])

    @property
    def status(self) -> str:
        """`"running"`, `"paused"`, `"done"`, `"stopped"`, `"failed"` or `"interrupted"`."""
        status = self._row().status
        return "paused" if status == "running" and self._paused else status

    @property
    def error(self) -> str | None:
        """What failed and the next act, or None."""
        return self._row().error

    @property
    def best(self) -> dict[str, Any] | None:
        """The best program so far as DSPy's saved state: `program.load_state(study.best)`. None before the study began."""
        state: dict[str, Any] | None = read_best(self.folder)["state"]
        return state

    @property
    def best_score(self) -> float | None:
        """The best program's score, 0 to 1."""
        score: float | None = read_best(self.folder)["score"]
        return score

    @property
    def best_trial(self) -> int | None:
        """The number of the best program's trial."""
        trial: int | None = read_best(self.folder)["trial"]
        return trial

    @property
    def trials(self) -> Any:
        """A DataFrame, a row a scored candidate, those under way left out."""
        import pandas as pd

        told = ("label", "demos", "instructions", "params")
        columns = [*_TRIAL_COLUMNS[:2], *told[:1], *_TRIAL_COLUMNS[2:], *told[1:]]
        rows = [
            {**{key: trial.info.get(key) for key in told}, **{key: getattr(trial, key) for key in _TRIAL_COLUMNS}}
            for trial in self._store.trials(self.id)
            if trial.status in ("done", "failed")
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def spend(self) -> Spend:
        """What it paid, what the cache saved, and what of both has no known price."""
        return Spend.of(self._store.usage(self.id))

    def trial_rows(self, since: int = 0) -> list[TrialRow]:
        """Return its trials as the store has them, those that changed after `since`."""
        return self._store.trials(self.id, since)

    def example_rows(self, since: int = 0, trial: int | None = None) -> list[ExampleRow]:
        """Return its scored examples, those after `since`, or of one trial."""
        return self._store.examples(self.id, since, trial)

    def call_rows(self, since: int = 0, trial: int | None = None, limit: int | None = None) -> list[CallRow]:
        """Return its LM calls, those after `since`, or of one trial."""
        return self._store.calls(self.id, since, trial, limit)

    @property
    def result(self) -> StudyResult:
        """How it stands; final once `status` is."""
        row, usage = self._row(), self._store.usage(self.id)
        trials = [trial for trial in self._store.trials(self.id) if trial.score is not None]
        start = next((trial.score for trial in trials if trial.info.get("kind") == "start"), None)
        return StudyResult(
            status=self.status,
            best_score=self.best_score,
            start_score=row.result.get("start_score", start),
            trials=len(trials),
            lm_calls=usage.calls + usage.errors,
            cache_hits=usage.cache_hits,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            elapsed_s=(row.ended or time.time()) - row.started,
            error=row.error or self.fault or None,
            reason=str(row.result.get("reason") or "") if row.status != "running" else "",
        )

    def events(self, since: int = 0) -> list[tuple[int, Event]]:
        """Return its events after sequence number `since`."""
        return self._store.events(self.id, since)

    def stop(self) -> None:
        """End it within about a second; the best program so far is kept. Stopping an ended study is no error."""
        if self._row().status != "running":
            return
        child = self._mine("stop")
        self._stopping = True
        self._send(child, "stop")
        threading.Thread(target=self._make_sure, args=(child,), name="dspex-study-stop", daemon=True).start()

    def pause(self) -> None:
        """Hold it before the next LM call; calls in flight finish and are kept."""
        if self._row().status == "running":
            self._send(self._mine("pause"), "pause")
            self._paused = True

    def resume(self) -> None:
        """Go on after `pause`; `studies.resume_study` starts one that has ended again.

        Raises:
            StudyError: It has ended.
        """
        if self._row().status != "running":
            raise StudyError(f"study {self.id} is {self.status}", hint="resume it with its program: study.resume(program=…)")
        self._send(self._mine("resume"), "resume")
        self._paused = False

    def settle(self) -> None:
        """Wait for the end of the process that ran it: what it still has to say must not meet its successor."""
        child = self._child
        if child is not None and child.wait(_STOP_GRACE_S) is None:
            child.kill()

    def begin_again(self, plan: StudyPlan, child: ChildProcess) -> None:
        """Watch over a new process that goes on with it."""
        self.plan = plan
        self._watch_over(child)

    def wait(self, timeout_s: float | None = None) -> StudyResult:
        """Wait for its end; interrupting the wait leaves the study running.

        Returns:
            The result; its status is still `"running"` if `timeout_s` passed first.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._over.wait(0.2):  # in pieces, so that an interrupt of the cell is heard at once
            if deadline is not None and time.monotonic() >= deadline:
                break
        return self.result

    def _row(self) -> RunRow:
        row = self._store.run(self.id)
        if row is None:
            raise StudyError(f"study {self.id} is not in {self._store.path}", hint="dx.studies() lists those that are")
        return row

    def _mine(self, act: str) -> ChildProcess:
        if self._child is None:
            raise StudyError(f"study {self.id} runs in another kernel", hint=f"{act} it there")
        return self._child

    def _send(self, child: ChildProcess, do: str) -> None:
        with contextlib.suppress(WorkerDiedError):  # it ended meanwhile, which `_on_exit` writes down
            child.send({"do": do})

    def _make_sure(self, child: ChildProcess) -> None:
        if child.wait(_STOP_GRACE_S) is None:
            child.kill()

    def _follow(self) -> None:
        """Republish what the study's process writes, until its end; a resumed study's earlier events were published then."""
        while True:
            try:
                found = self._store.events(self.id, self._seen)
            except Exception:  # noqa: BLE001 - a store closed or busy: the study does not depend on this
                found = []
            for seq, event in found:
                self._seen = seq
                self._bus.publish(event)
            if found and _has_ended(event for _, event in found):
                self._over.set()
                return
            if self._child is None and not found:
                self._store.mark_interrupted()
            time.sleep(_POLL_S)

    def _on_message(self, message: dict[str, Any]) -> None:
        self.fault = str(message.get("fault", self.fault))

    def _on_exit(self, code: int) -> None:
        """Write the end of a process that could not do it itself."""
        row = self._store.run(self.id)
        if row is None or row.status != "running":
            return
        if self._stopping:
            end = RunEnded(run_id=self.id, status="stopped", elapsed_s=time.time() - row.started)
        else:
            tail = self._child.tail(1500) if self._child is not None else ""
            last = tail.splitlines()[-1] if tail else "nothing was printed"
            error = f"the study's process {describe_exit(code)}: {last}\n→ read {self.folder / LOG}"
            end = RunEnded(run_id=self.id, status="failed", elapsed_s=time.time() - row.started, error=error)
        self._store.append([end])
        self._store.flush()
        (self.folder / TASK).unlink(missing_ok=True)


_TRIAL_COLUMNS = (
    "trial", "kind", "score", "best", "examples", "errors", "elapsed_s", "parent", "calls", "cache_hits", "cost", "status",
)  # fmt: skip


def _has_ended(events: Iterable[Event]) -> bool:
    """Say whether the last that was told of starts and ends is an end: a resumed study has earlier ones."""
    last = [event for event in events if isinstance(event, RunStarted | RunEnded)][-1:]
    return bool(last) and isinstance(last[0], RunEnded)
