"""`dx.optimize`: a study in a process of its own, its dashboard, and its best program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.mapping import checked_rows
from dspex_nb.api.pipelines import Pipeline
from dspex_nb.api.programs import Program, lm_of, program_of
from dspex_nb.api.sessions import session
from dspex_nb.api.study_programs import StudyDiff, best_program, diff_of, load_into
from dspex_nb.api.study_views import StudyDisplay
from dspex_nb.bridge import catalog
from dspex_nb.errors import OptimizerError, StudyError
from dspex_nb.events import Bus, Subscriber
from dspex_nb.metrics import BUILTIN, Metric, resolve_metric
from dspex_nb.runs import studies as running


class Study(StudyDisplay):
    """A study: an optimizer at work in a child process, or what it left behind.

    It goes on while cells run. Showing it shows its dashboard, with Stop, Pause and Resume while it is live and Adopt best
    after its end.

    Attributes:
        record: The study as the run store knows it.
        program: The program it tunes; None where the study was loaded from an earlier kernel.
    """

    def __init__(
        self, start: Callable[[Bus], running.Study], now: Session, program: Any = None, followers: Sequence[Subscriber] = ()
    ) -> None:
        self.program, self._now = program, now
        # A bus of its own, subscribed before the study begins: whoever joined later would miss how it began.
        bus = Bus(keep=0)
        for follower in (now.bus.publish, *followers):
            bus.subscribe(follower)
        self.record = start(bus)
        self.feed.shown.adoptable = program is not None and not self._makes_a_program
        self._show_what_can_be_done()

    @property
    def id(self) -> str:
        """Its id in the run store: `dx.load_study(id)` finds it in a later kernel."""
        return self.record.id

    @property
    def name(self) -> str:
        """Optimizer and program."""
        return self.record.name

    @property
    def status(self) -> str:
        """`"running"`, `"paused"`, `"done"`, `"stopped"`, `"failed"` or `"interrupted"`."""
        return self.record.status

    @property
    def result(self) -> running.StudyResult:
        """Scores, trials, calls, tokens and seconds so far; final once it has ended."""
        return self.record.result

    @property
    def trials(self) -> Any:
        """A DataFrame, a row a scored candidate."""
        return self.record.trials

    @property
    def error(self) -> str | None:
        """What failed and the next act, or None."""
        return self.record.error

    @property
    def best_state(self) -> dict[str, Any]:
        """The best program so far as DSPy's saved state.

        Raises:
            StudyError: Nothing has been scored yet.
        """
        state = self.record.best
        if state is None:
            raise StudyError(f"study {self.id} has no program yet", hint="wait for its first trial: study.wait()")
        return state

    @property
    def best(self) -> Any:
        """The best program so far, a copy of the one it tunes with the best state loaded.

        Raises:
            StudyError: Nothing has been scored yet, or the study is from an earlier kernel: load `best_state` yourself.
        """
        if self.program is None:
            raise StudyError(
                f"study {self.id} is from an earlier kernel and brings state, never code",
                hint="make the program again, then dx.load_study(id, program).best",
            )
        return best_program(self.record, self.program, self.best_state, self._now)

    @property
    def spend(self) -> running.Spend:
        """What it paid, what the cache saved, and what of both has no known price."""
        return self.record.spend

    @property
    def estimate(self) -> running.StudyEstimate | None:
        """What it was expected to take at most when it began."""
        told = self.record.info.get("estimate")
        return running.StudyEstimate(**told) if told else None

    def diff(self, trial: int | None = None, against: int | str = "start") -> StudyDiff:
        """Compare the best program, or a trial's, with the start, its parent, or another trial: instructions and demos.

        Raises:
            StudyError: One of them is not there.
        """
        return diff_of(self.record, trial, against)

    def adopt(self) -> Any:
        """Load the best state into the program itself and return it.

        Raises:
            StudyError: The study is from an earlier kernel, or its best is another program around the user's.
        """
        if self.program is None:
            return self.best  # raises, and says what to do
        if self._makes_a_program:
            raise StudyError(
                f"{self.record.info['optimizer']} makes a program of its own, which yours cannot take over",
                hint="use it as it is: tuned = study.best",
            )
        load_into(self.program, self.best_state, self._now)
        self.feed.shown.note = f"adopted: {running.title_of(self.program)} now uses the best program"
        self.feed.shown.adoptable = False
        return self.program

    def stop(self) -> None:
        """End it within about a second; the best program so far is kept, and `resume` goes on."""
        self.record.stop()

    def pause(self) -> None:
        """Hold it before the next LM call."""
        self.record.pause()

    def resume(
        self,
        program: Any = None,
        metric: Any = None,
        trainset: Any = None,
        valset: Any = None,
        budget: Any = None,
        **options: Any,
    ) -> Study:
        """Go on after `pause`, a stop, a failure, a used-up budget, or a kernel's death; returns this study.

        One that has ended starts again with its seed: what it received before comes from the cache, unpaid. In a later kernel
        it needs its program again, and its metric unless that was given by name.

        Args:
            program: The program as it was when the study began.
            metric: Its metric.
            trainset: Its rows, where they could not be kept.
            valset: Likewise.
            budget: A new one.
            **options: Those of the optimizer's options that could not be kept.

        Raises:
            StudyError: It is done, or something has to be brought again.
        """
        if self.record.status in ("running", "paused"):
            self.record.resume()
            return self
        brought = program if program is not None else self.program
        unit = None if brought is None else program_of(brought[0] if isinstance(brought, list | tuple) else brought)
        running.resume_study(
            self.record,
            replace(self._now, lm=self._now.lm if brought is None else lm_of(brought, self._now)),
            program=_crossing(program if program is not None or self.record.plan is not None else self.program),
            metric=_maximized(metric) if metric is not None else None,
            trainset=_rows(unit, trainset) if unit is not None and trainset is not None else None,
            valset=_rows(unit, valset) if unit is not None and valset is not None else None,
            budget=budget,
            options=options,
        )
        self.program = brought
        self._show_what_can_be_done()
        return self

    @property
    def _makes_a_program(self) -> bool:
        return running.makes_a_program(self.record.info.get("optimizer", ""))

    def _show_what_can_be_done(self) -> None:
        plan = self.record.plan
        self.feed.shown.resumable = plan is not None or self.program is not None
        if plan is not None:
            self.feed.shown.rows = [dict(row.items()) for row in (*(plan.valset or ()), *plan.trainset)]

    def wait(self, timeout_s: float | None = None) -> running.StudyResult:
        """Wait for its end; ■ while waiting leaves it running."""
        result = self.record.wait(timeout_s)
        if result.status not in ("running", "paused"):
            self._last_picture()
        return result

    def __repr__(self) -> str:
        found = self.result
        best = "none yet" if found.best_score is None else f"{found.best_score:.3f}"
        return f"Study({self.name!r}, {found.status}, {found.trials} trials, best {best})"


def optimize(
    program: Any,
    optimizer: str = "MIPROv2",
    metric: Any = None,
    trainset: Any = None,
    valset: Any = None,
    budget: Any = None,
    background: bool = True,  # noqa: FBT001, FBT002 - the public API's fixed shape
    seed: int = 0,
    n_jobs: int | None = None,
    on_progress: Any = None,
    name: str = "",
    accelerate: bool = False,  # noqa: FBT001, FBT002 - as `background`
    **options: Any,
) -> Study:
    """Tune `program` with a DSPy optimizer, in a child process that dies with the kernel.

    Args:
        program: A `dx.Predict`, a `dx.ChainOfThought`, a pipeline or a `dspy.Module`; it is not changed (see `Study.adopt`).
            A list of them for `Ensemble`, a `dx.Avatar` for `AvatarOptimizer`.
        optimizer: A name of `dx.optimizers()`.
        metric: A metric's name, or a function `metric(example, prediction, trace=None)`; higher is better.
        trainset: Dicts, examples, a DataFrame, or a file's path.
        valset: Likewise; the trainset scores the candidates if there is none.
        budget: What it may spend: `"$0.50"` or 0.5, `"500 calls"`, `"200k tokens"`, `"10 min"`, several in a dict. The study
            stops before it would pass, with the best program by then.
        background: Return at once; otherwise wait for the end.
        seed: Of the optimizer's random choices.
        n_jobs: LM calls in flight.
        on_progress: Called with each event of the study.
        name: Title of the study; by default the signature's name.
        accelerate: Serve its predictors natively inside the study where that gives the same, as `dx.accelerate` does.
        **options: The optimizer's own.

    Raises:
        OptimizerError: An unknown optimizer or option, a metric of which less is better, or something it needs is missing.
        DataError: A column is missing.
        StudyError: The program or the metric cannot cross to another process.
    """
    now = session()
    known = catalog.find_optimizer(optimizer)
    several = isinstance(program, list | tuple)
    first = program[0] if several and program else program
    unit = program_of(first)
    if trainset is None and known.trainset == "needed":
        raise OptimizerError(f"{optimizer} needs a trainset", hint="pass trainset=, labelled rows")
    if known.program == "programs" and metric is not None and valset is None and trainset is None:
        raise OptimizerError(f"{optimizer} is scored on a valset", hint="pass valset=, labelled rows")
    tuned = partial(
        running.start_study,
        _crossing(program),
        optimizer=optimizer,
        metric=_maximized(metric) if metric is not None else None,
        trainset=_rows(unit, trainset) if trainset is not None else [],
        valset=_rows(unit, valset) if valset is not None else None,
        options=options,
        inputs=unit.accepts or (),
        seed=seed,
        n_jobs=n_jobs,
        name=name or running.title_of(program),
        budget=budget,
        accelerate=accelerate,
        metric_name=metric if isinstance(metric, str) else None,
    )
    followers = [on_progress] if on_progress is not None else []
    study = Study(lambda bus: tuned(session=replace(now, bus=bus, lm=lm_of(first, now))), now, program, followers)
    if not background:
        study.wait()
    return study


def _crossing(program: Any) -> Any:
    """Return what a study tunes for a program: a pipeline as a module."""
    if isinstance(program, list | tuple):
        return [_crossing(one) for one in program]
    return _tunable(program) if isinstance(program, Pipeline) else program


def _maximized(metric: Any) -> Metric:
    """Return the metric.

    Raises:
        OptimizerError: Lower is better.
    """
    found = resolve_metric(metric)
    if found.lower_is_better:
        raise OptimizerError(
            f"optimizers maximize, and of {found.name!r} less is better: the worst program would win",
            hint=f"pass a function that rises as it falls, e.g. 1 / (1 + {found.name.partition(':')[0].partition('@')[0]})",
        )
    return found


def _tunable(pipeline: Pipeline) -> Any:
    """Return the pipeline as a module.

    Raises:
        OptimizerError: It has no step that asks an LM.
    """
    module = pipeline.as_dspy()
    if not module.predictors():
        raise OptimizerError(
            f"pipeline {pipeline.name!r} has no step to tune: none asks a language model", hint="add e.g. a predict step"
        )
    return module


def _rows(unit: Program, data: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in checked_rows(unit, data)]


def load_study(study_id: str, program: Any = None) -> Study:
    """Return a study of this or an earlier kernel.

    Args:
        study_id: As `dx.studies()` lists it.
        program: The program it tuned, made again, so that `.best` can load its state and `.resume()` can go on.

    Raises:
        StudyError: There is none of that id.
    """
    now = session()
    now.store.flush()
    return Study(lambda bus: running.load_study(now.store, study_id, bus=bus), now, program)


def studies() -> Any:
    """Return a DataFrame of the studies of this and earlier kernels, newest first."""
    now = session()
    now.store.flush()
    return running.studies(now.store)


def optimizers() -> Any:
    """Return a DataFrame of DSPy's optimizers: what each needs, and whether it is installed."""
    return catalog.optimizers()


def optimizer_names() -> list[str]:
    """Return the names that `optimize` takes."""
    return [name for name, facts in catalog.FACTS.items() if facts.study]


def optimizer_options(name: str) -> list[str]:
    """Return the names of an optimizer's own options.

    Raises:
        OptimizerError: There is no such optimizer; the hint names the nearest.
    """
    from dspex_nb.bridge.optimizing import option_names

    return option_names(name)


def metric_names() -> list[str]:
    """Return the names of the built-in metrics."""
    return list(BUILTIN)
