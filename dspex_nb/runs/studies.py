"""Studies: an optimizer started in a process of its own, found again and listed, in this kernel or a later one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dspex_nb.ambient import Session, home
from dspex_nb.bridge import StudyPlan, find_optimizer, recipe_of
from dspex_nb.bridge.catalog import FACTS
from dspex_nb.errors import OptimizerError, StudyError, WorkerDiedError, did_you_mean
from dspex_nb.events import Bus, RunStarted
from dspex_nb.metrics import resolve_metric
from dspex_nb.pools.child import ChildProcess
from dspex_nb.runs.budgets import Budget
from dspex_nb.runs.study import Spend, Study, StudyResult
from dspex_nb.runs.study_estimates import StudyEstimate, estimate_study
from dspex_nb.runs.study_task import LOG, TASK, StudyTask, keep_plan, kept_plan, read_best, write_task
from dspex_nb.scopes import new_run_id
from dspex_nb.store import Store

_JOBS = 8
_CANDIDATE_SETS = 16  # DSPy's default of `num_candidate_programs`; asking DSPy would load it
_BASELINES = 3  # random search also scores the program as it was, with labelled demos, and bootstrapped in the given order

__all__ = [
    "Spend", "Study", "StudyEstimate", "StudyResult", "candidates_known", "load_study", "makes_a_program", "resume_study",
    "start_study", "studies", "title_of",
]  # fmt: skip


def start_study(  # noqa: PLR0913 - what a study depends on, by keyword
    program: Any,
    *,
    optimizer: str,
    metric: Any = None,
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
    budget: Any = None,
    accelerate: bool = False,
    metric_name: str | None = None,
) -> Study:
    """Start a study in a process of its own; returns at once.

    Args:
        program: A native `Predict` or `ChainOfThought`, a `dspy.Module`, or a list for an optimizer that takes several.
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
        budget: As `Budget.read` takes it.
        accelerate: Serve its predictors natively where that gives the same.
        metric_name: The metric's name where that alone finds it again, in a later kernel too.

    Raises:
        OptimizerError: An unknown optimizer, option or budget, a metric it needs, or no examples.
        StudyError: Something of it cannot cross to another process.
    """
    facts = find_optimizer(optimizer)
    client = session.require_lm()
    limits = Budget.read(budget)
    if facts.metric == "needed" and metric is None:
        raise OptimizerError(f"{optimizer} needs a metric", hint="pass metric=, metric(example, prediction, trace=None)")
    if facts.trainset == "needed" and not trainset:
        raise OptimizerError("the trainset is empty", hint="pass trainset=, a list of rows")
    if options:
        from dspex_nb.bridge.optimizing import check_options

        check_options(optimizer, options)
    plan = StudyPlan(
        program=_checked_program(facts, program),
        optimizer=optimizer,
        metric=metric,
        trainset=list(trainset),
        valset=list(valset) if valset else None,
        inputs=tuple(inputs),
        options=dict(options or {}),
        adapter=adapter or _adapter_of(program, session, client),
        seed=seed,
        n_jobs=n_jobs or min(session.n_jobs or _JOBS, _JOBS),
        accelerate=accelerate,
    )
    estimate = estimate_study(plan, client, _steps(program))
    if limits is not None and limits.dollars is not None and estimate.cost is None:
        raise OptimizerError(
            f"a budget in dollars cannot be kept: the price of {client.model!r} is unknown",
            hint="limit calls or tokens instead, or tell the price: dx.LM(…, price={'input': 0.25, 'output': 2.0})",
        )
    run_id = new_run_id()
    folder = folder or home() / "studies" / run_id
    told = {**_info(plan, client, folder), "estimate": estimate.as_info(), "budget": None if limits is None else str(limits)}
    launch = Launch(run_id, plan, name or f"{optimizer} of {title_of(program)}", folder, limits, told)
    keep_plan(folder, plan, limits, metric_name)
    store = session.store or Store(home() / "runs.db")
    study = Study(run_id, store=store, bus=session.bus, child=_launch(launch, client, session, store))
    study.plan = plan
    return study


def resume_study(
    study: Study,
    session: Session,
    *,
    program: Any = None,
    metric: Any = None,
    trainset: Sequence[Any] | None = None,
    valset: Sequence[Any] | None = None,
    budget: Any = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Start an ended study again under its id, with its seed and options: what it received before comes from the cache.

    Args:
        study: It.
        session: Its LM, cache and bus serve it from now on.
        program: The program as it was when the study began; not needed in the kernel that began it.
        metric: Likewise; not needed where it was given by name.
        trainset: Likewise; not needed where the rows could be kept.
        valset: Likewise.
        budget: A new one; the old one if None.
        options: Options that could not be kept.

    Raises:
        StudyError: It runs, or is done, or something has to be brought again.
    """
    status = study.status
    if status in ("running", "paused", "done"):
        hint = "dx.optimize(…) starts another" if status == "done" else "study.resume() goes on after a pause"
        raise StudyError(f"study {study.id} is {status}", hint=hint)
    study.settle()
    kept = kept_plan(study.folder)
    plan = _plan_again(study, kept, session, program=program, metric=metric, rows=(trainset, valset), options=options or {})
    limits = Budget.read(budget)
    if limits is None and kept.get("budget"):
        limits = Budget(**kept["budget"])
    launch = Launch(study.id, plan, study.name, study.folder, limits, study.info, resumed=True)
    study.begin_again(plan, _launch(launch, session.require_lm(), session, study.store))


