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
from pathlib import Path
from typing import Any

from dspex_nb.bridge import StudyOutcome, StudyRun
from dspex_nb.cache import Cache
from dspex_nb.events import Bus, Event, LMCalled, RunEnded
from dspex_nb.pools import childside
from dspex_nb.runs.study_task import StudyTask, take_task, write_best
from dspex_nb.scopes import Scope
from dspex_nb.store import Store

_GRACE_S = 0.8
_SECRETS_S = 30.0


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
        self.scope = Scope(run_id=task.run_id, bus=bus)
        self.has_secrets.wait(_SECRETS_S)
        threading.Thread(target=self._compile, args=(task, self.scope), name="dspex-compile", daemon=True).start()
        while not self.over.wait(0.1):
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.end("stopped")
                return
        outcome = self.outcome
        assert outcome is not None  # noqa: S101 - `over` is set after it
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
            **self.count.totals,
        }
        self.store.append([RunEnded(run_id=self.scope.run_id, status=status, elapsed_s=elapsed_s, error=error, info=info)])
        self.store.flush(5.0)

    def _compile(self, task: StudyTask, scope: Scope) -> None:
        try:
            client = task.client_class.from_state(task.client_state, self.secrets or None)
            cache = None if task.cache_options is None else Cache(**task.cache_options, **self.cache_secrets)
            self.run = StudyRun(
                task.plan,
                client=client,
                scope=scope,
                cache=cache,
                on_best=lambda best: write_best(self.folder, best.state, best.score, best.trial),
            )
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


def _failure(error: BaseException) -> StudyOutcome:
    from dspex_nb.bridge.watching import Best
    from dspex_nb.errors import DSPexError

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
