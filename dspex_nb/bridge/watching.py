"""What a compile does, as events: each evaluation of a candidate is a trial; stop and pause act at every LM call and score."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspy.utils.callback import BaseCallback
from dspy.utils.callback_context import ACTIVE_CALL_ID

from dspex_nb.bridge.lm import Stopped
from dspex_nb.errors import MetricError
from dspex_nb.events import Progress, RowScored, TrialEnded, TrialStarted
from dspex_nb.metrics import resolve_metric
from dspex_nb.scopes import Scope

_STATE_BYTES = 64_000
_ERRORS_SHOWN = 20
_ERRORS_UNTIL_HOPELESS = 10
_PROGRESS_EVERY_S = 0.1


class MetricFailed(BaseException):
    """Every score so far raised: going on would pay for nothing. `cause` is the MetricError to show."""

    def __init__(self, cause: MetricError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(slots=True)
class _Trial:
    number: int
    kind: str
    total: int
    program: Any
    began: float = field(default_factory=time.perf_counter)
    done: int = 0
    errors: int = 0
    first_error: str = ""


@dataclass(frozen=True, slots=True)
class Best:
    """The best program so far; `score` is None until one was scored on the whole validation set."""

    state: Mapping[str, Any]
    score: float | None = None
    trial: int | None = None


class StudyWatch(BaseCallback):  # type: ignore[misc]
    """Turns DSPy's callbacks into our events, and knows the best program so far.

    Args:
        scope: The study's run; its cancel token is the stop.
        valset: The examples a candidate must be scored on to count as a candidate for best.
        start: The state of the program before optimization.
        on_best: Called with each new best, before the trial's end is published.
    """

    def __init__(
        self, scope: Scope, valset: Sequence[Any], start: Mapping[str, Any], on_best: Callable[[Best], None] = lambda _: None
    ) -> None:
        self.scope, self.best = scope, Best(start)
        self.start_score: float | None = None
        self.scored_states: set[str] = set()
        self.trials = 0
        self.first_lm_error: BaseException | None = None
        self._valset, self._start, self._on_best = list(valset), canonical(start), on_best
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()
        self._trial_of: dict[str, _Trial] = {}
        self._best_any = 0.0
        self._told = 0.0
        scope.cancel.on_cancel(self._gate.set)  # a paused study that is stopped must wake to hear it

    def pause(self) -> None:
        """Hold every LM call and score before it begins."""
        self._gate.clear()

    def resume(self) -> None:
        """Let them go on."""
        self._gate.set()

    def checkpoint(self) -> None:
        """Wait while paused; raise `Stopped` once stopped."""
        self._gate.wait()
        if self.scope.cancel.cancelled:
            raise Stopped("the study was stopped")

    def trial(self) -> int | None:
        """Return the trial the current call serves, None outside every trial (bootstrapping, proposing)."""
        found = self.current()
        return None if found is None else found.number

    def current(self) -> _Trial | None:
        """Return the trial of the active call."""
        return self._trial_of.get(ACTIVE_CALL_ID.get() or "")

    def take_unscored(self, state: dict[str, Any]) -> None:
        """Make a program the best though nothing was scored: there is no metric."""
        self.best = Best(state)
        self._on_best(self.best)

    # --- DSPy's callbacks

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - DSPy's signature
        """Stop and pause act here."""
        self._inherit(call_id)
        self.checkpoint()

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Keep the first error: DSPy counts errors and forgets why."""
        self._trial_of.pop(call_id, None)
        if exception is not None and not isinstance(exception, Stopped) and self.first_lm_error is None:
            self.first_lm_error = exception

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember which trial it serves."""
        self._inherit(call_id)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Forget it."""
        self._trial_of.pop(call_id, None)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember which trial it serves."""
        self._inherit(call_id)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Forget it."""
        self._trial_of.pop(call_id, None)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a trial."""
        devset = inputs.get("devset") or instance.devset or []
        kind = (inputs.get("callback_metadata") or {}).get("dspex_kind") or ("candidate" if self._whole(devset) else "minibatch")
        with self._lock:
            trial = _Trial(self.trials, kind, len(devset), inputs["program"])
            self.trials += 1
        self._trial_of[call_id] = trial
        info = {"kind": kind, "examples": len(devset), **_summary(state_of(trial.program))}
        self.scope.publish(TrialStarted(run_id=self.scope.run_id, trial=trial.number, info=info))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """End a trial; one broken off by a stop or an error has no score and no end."""
        trial = self._trial_of.pop(call_id, None)
        if trial is None or outputs is None:
            return
        score = float(outputs.score) / 100  # DSPy reports per cent
        state = state_of(trial.program)
        with self._lock:
            kind = self._take(trial, score, state)
            best = self.best.score if self.best.score is not None else self._best_any
        info: dict[str, Any] = {"kind": kind, "examples": trial.total, **_summary(state), "state": _bounded(state)}
        if trial.errors:
            info |= {"errors": trial.errors, "first_error": trial.first_error}
        self._tell(trial, last=True)
        self.scope.publish(
            TrialEnded(
                run_id=self.scope.run_id,
                trial=trial.number,
                score=score,
                best=best,
                examples=trial.total,
                elapsed_s=time.perf_counter() - trial.began,
                info=info,
            )
        )

    # --- what the metric tells

    def scored(self, trial: _Trial | None, index: int, error: MetricError | None) -> None:
        """Count one scored example."""
        if error is not None and (trial is None or trial.errors < _ERRORS_SHOWN):
            self.scope.publish(RowScored(run_id=self.scope.run_id, index=index, scores={}, error=error.message))
        if trial is None:
            return
        with self._lock:
            trial.done += 1
            trial.errors += error is not None
            trial.first_error = trial.first_error or (error.message if error else "")
        self._tell(trial)

    def _take(self, trial: _Trial, score: float, state: dict[str, Any]) -> str:
        """Compare a scored candidate with the best; returns the trial's kind, `"start"` for the untouched program."""
        self._best_any = max(self._best_any, score)
        if trial.kind == "minibatch":
            return trial.kind
        key = canonical(state)
        self.scored_states.add(key)
        if key == self._start and self.start_score is None:
            self.start_score = score
        if self.best.score is None or score > self.best.score:  # on a tie the earlier stays, which is the simpler one
            self.best = Best(state, score, trial.number)
            with contextlib.suppress(OSError):  # a full disk must not fail a paid study; the trial's event holds the state too
                self._on_best(self.best)
        return "start" if key == self._start else trial.kind

    def _tell(self, trial: _Trial, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._told >= _PROGRESS_EVERY_S:
            self._told = now
            done = trial.total if last else min(trial.done, trial.total)
            self.scope.publish(Progress(run_id=self.scope.run_id, done=done, total=trial.total, errors=trial.errors))

    def _inherit(self, call_id: str) -> None:
        trial = self.current()
        if trial is not None:
            self._trial_of[call_id] = trial

    def _whole(self, devset: Sequence[Any]) -> bool:
        return len(devset) == len(self._valset) and {id(e) for e in devset} == {id(e) for e in self._valset}


class WatchedMetric:
    """The user's metric: counted, stoppable, and its errors named instead of swallowed.

    An error counts as score 0 and is shown with its example. Where every score so far raised, the study is given up.
    """

    def __init__(self, metric: Callable[..., Any], watch: StudyWatch, examples: Sequence[Any]) -> None:
        self.name = getattr(metric, "__name__", type(metric).__name__)
        self.__name__ = self.name  # DSPy titles columns with it
        self._metric, self._watch = resolve_metric(metric), watch
        self._index = {id(example): index for index, example in enumerate(examples)}
        self._lock = threading.Lock()
        self._succeeded = False
        self._failures = 0
        self._enough = max(1, min(_ERRORS_UNTIL_HOPELESS, len(examples)))

    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> Any:
        """Return the score, with its feedback where GEPA asks about one predictor; 0.0 where the metric raises."""
        self._watch.checkpoint()
        trial, index = self._watch.current(), self._index.get(id(example), -1)
        try:
            score = self._metric(example, prediction, trace, pred_name, pred_trace)
        except Exception as error:  # noqa: BLE001 - it is the user's code
            failure = self._failure(error, index)
            self._watch.scored(trial, index, failure)
            self._count(failure)
            return 0.0
        self._succeeded = True
        self._watch.scored(trial, index, None)
        return score

    def _failure(self, error: Exception, index: int) -> MetricError:
        where = f"example {index}" if index >= 0 else "an example"
        text = error.message if isinstance(error, MetricError) else f"{type(error).__name__}: {error}"
        failure = MetricError(
            f"the metric {self.name!r} raised on {where}: {text}",
            hint=f"try it by hand: {self.name}(example, program(**example inputs))",
        )
        failure.__cause__ = error
        return failure

    def _count(self, failure: MetricError) -> None:
        with self._lock:
            self._failures += 1
            hopeless = not self._succeeded and self._failures >= self._enough
        if hopeless:
            raise MetricFailed(failure)


def state_of(program: Any) -> dict[str, Any]:
    """Return DSPy's saved state of a program as plain JSON; an optimizer's wrapper without one gives an empty state."""
    try:
        state: dict[str, Any] = json.loads(json.dumps(program.dump_state(), default=str))
    except Exception:  # noqa: BLE001 - a candidate that cannot be written down can still be scored
        return {}
    return state


def canonical(state: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal states."""
    return json.dumps(state, sort_keys=True, default=str)


def _bounded(state: dict[str, Any]) -> dict[str, Any] | None:
    return state if len(json.dumps(state)) <= _STATE_BYTES else None


def _summary(state: dict[str, Any]) -> dict[str, Any]:
    """Return the number of demos, the instructions, and a short name for what the candidate is."""
    predictors = _predictor_states(state)
    demos = [demo for one in predictors for demo in one.get("demos", [])]
    made = sum(bool(demo.get("augmented")) for demo in demos)
    parts = [f"{made} bootstrapped"] * bool(made) + [f"{len(demos) - made} labelled"] * bool(len(demos) - made)
    return {
        "demos": len(demos),
        "bootstrapped": made,
        "instructions": "\n\n".join(one["signature"]["instructions"] for one in predictors),
        "label": f"{' + '.join(parts)} demos" if parts else "zero-shot",
    }


def _predictor_states(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Find the predictors' states: the state itself for a Predict, its entries for a program."""
    if "signature" in state:
        return [state]
    return [one for one in state.values() if isinstance(one, dict) and isinstance(one.get("signature"), dict)]