@dataclass(frozen=True, slots=True)
class Launch:
    """A study about to run, or to run again. `info` is what its `RunStarted` says."""

    run_id: str
    plan: StudyPlan
    name: str
    folder: Path
    budget: Budget | None
    info: Mapping[str, Any]
    resumed: bool = False


def _launch(launch: Launch, client: Any, session: Session, store: Store) -> ChildProcess:
    state, folder = client.dump_state(), launch.folder
    task = StudyTask(
        launch.run_id, launch.plan, type(client), state, _cache_options(session.cache), str(store.path), launch.budget,
        launch.resumed,
    )  # fmt: skip
    write_task(folder, task)
    store.written_elsewhere(launch.run_id)
    total = candidates_known(launch.plan.optimizer, launch.plan.options)
    store.append([RunStarted(run_id=launch.run_id, name=launch.name, of="study", total=total, info=dict(launch.info))])
    if not store.flush():
        (folder / TASK).unlink(missing_ok=True)
        fault = store.faults[-1] if store.faults else "the run store does not answer"
        raise StudyError(f"the study cannot be recorded: {fault}", hint="free some disk space, then start it again")
    child = ChildProcess("dspex_nb.runs.study_worker", [str(folder)], log=folder / LOG)
    secrets = client.secrets() if hasattr(client, "secrets") else {}
    with contextlib.suppress(WorkerDiedError):  # dead already: `_on_exit` says why
        child.send({"do": "secrets", "secrets": secrets})
    return child


def _plan_again(
    study: Study,
    kept: Mapping[str, Any],
    session: Session,
    *,
    program: Any,
    metric: Any,
    rows: tuple[Sequence[Any] | None, Sequence[Any] | None],
    options: Mapping[str, Any],
) -> StudyPlan:
    """Put a plan together from what this kernel has, what was kept, and what is brought."""
    old = study.plan
    if old is not None:
        return replace(
            old,
            program=old.program if program is None else _checked_program(find_optimizer(old.optimizer), program),
            metric=metric or old.metric,
            trainset=old.trainset if rows[0] is None else list(rows[0]),
            valset=old.valset if rows[1] is None else list(rows[1]),
            options={**old.options, **options},
        )
    facts = find_optimizer(str(kept.get("optimizer") or study.info.get("optimizer")))
    metric = metric if metric is not None else kept.get("metric")
    given = {"trainset": rows[0], "valset": rows[1], **options}
    lacking = [name for name in kept.get("brought", ()) if given.get(name) is None]
    if program is None:
        lacking.insert(0, "program")
    if metric is None and study.info.get("metric") is not None:
        lacking.append("metric")
    if not kept or lacking:
        names = ", ".join(f"{name}=" for name in lacking or ("program", "metric", "trainset"))
        raise StudyError(
            f"study {study.id} keeps state and data, never code: bring {names} again",
            hint=f"make them as they were, then study.resume({', '.join(f'{name}=…' for name in lacking or ('program',))})",
        )
    client = session.require_lm()
    return StudyPlan(
        program=_checked_program(facts, program),
        optimizer=facts.name,
        metric=resolve_metric(metric) if metric is not None else None,
        trainset=list(rows[0] or kept.get("trainset") or ()),
        valset=list(rows[1] or kept.get("valset") or ()) or None,
        inputs=tuple(kept.get("inputs", ())),
        options={**kept.get("options", {}), **options},
        adapter=kept.get("adapter") or _adapter_of(program, session, client),
        seed=int(kept.get("seed", 0)),
        n_jobs=int(kept.get("n_jobs", _JOBS)),
        accelerate=bool(kept.get("accelerate")),
    )


