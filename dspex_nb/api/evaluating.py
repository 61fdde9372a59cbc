"""`dx.evaluate` and `dx.load_evaluation`: begin an evaluation, or come back to one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dspex_nb.ambient import Session, home
from dspex_nb.api.evaluation_identity import identity_of
from dspex_nb.api.evaluation_jobs import Job, go_on, run, seconds
from dspex_nb.api.evaluation_metrics import in_dspy, known_by_name
from dspex_nb.api.evaluations import Evaluation
from dspex_nb.api.mapping import checked_rows
from dspex_nb.api.placing import placed
from dspex_nb.api.sessions import session
from dspex_nb.errors import DataError, DSPexError, did_you_mean
from dspex_nb.metrics import resolve_metrics
from dspex_nb.pools import Pool
from dspex_nb.runs.evaluation import scorecard
from dspex_nb.runs.evaluation_files import About, EvaluationFiles, newest, sweep
from dspex_nb.scopes import new_run_id


def evaluate(
    program: Any,
    data: Any,
    metrics: Any = "exact_match",
    n_jobs: int | None = None,
    timeout_s: float | str | None = None,
    max_errors: int | None = None,
    on_progress: Any = None,
    name: str = "",
    backend: str | Pool | None = None,
    *,
    deadline_s: float | str | None = None,
    resume: bool | str = False,
) -> Evaluation:
    """Score `program` on labelled rows; a notebook shows the rows as they end, then the result in their place.

    Each row is on disk when it ends. Stopped (■, the Stop button) or killed with its kernel, it goes on where it was:
    `dx.load_evaluation()` gives the rows so far, and its `resume()` runs the others.

    Args:
        program: A `dx.Predict`, a pipeline, a `dspy.Module` or a function.
        data: Dicts, examples, a DataFrame, or the path of a CSV, JSONL or Parquet file.
        metrics: Names (`"f1"`, `"exact_match:desk"`) or functions `metric(example, prediction, trace=None)`.
        n_jobs: Rows in flight; None and -1 mean the LM's `max_concurrency`.
        timeout_s: Seconds (or e.g. `"2m"`) for one example, waiting for its turn at the model included. One that takes longer
            is broken off and counts as failed; its metrics have the same time again.
        max_errors: Rows that may fail before it stops; None keeps going and marks each.
        on_progress: Called with each event.
        name: Shown as the title; by default the program's name.
        backend: Where the program runs: None here; `"loky"`, `"dask"` or `"ray"` in the session's pool of that backend; or a
            pool. Metrics are taken here; a worker's model calls are counted, their prompts are not in the rows' traces.
        deadline_s: Seconds for the whole evaluation; rows not begun by then are marked so.
        resume: True goes on with the latest unfinished evaluation of this name, program, data and metrics, and begins a new one
            if there is none; an id goes on with that one.

    Raises:
        DataError: A column is missing, or there is no row.
        MetricError: A metric is unknown, or raised on every row.
        Cancelled: The user stopped it; the rows so far are kept.
    """
    now = session()
    resolved = [in_dspy(metric) for metric in resolve_metrics(metrics)]
    unit = placed(program, name, backend)
    examples = checked_rows(unit, data)
    if not examples:
        raise DataError("there is no row to evaluate", hint="pass at least one labelled row")
    limits = (seconds("timeout_s", timeout_s), seconds("deadline_s", deadline_s), max_errors)
    job = Job(unit.name, program, unit, examples, resolved, _files(new_run_id()), n_jobs, *limits, on_progress)
    if resume:
        earlier = _unfinished(job, now) if resume is True else _files(str(resume))
        if earlier is not None:
            return go_on(replace(job, files=earlier), now)
    sweep(job.files.folder.parent)
    about = About(
        job.files.run_id,
        job.name,
        tuple(metric.name for metric in resolved),
        tuple(metric.name for metric in resolved if metric.lower_is_better),
        identity_of(program, resolved, now),
        len(examples),
        n_jobs=n_jobs or 0,
        timeout_s=job.timeout_s,
    )
    return run(job, now, job.files.begin(about, examples))


def load_evaluation(evaluation_id: str = "") -> Evaluation:
    """Return an evaluation of this or an earlier kernel: its rows, scores and traces.

    Its `resume()` goes on where it was not finished. The newest 200 evaluations are kept.

    Args:
        evaluation_id: As `dx.run_list()` shows it; empty means the newest.

    Raises:
        DSPexError: There is none.
    """
    now = session()
    now.store.flush()
    now.store.mark_interrupted()
    found = evaluation_id or newest(_home())
    files = _files(found)
    if not found or not files.exists:
        known = [row.run_id for row in now.store.runs("evaluation")]
        what = f"no evaluation {found!r} is kept" if found else "no evaluation is kept yet"
        raise DSPexError(what, hint=f"{did_you_mean(found, known)}dx.run_list() shows all runs")
    about, examples = files.about(), files.data()
    row = now.store.run(found)
    metrics = [known_by_name(metric_name, about.lower) for metric_name in about.metrics]
    rows = files.rows(examples)
    card = scorecard(rows, [metric for metric in metrics if metric is not None], about.elapsed_s, found)
    status = row.status if row is not None else "interrupted"
    job = Job(about.name, None, None, examples, metrics, files, about.n_jobs or None, about.timeout_s)
    return Evaluation(about.name, card, status, about.rows, job)


def _unfinished(job: Job, now: Session) -> EvaluationFiles | None:
    """Return the latest evaluation that is the same and was not finished."""
    now.store.flush()
    now.store.mark_interrupted()
    names, digest = tuple(metric.name for metric in job.metrics), identity_of(job.program, job.metrics, now)
    for row in now.store.runs("evaluation"):
        files = _files(row.run_id)
        if row.name != job.name or row.status in ("done", "running") or not files.exists:
            continue
        about = files.about()
        if about.metrics == names and about.program == digest and about.rows == len(job.examples) and files.holds(job.examples):
            return files
    return None


def _home() -> Any:
    return home() / "evaluations"


def _files(run_id: str) -> EvaluationFiles:
    return EvaluationFiles(_home(), run_id)
