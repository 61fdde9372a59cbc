"""Studies: an optimizer run in a process of its own, watched, stopped and read from the kernel, and found again after it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_nb.bridge import StudyPlan, find_optimizer, recipe_of
from dspex_nb.errors import OptimizerError, StudyError, WorkerDiedError, did_you_mean
from dspex_nb.events import Bus, Event, RunEnded, RunStarted
from dspex_nb.pools.child import ChildProcess, describe_exit
from dspex_nb.runs.study_task import LOG, TASK, StudyTask, read_best, write_task
from dspex_nb.scopes import new_run_id
from dspex_nb.session import Session, home
from dspex_nb.store import RunRow, Store

_POLL_S = 0.25
_STOP_GRACE_S = 5.0
_JOBS = 8


@dataclass(frozen=True, slots=True)
class StudyResult:
    """How a study ended, or stands.

    Attributes:
        status: `"running"`, `"paused"`, `"done"`, `"stopped"`, `"failed"` or `"interrupted"`.
        best_score: 0 to 1, None if nothing was scored on the whole validation set; `start_score` of the program before.
        trials: Candidates whose scoring ended.
        lm_calls: Requests sent; `cache_hits` were served without one.
        error: What failed and the next act, None otherwise.
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


class Study:
    """A study by its id. Made by `start_study` and `load_study`.

    Its events are those of run `id` in the store; they are republished on `bus` a quarter of a second after they happen.
    """

    def __init__(self, run_id: str, *, store: Store, bus: Bus | None = None, child: ChildProcess | None = None) -> None:
        self.id = run_id
        self._store, self._bus, self._child = store, bus or Bus(keep=0), child
        self._paused = self._stopping = False
        self._over = threading.Event()
        store.written_elsewhere(run_id)
        if child is not None:
            child.on_exit(self._on_exit)
        if self._row().status == "running":
            threading.Thread(target=self._follow, name=f"dspex-study-{run_id}", daemon=True).start()
        else:
            self._over.set()

    def __repr__(self) -> str:
        return f"<Study {self.id} {self._row().name!r} {self.status}>"

    @property
    def name(self) -> str:
        """Optimizer and program."""
        return self._row().name

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
    def trials(self) -> Any:
        """A DataFrame, a row a scored candidate."""
        import pandas as pd

        columns = ["trial", "kind", "label", "score", "best", "demos", "examples", "errors", "elapsed_s", "instructions"]
        rows = [
            {
                **{key: trial.info.get(key) for key in ("kind", "label", "demos", "instructions")},
                "errors": trial.info.get("errors", 0),
                **{key: getattr(trial, key) for key in ("trial", "score", "best", "examples", "elapsed_s")},
            }
            for trial in self._store.trials(self.id)
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def result(self) -> StudyResult:
        """How it stands; final once `status` is."""
        row, usage = self._row(), self._store.usage(self.id)
        trials = self._store.trials(self.id)
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
            error=row.error,
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
        """Go on after `pause`.

        Raises:
            StudyError: It has ended; a new study with the same data is served from the cache as far as this one came.
        """
        if self._row().status != "running":
            raise StudyError(
                f"study {self.id} is {self.status}", hint="start it again: answers it received come from the cache"
            )
        self._send(self._mine("resume"), "resume")
        self._paused = False

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
        """Republish what the study's process writes, until its end."""
        seen = 0
        while True:
            try:
                found = self._store.events(self.id, seen)
            except Exception:  # noqa: BLE001 - a store closed or busy: the study does not depend on this
                found = []
            for seq, event in found:
                seen = seq
                self._bus.publish(event)
            if any(isinstance(event, RunEnded) for _, event in found):
                self._over.set()
                return
            if self._child is None and not found:
                self._store.mark_interrupted()
            time.sleep(_POLL_S)

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


def start_study(  # noqa: PLR0913 - what a study depends on, by keyword
    program: Any,
    *,
    optimizer: str,
    metric: Callable[..., Any] | None = None,
    trainset: Sequence[Any],
    valset: Sequence[Any] | None = None,
    session: Session,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    adapter: Any = None,
    seed: int = 0,
    n_jobs: int | None = None,
    name: str | None = None,
    folder: Path | None = None,
) -> Study:
    """Start a study in a process of its own; returns at once.

    Args:
        program: A native `Predict` or `ChainOfThought`, or a `dspy.Module`.
        optimizer: A name of `dx.optimizers()`.
        metric: `metric(example, prediction, trace=None)`, 0 to 1.
        trainset: Rows: dicts or `dspy.Example`s.
        valset: Rows that score the candidates; the trainset if there is none.
        session: Its LM, cache, store and bus serve the study.
        options: Options of the optimizer.
        inputs: Names of the input columns, where the program does not tell.
        adapter: For every call; the program's own, then the session's, then the LM's default if None.
        seed: Where the optimizer takes one.
        n_jobs: Threads of each evaluation, at most 8 by default.
        name: What it is called; optimizer and signature by default.
        folder: Where its files go; a folder under `$DSPEX_HOME` by default.

    Raises:
        OptimizerError: An unknown optimizer or option, a metric it needs, or no examples.
        StudyError: Something of it cannot cross to another process.
    """
    facts = find_optimizer(optimizer)
    client = session.require_lm()
    if facts.metric == "needed" and metric is None:
        raise OptimizerError(f"{optimizer} needs a metric", hint="pass metric=, metric(example, prediction, trace=None)")
    if not trainset:
        raise OptimizerError("the trainset is empty", hint="pass trainset=, a list of rows")
    if options:
        from dspex_nb.bridge.catalog import check_options

        check_options(optimizer, options)
    native = hasattr(program, "base_signature")
    chosen = adapter or (getattr(program, "adapter", None) if native else None) or session.adapter or client.default_adapter
    plan = StudyPlan(
        program=recipe_of(program) if native or not _is_module(program) else program,
        optimizer=optimizer,
        metric=metric,
        trainset=list(trainset),
        valset=list(valset) if valset else None,
        inputs=tuple(inputs),
        options=dict(options or {}),
        adapter=chosen,
        seed=seed,
        n_jobs=n_jobs or min(session.n_jobs or _JOBS, _JOBS),
    )
    return _launch(plan, client, session, name or f"{optimizer} of {_title(program)}", folder)


def _launch(plan: StudyPlan, client: Any, session: Session, name: str, folder: Path | None) -> Study:
    run_id = new_run_id()
    store = session.store or Store(home() / "runs.db")
    folder = folder or home() / "studies" / run_id
    state = client.dump_state()
    task = StudyTask(run_id, plan, type(client), state, _cache_options(session.cache), str(store.path))
    write_task(folder, task)
    store.written_elsewhere(run_id)
    store.append([RunStarted(run_id=run_id, name=name, of="study", info=_info(plan, client, folder))])
    if not store.flush():
        (folder / TASK).unlink(missing_ok=True)
        fault = store.faults[-1] if store.faults else "the run store does not answer"
        raise StudyError(f"the study cannot be recorded: {fault}", hint="free some disk space, then start it again")
    child = ChildProcess("dspex_nb.runs.study_worker", [str(folder)], log=folder / LOG)
    secrets = client.secrets() if hasattr(client, "secrets") else {}
    with contextlib.suppress(WorkerDiedError):  # dead already: `_on_exit` says why
        child.send({"do": "secrets", "secrets": secrets})
    return Study(run_id, store=store, bus=session.bus, child=child)


def load_study(store: Store, run_id: str, *, bus: Bus | None = None) -> Study:
    """Return a study of this or an earlier kernel; one whose process is gone is `"interrupted"`, with its trials.

    Raises:
        StudyError: The store has no such study.
    """
    store.mark_interrupted()
    known = [row.run_id for row in store.runs(of="study")]
    if run_id not in known:
        raise StudyError(f"there is no study {run_id!r}", hint=f"{did_you_mean(run_id, known)}dx.studies() lists them")
    return Study(run_id, store=store, bus=bus)


def studies(store: Store) -> Any:
    """Return a DataFrame, a row a study, newest first."""
    import pandas as pd

    store.mark_interrupted()
    rows = []
    for row in store.runs(of="study"):
        best = read_best(Path(row.info["folder"])) if "folder" in row.info else {}
        rows.append(
            {
                "id": row.run_id,
                "name": row.name,
                "status": row.status,
                "best_score": best.get("score"),
                "trials": len(store.trials(row.run_id)),
                "started": pd.Timestamp(row.started, unit="s", tz="UTC"),
                "elapsed_s": None if row.ended is None else row.ended - row.started,
                "error": row.error,
            }
        )
    columns = ["id", "name", "status", "best_score", "trials", "started", "elapsed_s", "error"]
    return pd.DataFrame(rows, columns=columns).set_index("id")


def _info(plan: StudyPlan, client: Any, folder: Path) -> dict[str, Any]:
    return {
        "optimizer": plan.optimizer,
        "options": json.loads(json.dumps(dict(plan.options), default=repr)),
        "metric": getattr(plan.metric, "__name__", type(plan.metric).__name__) if plan.metric else None,
        "trainset": len(plan.trainset),
        "valset": len(plan.valset or plan.trainset),
        "model": client.model,
        "adapter": str(getattr(plan.adapter, "name", plan.adapter)),
        "seed": plan.seed,
        "folder": str(folder),
    }


def _cache_options(cache: Any) -> dict[str, Any] | None:
    """Return what opens the same cache elsewhere; one without a folder stays in this process, so the child gets its own."""
    if cache is None:
        return None
    return {
        "memory_entries": cache.memory_entries,
        "directory": None if cache.directory is None else str(cache.directory),
        "size_bytes": cache.size_bytes,
        "ttl_s": cache.ttl_s,
    }


def _is_module(program: Any) -> bool:
    """Say whether it is a `dspy.Module` without importing dspy: whoever made one has."""
    return any(cls.__module__.startswith("dspy.") and cls.__name__ == "Module" for cls in type(program).__mro__)


def _title(program: Any) -> str:
    signature = getattr(program, "base_signature", None) or getattr(program, "signature", None)
    name = getattr(signature, "name", None) or getattr(signature, "__name__", None)
    return str(name) if name and name != "StringSignature" else type(program).__name__
