"""Studies: an optimizer started in a process of its own, found again and listed, in this kernel or a later one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex_nb.ambient import Session, home
from dspex_nb.bridge import StudyPlan, find_optimizer, recipe_of
from dspex_nb.errors import OptimizerError, StudyError, WorkerDiedError, did_you_mean
from dspex_nb.events import Bus, RunStarted
from dspex_nb.pools.child import ChildProcess
from dspex_nb.runs.study import Study, StudyResult
from dspex_nb.runs.study_task import LOG, TASK, StudyTask, read_best, write_task
from dspex_nb.scopes import new_run_id
from dspex_nb.store import Store

_JOBS = 8
_CANDIDATE_SETS = 16  # DSPy's default of `num_candidate_programs`; asking DSPy would load it
_BASELINES = 3  # random search also scores the program as it was, with labelled demos, and bootstrapped in the given order

__all__ = ["Study", "StudyResult", "candidates_known", "load_study", "start_study", "studies", "title_of"]


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
        from dspex_nb.bridge.optimizing import check_options

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
    return _launch(plan, client, session, name or f"{optimizer} of {title_of(program)}", folder)


def _launch(plan: StudyPlan, client: Any, session: Session, name: str, folder: Path | None) -> Study:
    run_id = new_run_id()
    store = session.store or Store(home() / "runs.db")
    folder = folder or home() / "studies" / run_id
    state = client.dump_state()
    task = StudyTask(run_id, plan, type(client), state, _cache_options(session.cache), str(store.path))
    write_task(folder, task)
    store.written_elsewhere(run_id)
    total = candidates_known(plan.optimizer, plan.options)
    store.append([RunStarted(run_id=run_id, name=name, of="study", total=total, info=_info(plan, client, folder))])
    if not store.flush():
        (folder / TASK).unlink(missing_ok=True)
        fault = store.faults[-1] if store.faults else "the run store does not answer"
        raise StudyError(f"the study cannot be recorded: {fault}", hint="free some disk space, then start it again")
    child = ChildProcess("dspex_nb.runs.study_worker", [str(folder)], log=folder / LOG)
    secrets = client.secrets() if hasattr(client, "secrets") else {}
    with contextlib.suppress(WorkerDiedError):  # dead already: `_on_exit` says why
        child.send({"do": "secrets", "secrets": secrets})
    return Study(run_id, store=store, bus=session.bus, child=child)


def candidates_known(optimizer: str, options: Mapping[str, Any]) -> int:
    """Return how many candidates a study will score; 0 where the optimizer decides that as it goes."""
    sets = options.get("num_candidate_programs", _CANDIDATE_SETS)
    if optimizer != "BootstrapFewShotWithRandomSearch" or "restrict" in options or not isinstance(sets, int):
        return 0
    return sets + _BASELINES


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


def title_of(program: Any) -> str:
    """Return what to call a program: its signature's name, where that says something, else its type."""
    if hasattr(program, "spec") and hasattr(program, "name"):  # a pipeline
        return str(program.name)
    signature = getattr(program, "base_signature", None) or getattr(program, "signature", None)
    name = getattr(signature, "name", None) or getattr(signature, "__name__", None)
    return str(name) if name and name != "StringSignature" else type(program).__name__
