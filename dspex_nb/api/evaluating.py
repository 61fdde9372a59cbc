"""`dx.evaluate` and `dx.load_evaluation`: an evaluation begun, watched, stopped, and gone on with in this kernel or the next."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.ambient import Session, home
from dspex_nb.api.displays import Watch, shell
from dspex_nb.api.evaluations import Evaluation, example_info
from dspex_nb.api.mapping import checked_rows, recorded
from dspex_nb.api.placing import placed
from dspex_nb.api.programs import Program, is_dspy_module, lm_of, lm_width, program_of
from dspex_nb.api.sessions import session
from dspex_nb.errors import Cancelled, DataError, DSPexError, MetricError, did_you_mean
from dspex_nb.examples import Example
from dspex_nb.metrics import Metric, resolve_metric, resolve_metrics
from dspex_nb.modules import Predict
from dspex_nb.pipelines.durations import read_duration
from dspex_nb.pools import Pool
from dspex_nb.runs.code_keys import key_of
from dspex_nb.runs.contents import Unkeyable
from dspex_nb.runs.evaluation import Scorecard, ScoredRow, scorecard
from dspex_nb.runs.evaluation import evaluate as score_rows
from dspex_nb.runs.evaluation_files import About, EvaluationFiles, newest, sweep
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import (
    ExampleTable,
    ProgressInfo,
    ProgressState,
    evaluating_html,
    evaluation_html,
    evaluation_live_html,
    evaluation_text,
    labels_bundle,
    progress_html,
    progress_text,
)


@dataclass(frozen=True, slots=True)
class Job:
    """An evaluation to do: all that `resume` needs beside the rows that ended.

    Attributes:
        program: The user's program; None where it is of another kernel.
        unit: The same, as rows are run through it.
    """

    name: str
    program: Any
    unit: Program | None
    examples: Sequence[Example]
    metrics: Sequence[Metric]
    files: EvaluationFiles
    n_jobs: int | None = None
    timeout_s: float | None = None
    deadline_s: float | None = None
    max_errors: int | None = None
    on_progress: Any = None

    def resume(self, program: Any, data: Any, metrics: Any, options: dict[str, Any]) -> Evaluation:
        """Go on with it; see `Evaluation.resume`."""
        now = session()
        if not self.files.exists:
            raise DSPexError(
                f"evaluation {self.files.run_id} is not on disk: {self.files.fault}",
                hint="evaluate anew: answers already received are in the cache",
            )
        known = ("n_jobs", "timeout_s", "deadline_s", "max_errors", "on_progress")
        unknown = next((option for option in options if option not in known), None)
        if unknown:
            raise DSPexError(
                f"resume has no option {unknown!r}", hint=did_you_mean(unknown, known) or f"it takes {', '.join(known)}"
            )
        about, found = self.files.about(), program if program is not None else self.program
        if found is None:
            found = _variable(self.name, self.files.run_id)
        unit = program_of(found, self.name)
        if data is None and self.program is None and not about.whole:
            raise DataError(
                f"the data of evaluation {self.files.run_id} holds values that a file does not give back as they were",
                hint="give it again: .resume(program, data)",
            )
        examples = checked_rows(unit, data) if data is not None else list(self.examples)
        given = [in_dspy(metric) for metric in resolve_metrics(metrics)] if metrics is not None else list(self.metrics)
        lost = [metric.name for metric in given if metric.score is _lost]
        if lost:
            raise MetricError(
                f"the metric {lost[0]!r} is a function of another kernel",
                hint=f"give it again: .resume(metrics=[{', '.join(lost)}])",
            )
        for limit in ("timeout_s", "deadline_s"):
            if limit in options:
                options[limit] = _limit(limit, options[limit])
        return _go_on(replace(self, program=found, unit=unit, examples=examples, metrics=given, **options), now)


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
    limits = (_limit("timeout_s", timeout_s), _limit("deadline_s", deadline_s), max_errors)
    job = Job(unit.name, program, unit, examples, resolved, _files(new_run_id()), n_jobs, *limits, on_progress)
    if resume:
        earlier = _unfinished(job, now) if resume is True else _files(str(resume))
        if earlier is not None:
            return _go_on(replace(job, files=earlier), now)
    sweep(job.files.folder.parent)
    about = About(
        job.files.run_id,
        job.name,
        tuple(metric.name for metric in resolved),
        tuple(metric.name for metric in resolved if metric.lower_is_better),
        _digest(program, resolved, now),
        len(examples),
        n_jobs=n_jobs or 0,
        timeout_s=job.timeout_s,
    )
    return _run(job, now, job.files.begin(about, examples))


def _limit(name: str, value: float | str | None) -> float | None:
    try:
        return None if value is None else read_duration(value)
    except ValueError as error:
        raise DSPexError(f"{name}: {error}", hint=f"write e.g. {name}=30") from None


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
    metrics = [_known(metric_name, about.lower) for metric_name in about.metrics]
    rows = files.rows(examples)
    card = scorecard(rows, [metric for metric in metrics if metric is not None], about.elapsed_s, found)
    status = row.status if row is not None else "interrupted"
    job = Job(about.name, None, None, examples, metrics, files, about.n_jobs or None, about.timeout_s)
    return Evaluation(about.name, card, status, about.rows, job)


def _go_on(job: Job, now: Session) -> Evaluation:
    """Run the rows that an earlier attempt did not finish.

    Raises:
        DSPexError: It still runs, or is of another program, data or metrics.
    """
    if not job.files.exists:
        raise DSPexError(f"no evaluation {job.files.run_id!r} is kept", hint="dx.run_list() shows all runs")
    now.store.flush()
    now.store.mark_interrupted()
    row, about = now.store.run(job.files.run_id), job.files.about()
    if row is not None and row.status == "running":
        raise DSPexError(f"evaluation {job.files.run_id} of {about.name!r} still runs", hint="wait for it, or stop it first")
    names = tuple(metric.name for metric in job.metrics)
    if names != about.metrics:
        raise DSPexError(
            f"evaluation {job.files.run_id} was by {', '.join(about.metrics)}, not by {', '.join(names)}",
            hint="give the same metrics, or evaluate anew: the answers are in the cache",
        )
    if not job.files.holds(job.examples):
        raise DataError(
            f"the data is not that of evaluation {job.files.run_id}, which has {about.rows:,} rows",
            hint="give the same rows, or evaluate anew: the answers are in the cache",
        )
    digest = _digest(job.program, job.metrics, now)
    if about.program and digest and digest != about.program:
        raise DSPexError(
            f"the program, a metric or the model is not what evaluation {job.files.run_id} began with: its rows would not mix",
            hint="evaluate anew: answers to the same prompts are in the cache",
        )
    done = [one for one in job.files.rows(job.examples) if one.error is None]
    return _run(job, now, about, done)


def _run(job: Job, now: Session, about: About, done: Sequence[ScoredRow] = ()) -> Evaluation:
    if job.unit is None:
        raise AssertionError("only a job with a program is run")
    scope = Scope(job.files.run_id, now.bus)
    main = job.metrics[0]
    live = _Live(job, scope, [example_info(row, main) for row in done])
    rows: dict[int, ScoredRow] = {row.index: row for row in done}
    lock, over = threading.Lock(), threading.Event()

    def ended(row: ScoredRow) -> None:
        if over.is_set():  # left behind by a stop: its file may be another attempt's by now
            return
        job.files.add(row)
        with lock:
            rows[row.index] = row
        live.table.add(example_info(row, main))

    started = time.perf_counter()

    def partial() -> Scorecard:
        with lock:
            so_far = list(rows.values())
        return scorecard(so_far, job.metrics, about.elapsed_s + time.perf_counter() - started, scope.run_id)

    def made(card: Scorecard, status: str) -> Evaluation:
        return Evaluation(job.name, card, status, len(job.examples), job, job.files.fault)

    with live.watch:
        try:
            with recorded(scope, job.name, "evaluation", len(job.examples) - len(done)):
                width = job.unit.n_jobs if job.n_jobs is None else lm_width(now, job.n_jobs)
                card = score_rows(
                    job.unit.call, job.examples, job.metrics, scope=scope, n_jobs=width, timeout_s=job.timeout_s,
                    deadline_s=job.deadline_s, max_errors=job.max_errors, session=now, done=done, on_row=ended,
                )  # fmt: skip
                live.end(made(replace(card, elapsed_s=about.elapsed_s + card.elapsed_s), "done"))
        except (Cancelled, KeyboardInterrupt) as stop:
            with contextlib.suppress(DSPexError):  # no value of the set yet
                live.end(made(partial(), "cancelled") if rows else None)
            raise _stopped(job, len(rows), stop) from None
        except DSPexError:
            live.end(None)
            raise
        finally:
            over.set()
            job.files.note(replace(about, elapsed_s=about.elapsed_s + time.perf_counter() - started))
            job.files.close()
    evaluation = live.evaluation
    if evaluation is None:
        raise AssertionError("an evaluation that raised nothing has its result")
    if live.watch.live:
        evaluation.mark_shown()
    return evaluation


def _stopped(job: Job, rows: int, stop: BaseException) -> Cancelled:
    _, behind, left = getattr(stop, "message", "").partition("; ")
    what = f"evaluation of {job.name!r} stopped: {rows:,} of {len(job.examples):,} rows are scored"
    if job.files.fault:
        return Cancelled(f"{what}{behind}{left}; {job.files.fault}", hint="run again: answers already received are in the cache")
    return Cancelled(
        f"{what} and kept{behind}{left}",
        hint=f"dx.load_evaluation({job.files.run_id!r}) has them, and its .resume() runs the others",
    )


class _Live:
    """The display of an evaluation: how far it is and the rows so far, in the end its result."""

    def __init__(self, job: Job, scope: Scope, done: Sequence[Any]) -> None:
        self.table = ExampleTable([metric.name for metric in job.metrics], done)
        self.evaluation: Evaluation | None = None
        self._total, self._main = len(job.examples), job.metrics[0].name
        self._state = ProgressState(run_id=scope.run_id, title=job.name, total=self._total)
        self.watch = Watch(
            scope, self._state, self._html, self._text, on_progress=job.on_progress, actions={"cancel": scope.cancel.cancel},
            figure=lambda: labels_bundle(self.evaluation.info()) if self.evaluation else None, choose=self.table.choose,
            still=lambda: evaluation_html(self.evaluation.info()) if self.evaluation else progress_html(self._progress()),
        )  # fmt: skip

    def end(self, evaluation: Evaluation | None) -> None:
        """Show the result from now on."""
        self.evaluation = evaluation

    def _progress(self) -> ProgressInfo:
        """Return how far it is, rows of an earlier attempt included."""
        done, errors = self.table.done
        info = self._state.snapshot()
        return replace(info, done=done, total=self._total, errors=errors, metric=self._main, score=self.table.mean)

    def _html(self) -> str:
        if self.evaluation is not None:
            return evaluation_live_html(self.evaluation.info(), self.table)
        return evaluating_html(self._progress(), self.table)

    def _text(self) -> str:
        return evaluation_text(self.evaluation.info()) if self.evaluation is not None else progress_text(self._progress())


def in_dspy(metric: Metric) -> Metric:
    """Return the metric so that a DSPy judge inside it asks the session's model, where DSPy itself has none set."""
    dspy = sys.modules.get("dspy")
    if dspy is None or metric.bind is not None or metric.name.partition(":")[0].partition("@")[0] in _builtin_names():
        return metric

    def bind(now: Session, scope: Scope) -> Any:
        from dspex_nb.bridge import asking

        return asking(metric.score, now, scope)

    return replace(metric, bind=bind)


