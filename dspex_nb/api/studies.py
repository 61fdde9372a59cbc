"""`dx.optimize`: a study in a process of its own, its dashboard, and its best program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.mapping import checked_rows
from dspex_nb.api.pipelines import Pipeline
from dspex_nb.api.programs import Program, lm_of, program_of
from dspex_nb.api.sessions import session
from dspex_nb.api.study_views import StudyDisplay
from dspex_nb.bridge import catalog
from dspex_nb.errors import OptimizerError, StudyError
from dspex_nb.events import Bus, Subscriber, watch_budget
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
        self.feed.shown.adoptable = program is not None

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
                hint="make the program again, then program.load_state(study.best_state)",
            )
        tuned = self.program.deepcopy() if hasattr(self.program, "deepcopy") else copy.deepcopy(self.program)
        tuned.load_state(self.best_state)
        return tuned

    def adopt(self) -> Any:
        """Load the best state into the program itself and return it."""
        if self.program is None:
            return self.best  # raises, and says what to do
        self.program.load_state(self.best_state)
        self.feed.shown.note = f"adopted: {running.title_of(self.program)} now uses the best program"
        self.feed.shown.adoptable = False
        return self.program

    def stop(self) -> None:
        """End it within about a second; the best program so far is kept."""
        self.record.stop()

    def pause(self) -> None:
        """Hold it before the next LM call."""
        self.record.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.record.resume()

    def wait(self, timeout_s: float | None = None) -> running.StudyResult:
        """Wait for its end; ■ while waiting leaves it running."""
        return self.record.wait(timeout_s)

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
    budget: float | str | None = None,
    background: bool = True,  # noqa: FBT001, FBT002 - the public API's fixed shape
    seed: int = 0,
    n_jobs: int | None = None,
    on_progress: Any = None,
    name: str = "",
    **options: Any,
) -> Study:
    """Tune `program` with a DSPy optimizer, in a child process that dies with the kernel.

    Args:
        program: A `dx.Predict`, a `dx.ChainOfThought`, a pipeline or a `dspy.Module`; it is not changed (see `Study.adopt`).
        optimizer: A name of `dx.optimizers()`.
        metric: A metric's name, or a function `metric(example, prediction, trace=None)`; higher is better.
        trainset: Dicts, examples, a DataFrame, or a file's path.
        valset: Likewise; the trainset scores the candidates if there is none.
        budget: US dollars of known cost after which the study is stopped, e.g. `0.5` or `"$0.50"`.
        background: Return at once; otherwise wait for the end.
        seed: Of the optimizer's random choices.
        n_jobs: LM calls in flight.
        on_progress: Called with each event of the study.
        name: Title of the study; by default the signature's name.
        **options: The optimizer's own.

    Raises:
        OptimizerError: An unknown optimizer or option, a metric of which less is better, or something it needs is missing.
        DataError: A column is missing.
        StudyError: The program or the metric cannot cross to another process.
    """
    now = session()
    limit = _dollars(budget)
    unit = program_of(program)
    known = catalog.find_optimizer(optimizer)
    if trainset is None and known.trainset == "needed":
        raise OptimizerError(f"{optimizer} needs a trainset", hint="pass trainset=, labelled rows")
    tuned = partial(
        running.start_study,
        _tunable(program) if isinstance(program, Pipeline) else program,
        optimizer=optimizer,
        metric=_maximized(metric) if metric is not None else None,
        trainset=_rows(unit, trainset),
        valset=_rows(unit, valset) if valset is not None else None,
        options=options,
        inputs=unit.accepts or (),
        seed=seed,
        n_jobs=n_jobs,
        name=name or running.title_of(program),
    )
    made: list[Study] = []
    followers = [on_progress] if on_progress is not None else []
    if limit is not None:
        followers.append(watch_budget(limit, lambda: made[0].stop()))  # noqa: PLW0108 - `made` is still empty here
    made.append(Study(lambda bus: tuned(session=replace(now, bus=bus, lm=lm_of(program, now))), now, program, followers))
    if not background:
        made[0].wait()
    return made[0]


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


def _dollars(budget: float | str | None) -> float | None:
    if budget is None:
        return None
    try:
        return float(str(budget).lstrip("$ "))
    except ValueError:
        raise OptimizerError(
            f"budget {budget!r} is no amount of US dollars", hint="write e.g. budget=0.5 or --budget '$0.50'"
        ) from None


def load_study(study_id: str, program: Any = None) -> Study:
    """Return a study of this or an earlier kernel.

    Args:
        study_id: As `dx.studies()` lists it.
        program: The program it tuned, made again, so that `.best` can load its state.

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
