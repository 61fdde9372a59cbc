"""A study's own process: `python -m dspex_nb.runs.study_worker FOLDER`, started by `studies.start_study`.

The compile runs in a thread; this main thread hears `stop`, `pause` and `resume`. A stop acts at the next LM call or score;
where neither comes within a second, the process ends anyway, with the best program so far.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.bridge import StudyOutcome, StudyRun
from dspex_nb.cache import Cache
from dspex_nb.errors import DSPexError
from dspex_nb.events import Bus, Event, LMCalled, RunEnded
from dspex_nb.pools import childside
from dspex_nb.runs.budgets import BudgetGate
from dspex_nb.runs.study_task import StudyTask, check_start, read_best, take_task, write_best
from dspex_nb.scopes import Scope
from dspex_nb.store import Store

if TYPE_CHECKING:
    from dspex_nb.bridge.watching import Best

_GRACE_S = 0.8
_SECRETS_S = 30.0
_DRAIN_S = 60.0
_FLUSH_S = 5.0
_FULL_DISK_S = 600.0
_GONE_S = 1.0


class _Count:
    """The study's LM calls, counted from its own bus; errors count as calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.totals = {"lm_calls": 0, "cache_hits": 0, "prompt_tokens": 0, "completion_tokens": 0}

    def add(self, event: Event) -> None:
        if not isinstance(event, LMCalled):
            return
        with self._lock:
            if event.cached is not None:
                self.totals["cache_hits"] += 1
                return
            self.totals["lm_calls"] += 1
            self.totals["prompt_tokens"] += event.prompt_tokens
            self.totals["completion_tokens"] += event.completion_tokens