def _builtin_names() -> set[str]:
    from dspex_nb.metrics import BUILTIN

    return {name.partition("@")[0] for name in BUILTIN}


def _known(name: str, lower: Sequence[str]) -> Metric:
    """Return a metric by its name; one that was a function stands for its scores only."""
    try:
        return resolve_metric(name)
    except MetricError:
        return Metric(name, _lost, lower_is_better=name in lower)


def _lost(*_: Any) -> float:
    raise MetricError("this metric is a function of another kernel", hint="give it again: .resume(metrics=…)")


def _unfinished(job: Job, now: Session) -> EvaluationFiles | None:
    """Return the latest evaluation that is the same and was not finished."""
    now.store.flush()
    now.store.mark_interrupted()
    names, digest = tuple(metric.name for metric in job.metrics), _digest(job.program, job.metrics, now)
    for row in now.store.runs("evaluation"):
        files = _files(row.run_id)
        if row.name != job.name or row.status in ("done", "running") or not files.exists:
            continue
        about = files.about()
        if about.metrics == names and about.program == digest and about.rows == len(job.examples) and files.holds(job.examples):
            return files
    return None


def _variable(name: str, run_id: str) -> Any:
    """Return the notebook's variable of that name."""
    running = shell()
    names = running.user_ns if running is not None else vars(sys.modules["__main__"])
    if name not in names or not (callable(names[name]) or hasattr(names[name], "spec")):
        raise DSPexError(
            f"no program {name!r} is defined here: an evaluation keeps rows, never code",
            hint=f"run the cell that defines it, or give it: dx.load_evaluation({run_id!r}).resume(program)",
        )
    return names[name]


