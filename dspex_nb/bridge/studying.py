"""One optimizer run from start to end: score the start, compile, score the result, keep the best."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from dspex_nb.ambient import Session
from dspex_nb.bridge.accelerate import accelerate_predictors
from dspex_nb.bridge.candidates import canonical, state_of, without_lm
from dspex_nb.bridge.catalog import find_optimizer
from dspex_nb.bridge.choices import GEPAWatch, optuna_told, predictor_names, simba_told
from dspex_nb.bridge.finetuning import TrainableLM, failures_left_out, provider_of
from dspex_nb.bridge.lanes import on_lanes
from dspex_nb.bridge.lm import BridgeLM, Stopped
from dspex_nb.bridge.optimizing import Optimizer, Setting, chained_names, make_optimizer
from dspex_nb.bridge.overlapping import overlapped
from dspex_nb.bridge.patience import PatientLM
from dspex_nb.bridge.plans import StudyPlan
from dspex_nb.bridge.programs import dspy_adapter, program_for
from dspex_nb.bridge.splitting import split
from dspex_nb.bridge.watched_metric import MetricFailed, WatchedMetric
from dspex_nb.bridge.watching import Best, LMFailed, StudyWatch
from dspex_nb.errors import DataError, DSPexError, OptimizerError
from dspex_nb.metrics import resolve_metric
from dspex_nb.scopes import Scope


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """How a study ended: `"done"`, `"stopped"` or `"failed"`, and the best program by then."""

    status: str
    best: Best
    start_score: float | None
    trials: int
    error: str | None = None


class StudyRun:
    """A study in this process. `run` blocks; `watch.pause`, `watch.resume` and the scope's cancel act from other threads.

    Args:
        plan: What to do.
        client: Asks the model.
        scope: The study's run.
        cache: Ours, or None.
        on_best: Called with each new best program.
        folder: Where training data goes.

    Raises:
        OptimizerError: The program or the optimizer cannot be made.
        DataError: The rows lack the program's inputs.
    """

    def __init__(
        self,
        plan: StudyPlan,
        *,
        client: Any,
        scope: Scope,
        cache: Any = None,
        on_best: Callable[[Best], None] = lambda _: None,
        folder: Path | None = None,
    ) -> None:
        self._plan, self._client, self._scope, self._cache = plan, client, scope, cache
        self._folder = folder or Path()
        self._facts = find_optimizer(plan.optimizer)
        several = plan.program if isinstance(plan.program, Sequence) else [plan.program]
        self._programs = [program_for(program) for program in several]
        self._program = self._programs[0]
        if plan.accelerate:
            for program in self._programs:
                accelerate_predictors(program, lambda: Session(lm=client, cache=cache, bus=scope.bus))
        rows = plan.trainset or plan.valset or ()
        inputs = plan.inputs or _input_names(self._program, rows)
        train = [_example(row, inputs, index) for index, row in enumerate(plan.trainset)]
        val = [_example(row, inputs, index) for index, row in enumerate(plan.valset)] if plan.valset else None
        self._train, self._val = split(self._facts.class_name, train, val, plan.options)
        self.start = without_lm(state_of(self._program), client.model)
        self.watch = StudyWatch(
            scope,
            self._val or self._train,
            self.start,
            on_best,
            trainset=self._train,
            metric_name=resolve_metric(plan.metric).name if plan.metric else "score",
            model=client.model,
            hopeless_after=10 + 3 * plan.n_jobs,
        )
        on_best(self.watch.best)

    def run(self) -> StudyOutcome:
        """Run it to its end, a stop or a failure; raises nothing planned."""
        try:
            self._compile()
        except Stopped:
            return self.outcome("stopped")
        except (MetricFailed, LMFailed) as failure:
            return self.outcome("failed", _why(failure.cause))
        except Exception as error:  # noqa: BLE001 - an optimizer may raise anything; it becomes the study's message
            # What DSPy raises after too many errors says only that there were many; the first LM error says why.
            return self.outcome("failed", _why(self.watch.first_lm_error or error))
        return self.outcome("done")

    def outcome(self, status: str, error: str | None = None) -> StudyOutcome:
        """Return what is known now as an end of this status."""
        return StudyOutcome(status, self.watch.best, self.watch.start_score, self.watch.trials, error)

    def _compile(self) -> None:
        plan = self._plan
        random.seed(plan.seed)
        metric = self._metric()
        lm = self._lm()
        with contextlib.ExitStack() as told:
            told.enter_context(
                dspy.context(
                    lm=lm,
                    adapter=dspy_adapter(plan.adapter or self._client.default_adapter, lm),
                    callbacks=[self.watch],
                    disable_history=True,  # DSPy keeps every call for ever otherwise
                    num_threads=plan.n_jobs,
                    max_errors=10**9,  # an example that fails scores 0; what fails always is told by the watch
                )
            )
            ahead = told.enter_context(on_lanes())
            told.enter_context(overlapped(int(plan.options.get("num_threads") or plan.n_jobs), ahead))
            self._tell_choices(told)
            setting = Setting(plan.seed, lm, plan.n_jobs)
            optimizer = make_optimizer(plan.optimizer, metric, self._options(), trainset=self._train, setting=setting)
            self._score_and_compile(optimizer, metric, lm)

    def _metric(self) -> WatchedMetric | None:
        if not self._plan.metric:
            return None
        session = Session(lm=self._client, cache=self._cache, bus=self._scope.bus, adapter=self._plan.adapter)
        return WatchedMetric(resolve_metric(self._plan.metric).within(session, self._scope), self.watch, self.watch.valset)

    def _lm(self) -> BridgeLM:
        told: dict[str, Any] = {"scope": self._scope, "cache": self._cache, "where": self.watch.here}
        if self._trains():
            provider = provider_of(self._client.model, self._plan.options.get("provider"))
            if not isinstance(dspy_adapter(self._plan.adapter or self._client.default_adapter), dspy.ChatAdapter):
                raise OptimizerError(
                    "training data is written as chats, which this adapter does not know how to",
                    hint="choose the chat adapter for the study: dx.configure(adapter='chat')",
                )
            return TrainableLM(self._client, provider=provider, folder=self._folder / "finetune", **told)
        return PatientLM(self._client, watch=self.watch, **told)

    def _trains(self) -> bool:
        """Say whether weights are to be trained: by BootstrapFinetune, or by one that BetterTogether chains (or would)."""
        if self._facts.name != "BetterTogether":
            return self._facts.name == "BootstrapFinetune"
        chained = chained_names(self._plan.options)
        return "BootstrapFinetune" in chained or not chained

    def _options(self) -> dict[str, Any]:
        options = dict(self._plan.options)
        if self._facts.name == "GEPA":
            given = dict(options.get("gepa_kwargs") or {})
            options["gepa_kwargs"] = {**given, "callbacks": [*(given.get("callbacks") or ()), GEPAWatch(self.watch)]}
        return options

    def _tell_choices(self, told: contextlib.ExitStack) -> None:
        """Enter what makes the optimizers tell more than they do; BetterTogether may chain any of them."""
        names = {self._facts.class_name}
        if self._facts.name == "BetterTogether":
            names = {"MIPROv2", "SIMBA", "BootstrapFinetune"}
        if names & {"MIPROv2", "BootstrapFewShotWithOptuna"} and importlib.util.find_spec("optuna"):
            told.enter_context(optuna_told(self.watch, self._plan.seed, predictor_names(self.start)))
        if "SIMBA" in names:
            told.enter_context(simba_told(self.watch, self._train))
        if "BootstrapFinetune" in names:
            told.enter_context(failures_left_out())

    def _score_and_compile(self, optimizer: Optimizer, metric: WatchedMetric | None, lm: BridgeLM) -> None:
        if self._facts.program == "programs":
            for program in self._programs:
                self._score(program, metric, "candidate")
            result = optimizer.teleprompter.compile(programs=self._programs)
        else:
            if not optimizer.facts.scores:
                self._score(self._program, metric, "start")
            student = _own_copy(self._program)
            if self._trains() or self._facts.name == "BetterTogether":
                student.set_lm(lm)
            result = optimizer.compile(student, self._train, self._val)
        self.watch.checkpoint()
        if self._facts.best == "program" or self._key(result) not in self.watch.scored_states:
            self._score(result, metric, "result")
        if self.watch.start_score is None and self._facts.program != "programs":
            self._score(self._program, metric, "start")
        if self.watch.best.score is None:  # no metric, no score: what the optimizer made is the best there is
            self.watch.take_unscored(without_lm(state_of(result), self._client.model))

    def _key(self, program: Any) -> str:
        return canonical(without_lm(state_of(program), self._client.model))

    def _score(self, program: Any, metric: WatchedMetric | None, kind: str) -> None:
        if metric is not None:
            examples = self.watch.valset
            evaluate = dspy.Evaluate(devset=examples, metric=metric, num_threads=self._plan.n_jobs, display_progress=False)
            evaluate(program, callback_metadata={"dspex_kind": kind})


def rebuilt(plan: StudyPlan) -> Any:
    """Make again, without an LM call, what an optimizer made around the user's program: KNNFewShot's, Ensemble's."""
    several = plan.program if isinstance(plan.program, Sequence) else [plan.program]
    programs = [program_for(program) for program in several]
    inputs = plan.inputs or _input_names(programs[0], plan.trainset)
    train = [_example(row, inputs, index) for index, row in enumerate(plan.trainset)]
    made = make_optimizer(plan.optimizer, plan.metric, plan.options, trainset=train, setting=Setting(plan.seed))
    if made.facts.program == "programs":
        return made.teleprompter.compile(programs=programs)
    return made.compile(programs[0], train, None)