class _Worker:
    """One study: what the commands act on, and how it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = time.monotonic()
        self.secrets: dict[str, Any] = {}
        self.cache_secrets: dict[str, Any] = {}
        self.has_secrets, self.over = threading.Event(), threading.Event()
        self.stop_at: float | None = None
        self.paused = False
        self.scope: Scope | None = None
        self.run: StudyRun | None = None
        self.outcome: StudyOutcome | None = None
        self.store: Store | None = None
        self.count = _Count()
        self.gate: BudgetGate | None = None
        self._ending = threading.Lock()

    def on_command(self, command: dict[str, Any]) -> None:
        """Do what the kernel asks."""
        match command.get("do"):
            case "secrets":
                self.secrets, self.cache_secrets = command.get("secrets") or {}, command.get("cache") or {}
                self.has_secrets.set()
            case "stop":
                self.stop_at = time.monotonic() + _GRACE_S
                if self.scope is not None:
                    self.scope.cancel.cancel()
            case "pause" | "resume" as do:
                self.paused = do == "pause"
                self._apply_pause()

    def on_kernel_gone(self) -> None:
        """End with what there is: the kernel was shut down."""
        if self.scope is not None:
            self.scope.cancel.cancel()
            self.end("interrupted", "the kernel was shut down")

    def work(self) -> None:
        """Run the study and end it."""
        task = take_task(self.folder)
        self.store = Store(task.store_path)
        bus = Bus(keep=0)
        bus.subscribe(self.count.add)
        self.store.attach(bus)
        self.store.own(task.run_id)
        if task.budget is not None:
            self.gate = BudgetGate(task.budget, self.store.usage(task.run_id), self._on_budget_used_up)
            bus.subscribe(self.gate.take)
        self.scope = Scope(run_id=task.run_id, bus=bus, admit=None if self.gate is None else self.gate.admit)
        self.has_secrets.wait(_SECRETS_S)
        threading.Thread(target=self._compile, args=(task, self.scope), name="dspex-compile", daemon=True).start()
        while not self.over.wait(0.1):
            if self.gate is not None:
                self.gate.check_time()
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.end("stopped")
                return
        outcome = self.outcome
        assert outcome is not None  # noqa: S101 - `over` is set after it
        if self.gate is not None and self.gate.reason:
            self.gate.drain(_DRAIN_S)
        self.end(outcome.status, outcome.error)

    def end(self, status: str, error: str | None = None) -> None:
        """Write the end, once."""
        if not self._ending.acquire(blocking=False) or self.store is None or self.scope is None:
            return
        known = self.run.outcome(status) if self.run is not None else None
        elapsed_s = time.monotonic() - self.began
        info = {
            "best_score": known.best.score if known else None,
            "best_trial": known.best.trial if known else None,
            "start_score": known.start_score if known else None,
            "trials": known.trials if known else 0,
            "reason": self.gate.reason if self.gate is not None else "",
            **self.count.totals,
        }
        self.store.append([RunEnded(run_id=self.scope.run_id, status=status, elapsed_s=elapsed_s, error=error, info=info)])
        self._flush(_GONE_S if status == "interrupted" else _FULL_DISK_S)

    def _flush(self, patience_s: float) -> None:
        """Write what is left; a disk that refuses is told to the kernel and tried again: this is the only copy."""
        store, ends, told = self.store, time.monotonic() + patience_s, False
        assert store is not None  # noqa: S101 - `end` looked
        while not store.flush(_FLUSH_S) and time.monotonic() < ends:
            if not told:
                fault = store.faults[-1] if store.faults else "the run store does not answer"
                childside.send({"fault": f"the study is over, and its last records wait for the disk: {fault}"})
                told = True
        if told:
            childside.send({"fault": ""})

    def _on_budget_used_up(self, reason: str) -> None:
        print(reason, flush=True)  # noqa: T201 - into the study's log
        if self.run is not None:
            self.run.watch.halt()

    def _compile(self, task: StudyTask, scope: Scope) -> None:
        try:
            client, cache = _client_and_cache(task, self.folder, self.secrets, self.cache_secrets)
            self.run = StudyRun(
                task.plan, client=client, scope=scope, cache=cache, on_best=_keeper(self.folder), folder=self.folder
            )
            check_start(self.folder, self.run.start)
            self._apply_pause()
            if self.stop_at is not None:
                scope.cancel.cancel()
            self.outcome = self.run.run()
        except BaseException as error:  # noqa: BLE001 - the study's message, whatever it is
            traceback.print_exc()
            self.outcome = _failure(error)
        self.over.set()

    def _apply_pause(self) -> None:
        if self.run is not None:
            (self.run.watch.pause if self.paused else self.run.watch.resume)()


def _client_and_cache(
    task: StudyTask, folder: Path, secrets: Mapping[str, Any], cache_secrets: Mapping[str, Any]
) -> tuple[Any, Cache]:
    """Return the client and a cache on disk: the session's, or one of the study's own where that keeps nothing.

    Without one, what was received before a crash would be paid again.
    """
    state, options = dict(task.client_state), dict(task.cache_options or {})
    settings = state.get("settings")
    if isinstance(settings, dict) and not settings.get("cache", True):
        state["settings"] = {**settings, "cache": True}
        options["directory"] = None
    if not options.get("directory"):
        options |= {"directory": str(folder / "cache"), "ttl_s": None}
    return task.client_class.from_state(state, secrets or None), Cache(**options, **cache_secrets)


def _keeper(folder: Path) -> Callable[[Best], None]:
    """Return what keeps a new best: a resumed study comes to its old ones again, and keeps what it has until then."""

    def keep(best: Best) -> None:
        known = read_best(folder)
        if known["score"] is None or (best.score is not None and best.score >= known["score"]):
            write_best(folder, best.state, best.score, best.trial)

    return keep


def _failure(error: BaseException) -> StudyOutcome:
    from dspex_nb.bridge.watching import Best

    text = str(error) if isinstance(error, DSPexError) else f"{type(error).__name__}: {error}"
    return StudyOutcome("failed", Best({}), None, 0, text)


def main() -> None:
    """Run the study of the folder named on the command line."""
    worker = _Worker(Path(sys.argv[1]))
    childside.serve(worker.on_command, worker.on_kernel_gone)
    try:
        worker.work()
    except BaseException as error:  # noqa: BLE001 - told to the kernel, which writes it down
        traceback.print_exc()
        childside.send({"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os._exit(0)  # not sys.exit: threads of a stopped compile may be stuck in a metric


if __name__ == "__main__":
    main()
