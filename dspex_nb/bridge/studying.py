"""One optimizer run from start to end: score the start, compile, score the result, keep the best."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from dspex_nb.bridge.catalog import Optimizer, make_optimizer
from dspex_nb.bridge.lm import BridgeLM, Stopped
from dspex_nb.bridge.plans import StudyPlan
from dspex_nb.bridge.programs import dspy_adapter, program_for
from dspex_nb.bridge.watching import Best, MetricFailed, StudyWatch, WatchedMetric, canonical, state_of
from dspex_nb.errors import DataError, DSPexError, OptimizerError
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
    ) -> None:
        self._plan, self._client, self._scope, self._cache = plan, client, scope, cache
        self._program = program_for(plan.program)
        inputs = plan.inputs or _input_names(self._program, plan.trainset)
        self._train = [_example(row, inputs, index) for index, row in enumerate(plan.trainset)]
        self._val = [_example(row, inputs, index) for index, row in enumerate(plan.valset)] if plan.valset else None
        self._score_on = self._val or self._train
        self.watch = StudyWatch(scope, self._score_on, state_of(self._program), on_best)
        on_best(self.watch.best)

    def run(self) -> StudyOutcome:
        """Run it to its end, a stop or a failure; raises nothing planned."""
        try:
            self._compile()
        except Stopped:
            return self.outcome("stopped")
        except MetricFailed as failure:
            return self.outcome("failed", str(failure.cause))
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
        examples = self._score_on
        metric = WatchedMetric(plan.metric, self.watch, examples) if plan.metric else None
        lm = BridgeLM(self._client, scope=self._scope, cache=self._cache, trial_of=self.watch.trial)
        with dspy.context(
            lm=lm,
            adapter=dspy_adapter(plan.adapter or self._client.default_adapter, lm),
            callbacks=[self.watch],
            disable_history=True,  # DSPy keeps every call for ever otherwise
            num_threads=plan.n_jobs,
        ):
            optimizer = make_optimizer(plan.optimizer, metric, plan.options, seed=plan.seed, lm=lm, n_jobs=plan.n_jobs)
            self._score_and_compile(optimizer, metric)

    def _score_and_compile(self, optimizer: Optimizer, metric: WatchedMetric | None) -> None:
        if not optimizer.facts.scores:
            self._score(self._program, metric, "start")
        result = optimizer.compile(self._program.deepcopy(), self._train, self._val)
        self.watch.checkpoint()
        if canonical(state_of(result)) not in self.watch.scored_states:
            self._score(result, metric, "result")
        if self.watch.start_score is None:
            self._score(self._program, metric, "start")
        if self.watch.best.score is None:  # no metric, no score: what the optimizer made is the best there is
            self.watch.take_unscored(state_of(result))

    def _score(self, program: Any, metric: WatchedMetric | None, kind: str) -> None:
        if metric is not None:
            evaluate = dspy.Evaluate(devset=self._score_on, metric=metric, num_threads=self._plan.n_jobs, display_progress=False)
            evaluate(program, callback_metadata={"dspex_kind": kind})


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
