"""What optimizers tell nobody: Optuna's choices, GEPA's parents, and SIMBA's scoring, which calls no `dspy.Evaluate`.

Each is a context in which one function of the optimizer's own module also tells the study. They hold inside a study's own
process, and only while it compiles.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dspex_nb.bridge.candidates import summary
from dspex_nb.bridge.watching import StudyWatch, Trial
from dspex_nb.pools import crew

_PARAMETER = re.compile(r"(\d+)_predictor_(instruction|demos)")


@contextlib.contextmanager
def optuna_told(watch: StudyWatch, seed: int, predictors: Sequence[str]) -> Iterator[None]:
    """Seed Optuna's sampler where the optimizer does not, and tell each trial's parameters."""
    told = _ToldOptuna(watch, seed, predictors)
    modules = [importlib.import_module(f"dspy.teleprompt.{name}") for name in ("mipro_optimizer_v2", "teleprompt_optuna")]
    plain = [module._import_optuna for module in modules]  # noqa: SLF001 - as below
    for module in modules:
        module._import_optuna = lambda: told  # type: ignore[attr-defined]  # noqa: SLF001 - through it they reach the package
    try:
        yield
    finally:
        for module, method in zip(modules, plain, strict=True):
            module._import_optuna = method  # type: ignore[attr-defined]  # noqa: SLF001


class _ToldOptuna:
    """The package optuna but for its studies. It is imported, which takes more than half a second, while the LM is waited for."""

    def __init__(self, watch: StudyWatch, seed: int, predictors: Sequence[str]) -> None:
        self._watch, self._seed, self._predictors = watch, seed, predictors
        self._coming = crew.start(importlib.import_module, "optuna")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coming.result(), name)

    def create_study(self, *args: Any, **options: Any) -> Any:
        """Return a study whose sampler is seeded and whose trials tell what they chose."""
        optuna = self._coming.result()
        options.setdefault("sampler", optuna.samplers.TPESampler(seed=self._seed))
        study = optuna.create_study(*args, **options)
        optimize, watch = study.optimize, self._watch

        def optimize_and_tell(objective: Callable[[Any], float], *rest: Any, **more: Any) -> Any:
            def told(trial: Any) -> float:
                watch.chosen = lambda: {_named(name, self._predictors): value for name, value in trial.params.items()}
                try:
                    return objective(trial)
                finally:
                    watch.chosen = dict

            return optimize(told, *rest, **more)

        study.optimize = optimize_and_tell
        return study


def _named(parameter: str, predictors: Sequence[str]) -> str:
    """Return `triage: instruction` for MIPROv2's `0_predictor_instruction`, `triage: demo` for `demo_index_for_triage`."""
    found = _PARAMETER.fullmatch(parameter)
    if found and int(found[1]) < len(predictors):
        return f"{predictors[int(found[1])]}: {found[2]}"
    if not parameter.startswith("demo_index_for_"):
        return parameter
    name = parameter.removeprefix("demo_index_for_")
    return f"{predictors[0] if name == 'self' and len(predictors) == 1 else name}: demo"


class GEPAWatch:
    """GEPA's callbacks: which candidate each one was made from."""

    def __init__(self, watch: StudyWatch) -> None:
        self._watch = watch
        self._texts: dict[int, Mapping[str, str]] = {}
        self._parents: Sequence[int] = ()
        watch.parent_hint = self._parent

    def on_optimization_start(self, event: Mapping[str, Any]) -> None:
        """Know the first candidate."""
        self._texts[0] = dict(event["seed_candidate"])

    def on_candidate_selected(self, event: Mapping[str, Any]) -> None:
        """Know a candidate by its index, and that it is about to be changed."""
        self._texts[event["candidate_idx"]] = dict(event["candidate"])
        self._parents = (event["candidate_idx"],)

    def on_evaluation_start(self, event: Mapping[str, Any]) -> None:
        """Know the parents of what is scored next."""
        self._parents = tuple(event.get("parent_ids") or ()) or self._parents

    def on_merge_attempted(self, event: Mapping[str, Any]) -> None:
        """Know the parents of a merged candidate."""
        self._parents = tuple(event.get("parent_ids") or ())

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Know a new candidate by its index."""
        self._texts[event["candidate_idx"]] = dict(event["candidate"])

    def _parent(self, state: Mapping[str, Any]) -> int | None:  # noqa: ARG002 - every candidate is of the last parents told
        texts = next((self._texts[index] for index in self._parents if index in self._texts), None)
        return None if texts is None else self._watch.trial_of_state(texts)


@contextlib.contextmanager
def simba_told(watch: StudyWatch, trainset: Sequence[Any]) -> Iterator[None]:
    """Make a trial of each candidate that SIMBA scores; the programs it only samples from run for one example each."""
    from dspy.teleprompt import simba

    plain = simba.wrap_program
    scored = _Scored(watch, trainset)

    def wrap_program(program: Any, metric: Callable[..., Any]) -> Callable[[Any], Any]:
        return scored.wrap(program, plain(program, metric))

    simba.wrap_program = wrap_program
    try:
        yield
    finally:
        simba.wrap_program = plain


class _Batch:
    """One program on the examples it is wrapped for."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.total = 0
        self.scores: list[float] = []
        self.trial: Trial | None = None


class _Scored:
    def __init__(self, watch: StudyWatch, trainset: Sequence[Any]) -> None:
        self._watch, self._trainset = watch, trainset
        self._lock = threading.Lock()
        self._batches: dict[int, _Batch] = {}

    def wrap(self, program: Any, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        batch = self._batches.setdefault(id(program), _Batch(program))
        batch.total += 1
        return lambda example: self._run(batch, run, example)

    def _run(self, batch: _Batch, run: Callable[[Any], Any], example: Any) -> Any:
        if batch.total == 1:  # a sampled trajectory
            self._batches.pop(id(batch.program), None)
            return run(example)
        with self._lock:
            if batch.trial is None:
                whole = batch.total == len(self._trainset)
                batch.trial = self._watch.begin(batch.program, self._trainset if whole else [None] * batch.total)
        with self._watch.inside(batch.trial):
            output = run(example)
        with self._lock:
            batch.scores.append(float(output["score"]))
            done = len(batch.scores) == batch.total
        if done:
            self._batches.pop(id(batch.program), None)
            self._watch.end(batch.trial, sum(batch.scores) / batch.total)
        return output


def predictor_names(state: Mapping[str, Any]) -> list[str]:
    """Return the names of a program's predictors."""
    return list(summary(state)["predictors"])