def _own_copy(program: Any) -> Any:
    """Return a copy whose signatures are its own: a deep copy shares the classes, and InferRules writes into them."""
    copied = program.deepcopy()
    for predictor in copied.predictors():
        predictor.signature = predictor.signature.with_instructions(predictor.signature.instructions)
    return copied


def _input_names(program: Any, rows: Sequence[Any]) -> tuple[str, ...]:
    """Read the program's inputs: its predictor's, or the parameters of its `forward`."""
    if isinstance(program, dspy.Predict):
        return tuple(program.signature.input_fields)
    parameters = inspect.signature(program.forward).parameters.values()
    named = tuple(p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY})
    if named:
        return named
    predictors = program.predictors()
    written = {name for one in predictors for name in one.signature.output_fields}
    read = dict.fromkeys(name for one in predictors for name in one.signature.input_fields if name not in written)
    columns = set(rows[0].keys()) if rows else set()
    return tuple(name for name in read if name in columns)


def _example(row: Any, inputs: Sequence[str], index: int) -> Any:
    if isinstance(row, dspy.Example) and row._input_keys is not None:  # noqa: SLF001 - `inputs()` raises where it is None
        return row
    values = dict(row.items()) if isinstance(row, Mapping | dspy.Example) else None
    if values is None:
        raise DataError(f"row {index} is a {type(row).__name__}", hint="give dicts or dspy.Examples")
    lacking = [name for name in inputs if name not in values]
    if lacking or not inputs:
        wanted = lacking[0] if lacking else "an input of the program"
        hint = f"the program reads: {', '.join(inputs)}" if inputs else "name the input columns with inputs=(…)"
        raise DataError(f"row {index} lacks {wanted!r}; it has: {', '.join(values)}", hint=hint)
    return dspy.Example(**values).with_inputs(*inputs)


def _why(error: BaseException) -> str:
    if isinstance(error, DSPexError):
        return str(error)
    if isinstance(error, ImportError):
        return str(OptimizerError(str(error), hint="install the package it names"))
    return f"{type(error).__name__}: {error}"
