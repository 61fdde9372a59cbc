"""`Job`: an evaluation to do, run to its end or its stop, and gone on with in this kernel or the next."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.displays import shell
from dspex_nb.api.evaluation_identity import identity_of
from dspex_nb.api.evaluation_live import LiveEvaluation
from dspex_nb.api.evaluation_metrics import in_dspy, is_lost
from dspex_nb.api.evaluations import Evaluation, example_info
from dspex_nb.api.mapping import checked_rows, recorded
from dspex_nb.api.programs import Program, lm_width, program_of
from dspex_nb.api.sessions import session
from dspex_nb.errors import Cancelled, DataError, DSPexError, MetricError, did_you_mean
from dspex_nb.examples import Example
from dspex_nb.metrics import Metric, resolve_metrics
from dspex_nb.pipelines.durations import read_duration
from dspex_nb.runs.evaluation import Scorecard, ScoredRow, scorecard
from dspex_nb.runs.evaluation import evaluate as score_rows
from dspex_nb.runs.evaluation_files import About, EvaluationFiles
from dspex_nb.scopes import Scope


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
        lost = [metric.name for metric in given if is_lost(metric)]
        if lost:
            raise MetricError(
                f"the metric {lost[0]!r} is a function of another kernel",
                hint=f"give it again: .resume(metrics=[{', '.join(lost)}])",
            )
        for limit in ("timeout_s", "deadline_s"):
            if limit in options:
                options[limit] = seconds(limit, options[limit])
        return go_on(replace(self, program=found, unit=unit, examples=examples, metrics=given, **options), now)


def seconds(name: str, value: float | str | None) -> float | None:
    """Return an option's seconds; `name` is the option's, for the error."""
    try:
        return None if value is None else read_duration(value)
    except ValueError as error:
        raise DSPexError(f"{name}: {error}", hint=f"write e.g. {name}=30") from None


def go_on(job: Job, now: Session) -> Evaluation:
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
    digest = identity_of(job.program, job.metrics, now)
    if about.program and digest and digest != about.program:
        raise DSPexError(
            f"the program, a metric or the model is not what evaluation {job.files.run_id} began with: its rows would not mix",
            hint="evaluate anew: answers to the same prompts are in the cache",
        )
    done = [one for one in job.files.rows(job.examples) if one.error is None]
    return run(job, now, about, done)


def run(job: Job, now: Session, about: About, done: Sequence[ScoredRow] = ()) -> Evaluation:
    """Score the rows that are not done yet."""
    if job.unit is None:
        raise AssertionError("only a job with a program is run")
    scope = Scope(job.files.run_id, now.bus)
    main = job.metrics[0]
    live = LiveEvaluation(
        job.name, [metric.name for metric in job.metrics], len(job.examples), scope,
        [example_info(row, main) for row in done], job.on_progress,
    )  # fmt: skip
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