def _checked_program(facts: Any, program: Any) -> Any:
    """Return what crosses to the study's process for a program, or for a list of them.

    Raises:
        OptimizerError: The optimizer takes the other.
    """
    several = isinstance(program, Sequence) and not isinstance(program, str)
    if several != (facts.program == "programs"):
        wants = "a list of programs" if facts.program == "programs" else "one program"
        raise OptimizerError(f"{facts.name} takes {wants}, this is a {type(program).__name__}", hint=facts.note)
    return [_crossing(one) for one in program] if several else _crossing(program)


def _crossing(program: Any) -> Any:
    """Return what a study's process gets: a recipe, or a copy of a module, which `adopt` would change before a resumption."""
    return program.deepcopy() if _is_module(program) and not hasattr(program, "base_signature") else recipe_of(program)


def _adapter_of(program: Any, session: Session, client: Any) -> Any:
    own = getattr(program, "adapter", None) if hasattr(program, "base_signature") else None
    return own or session.adapter or client.default_adapter


def _steps(program: Any) -> int:
    """Return how many LM calls one run of the program makes, as far as its predictors tell."""
    if isinstance(program, Sequence):
        return max((_steps(one) for one in program), default=1)
    predictors = getattr(program, "predictors", None)
    return max(1, len(predictors())) if callable(predictors) else 1


def candidates_known(optimizer: str, options: Mapping[str, Any]) -> int:
    """Return how many candidates a study will score; 0 where the optimizer decides that as it goes."""
    sets = options.get("num_candidate_programs", _CANDIDATE_SETS)
    decided = "stop_at_score" in options or "restrict" in options
    if optimizer != "BootstrapFewShotWithRandomSearch" or decided or not isinstance(sets, int):
        return 0
    return sets + _BASELINES


def makes_a_program(optimizer: str) -> bool:
    """Say whether an optimizer's best is a program around the user's, not a state that loads into it."""
    return optimizer in FACTS and FACTS[optimizer].best == "program"


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
        spend = Spend.of(store.usage(row.run_id))
        rows.append(
            {
                "id": row.run_id,
                "name": row.name,
                "status": row.status,
                "best_score": best.get("score"),
                "optimizer": row.info.get("optimizer"),
                "trials": sum(trial.score is not None for trial in store.trials(row.run_id)),
                "calls": spend.calls,
                "paid": spend.paid,
                "started": pd.Timestamp(row.started, unit="s", tz="UTC"),
                "elapsed_s": None if row.ended is None else row.ended - row.started,
                "error": row.error,
            }
        )
    columns = ["id", "name", "status", "optimizer", "best_score", "trials", "calls", "paid", "started", "elapsed_s", "error"]
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
    if isinstance(program, Sequence) and not isinstance(program, str):
        return f"{len(program)} programs"
    if hasattr(program, "spec") and hasattr(program, "name"):  # a pipeline
        return str(program.name)
    signature = getattr(program, "base_signature", None) or getattr(program, "signature", None)
    name = getattr(signature, "name", None) or getattr(signature, "__name__", None)
    return str(name) if name and name != "StringSignature" else type(program).__name__