def _digest(program: Any, metrics: Sequence[Metric], now: Session) -> str:
    """Return a text that is equal where rows would come out the same; empty where that cannot be told."""
    model = getattr(lm_of(program, now), "identity", "")
    parts = [*_identity(program, now), model, str(getattr(now.adapter, "name", now.adapter))]
    try:
        parts += [key_of(metric.score, data=False) for metric in metrics if metric.name in _functions(metrics)]
    except Unkeyable:
        return ""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest() if all(parts[:1]) else ""


def _functions(metrics: Sequence[Metric]) -> set[str]:
    return {metric.name for metric in metrics if metric.name.partition(":")[0].partition("@")[0] not in _builtin_names()}


def _identity(program: Any, now: Session) -> list[str]:
    """Return what a program is, as texts; the first is empty where that cannot be told."""
    if hasattr(program, "spec") and hasattr(program, "identity"):
        return [program.identity(now)]
    try:
        if isinstance(program, Predict):
            state = json.dumps(program.dump_state(), sort_keys=True, default=str)
            return [
                program.kind,
                program.signature.digest,
                state,
                repr(program.adapter),
                repr(sorted(program.lm_options.items())),
            ]
        if is_dspy_module(program):
            return [key_of(type(program), data=False), json.dumps(program.dump_state(), sort_keys=True, default=str)]
        return [key_of(program, data=False)]
    except Unkeyable:
        return [""]


def _home() -> Any:
    return home() / "evaluations"


def _files(run_id: str) -> EvaluationFiles:
    return EvaluationFiles(_home(), run_id)
