"""What a compile does, as events: each scoring of a candidate is a trial; stop and pause act at every LM call and score."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspy.utils.callback import BaseCallback
from dspy.utils.callback_context import ACTIVE_CALL_ID

from dspex_nb.bridge.candidates import bounded, canonical, state_of, summary, without_lm
from dspex_nb.bridge.lm import Stopped
from dspex_nb.bridge.numbering import Numbering
from dspex_nb.events import Progress, RowScored, TrialEnded, TrialStarted
from dspex_nb.scopes import Scope

_PROGRESS_EVERY_S = 0.1
_STAMP = "_dspex_trial"


class LMFailed(BaseException):
    """No LM call succeeds any more: going on would score every candidate 0. `cause` is the first of the errors in a row."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(slots=True)
class Trial:
    """One candidate being scored."""

    number: int
    kind: str
    total: int
    state: dict[str, Any]
    key: str
    began: float = field(default_factory=time.perf_counter)
    errors: int = 0
    first_error: str = ""
    seen: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call belongs: its trial, and the example there if it serves one."""

    trial: Trial
    index: int | None = None
    began: float = 0.0


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
        trainset: The other examples, which are numbered after those of the validation set.
        metric_name: Under which the scores of examples are told.
        model: The study's own model, which is left out of states.
        hopeless_after: LM errors in a row, none succeeding between them, after which the study is given up.
    """

    def __init__(
        self,
        scope: Scope,
        valset: Sequence[Any],
        start: Mapping[str, Any],
        on_best: Callable[[Best], None] = lambda _: None,
        *,
        trainset: Sequence[Any] = (),
        metric_name: str = "score",
        model: str = "",
        hopeless_after: int = 40,
    ) -> None:
        self.scope, self.best, self.valset = scope, Best(start), list(valset)
        self.start_score: float | None = None
        self.scored_states: set[str] = set()
        self.trials = 0
        self.first_lm_error: BaseException | None = None
        self.parent_hint: Callable[[Mapping[str, Any]], int | None] = lambda _: None
        self.chosen: Callable[[], Mapping[str, Any]] = dict
        self._start_state, self._start, self._on_best = start, canonical(start), on_best
        self._metric_name, self._model = metric_name, model
        self._numbering = Numbering(self.valset, trainset)
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._first: dict[str, Trial] = {}
        self._params: dict[str, Mapping[str, Any]] = {}
        self._began = threading.local()
        self._start_trial: int | None = None
        self._best_any: float | None = None
        self._told = 0.0
        self._halted = False
        self._hopeless_after, self._lm_errors = hopeless_after, 0
        scope.cancel.on_cancel(self._gate.set)  # a paused study that is stopped must wake to hear it

    def pause(self) -> None:
        """Hold every LM call and score before it begins."""
        self._gate.clear()

    def resume(self) -> None:
        """Let them go on."""
        self._gate.set()

    def halt(self) -> None:
        """End the study at its next LM call or score; unlike a stop, calls in flight finish."""
        self._halted = True
        self._gate.set()

    def checkpoint(self) -> None:
        """Wait while paused; raise `Stopped` once stopped, `LMFailed` once no LM call succeeds any more."""
        self._gate.wait()
        if self.scope.cancel.cancelled or self._halted:
            raise Stopped("the study was stopped")
        if self._lm_errors >= self._hopeless_after and self.first_lm_error is not None:
            raise LMFailed(self.first_lm_error)

    def place(self) -> Place | None:
        """Return where the active call belongs, None outside every trial (bootstrapping, proposing)."""
        return self._places.get(ACTIVE_CALL_ID.get() or "")

    def here(self, scope: Scope) -> Scope:
        """Return the scope of a call made now."""
        place = self.place()
        return scope if place is None else replace(scope, trial=place.trial.number, index=place.index)

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
        """Keep the first error of a row: DSPy counts errors and forgets why."""
        self._places.pop(call_id, None)
        if exception is None:
            self.lm_answered()
        elif isinstance(exception, Exception):
            self.lm_failed(exception)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember which trial and example it serves."""
        place = self.place()
        if place is None:
            return
        if place.index is None:  # the program itself, called for one example
            self._began.at = time.perf_counter()
            place = Place(place.trial, self._numbering.of_inputs(inputs.get("kwargs") or {}), self._began.at)
        self._places[call_id] = place

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Record an example that the program failed on: no metric will be asked about it."""
        place = self._places.pop(call_id, None)
        if place is None or not isinstance(exception, Exception):
            return
        outer = self.place()
        if outer is not None and outer.index is None:
            self.scored(outer.trial, -1 if place.index is None else place.index, None, _text(exception))

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember which trial it serves."""
        self._inherit(call_id)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Forget it."""
        self._places.pop(call_id, None)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a trial."""
        devset = inputs.get("devset") or instance.devset or []
        told = inputs.get("callback_metadata") or {}
        if told.get("metric_key") == "eval_full" and not self.scored_states:
            self._narrow(devset)
        self._places[call_id] = Place(self.begin(inputs["program"], devset, told.get("dspex_kind")))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End a trial; one broken off by a stop has no score and no end."""
        place = self._places.pop(call_id, None)
        if place is None:
            return
        if outputs is None:
            if isinstance(exception, Exception):
                self.fail(place.trial, _text(exception))
            return
        for example, _, score in outputs.results:  # those that never came to the metric
            if self.index_of(example) not in place.trial.seen:
                self.scored(place.trial, self.index_of(example), _number(score), None)
        self.end(place.trial, float(outputs.score) / 100)  # DSPy reports per cent

    # --- what the LM tells

    def lm_answered(self) -> None:
        """End a row of errors."""
        if self._lm_errors:
            self._lm_errors, self.first_lm_error = 0, None

    def lm_failed(self, error: Exception) -> None:
        """Count an error of a row, and keep the first."""
        self._lm_errors += 1
        self.first_lm_error = self.first_lm_error or error

    # --- trials

    def begin(self, program: Any, devset: Sequence[Any], kind: str | None = None) -> Trial:
        """Begin a trial of a program on some examples, and tell it."""
        state = without_lm(state_of(program), self._model)
        key = canonical(state)
        whole = self._whole(devset)
        with self._lock:
            number = self.trials
            self.trials += 1
            earlier = self._first.get(key)
            kind = kind or ("full" if earlier is not None and earlier.kind == "minibatch" else "candidate")
            trial = Trial(number, self._kind(kind, key, whole=whole), len(devset), state, key)
            parent = self._parent(program, trial, earlier)
            known = self._params.get(key, {})
            params = self._params[key] = known if trial.kind == "full" else dict(self.chosen()) or known
            self._first.setdefault(key, trial)
            if key == self._start and self._start_trial is None:
                self._start_trial = number
        with contextlib.suppress(Exception):  # a program with slots of its own
            setattr(program, _STAMP, (number, id(program)))
        info: dict[str, Any] = {"kind": trial.kind, "examples": len(devset), "parent": parent}
        info |= {**summary(state, self._start_state), "params": dict(params)}
        self.scope.publish(TrialStarted(run_id=self.scope.run_id, trial=number, info=info))
        return trial

    def end(self, trial: Trial, score: float) -> None:
        """End a trial with its score in 0 to 1."""
        with self._lock:
            self._take(trial, score)
            best = self.best.score if self.best.score is not None else self._best_any
        self._publish_end(trial, score, best, {"state": bounded(trial.state)})

    def fail(self, trial: Trial, error: str) -> None:
        """End a trial that could not be scored."""
        best = self.best.score if self.best.score is not None else self._best_any
        self._publish_end(trial, None, best, {"error": error})

    def scored(self, trial: Trial | None, index: int, score: float | None, error: str | None) -> None:
        """Count and tell one scored example."""
        if trial is None:
            if error is not None:
                self.scope.publish(RowScored(run_id=self.scope.run_id, index=index, scores={}, error=error))
            return
        began = getattr(self._began, "at", None)
        elapsed_s = 0.0 if began is None else time.perf_counter() - began
        with self._lock:
            if index < 0:  # not of our sets; still a row of its own
                index = -1 - len(trial.seen)
            if error is not None and index not in trial.seen:
                trial.errors += 1
                trial.first_error = trial.first_error or error
            trial.seen.add(index)
        scores = {} if score is None else {self._metric_name: score}
        self.scope.publish(
            RowScored(run_id=self.scope.run_id, trial=trial.number, index=index, scores=scores, error=error, elapsed_s=elapsed_s)
        )
        self._tell(trial)

    def index_of(self, example: Any) -> int:
        """Return an example's number, -1 if it is of neither set."""
        return self._numbering.of(example)

    @contextlib.contextmanager
    def inside(self, trial: Trial) -> Iterator[None]:
        """Let the calls of this thread belong to a trial that no `dspy.Evaluate` runs."""
        call_id = f"trial-{trial.number}"
        self._places[call_id] = Place(trial)
        token = ACTIVE_CALL_ID.set(call_id)
        try:
            yield
        finally:
            ACTIVE_CALL_ID.reset(token)

    def trial_of_state(self, instructions: Mapping[str, str]) -> int | None:
        """Return the first trial of a program with these instructions by predictor."""
        for trial in list(self._first.values()):
            told = {name: one["instructions"] for name, one in summary(trial.state)["predictors"].items()}
            if told == dict(instructions) or (len(told) == 1 and list(told.values()) == list(instructions.values())):
                return trial.number
        return None

    def _publish_end(self, trial: Trial, score: float | None, best: float | None, more: Mapping[str, Any]) -> None:
        info: dict[str, Any] = {"kind": trial.kind, "examples": trial.total, **summary(trial.state, self._start_state), **more}
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
                status="failed" if score is None else "done",
                info=info,
            )
        )

    def _kind(self, kind: str, key: str, *, whole: bool) -> str:
        if not whole:
            return "minibatch"
        return "start" if key == self._start and kind != "result" else kind

    def _parent(self, program: Any, trial: Trial, earlier: Trial | None) -> int | None:
        """Return the trial that a candidate was made from: the same program on other examples, a copy's original, the start."""
        if earlier is not None:
            return earlier.number
        if trial.key == self._start:
            return None
        hinted = self.parent_hint(trial.state)
        if hinted is not None:
            return hinted
        stamp = vars(program).get(_STAMP) if hasattr(program, "__dict__") else None
        if stamp is not None and stamp[1] != id(program):  # a copy of a scored program; one changed in place says nothing
            return int(stamp[0])
        return self._start_trial

    def _take(self, trial: Trial, score: float) -> None:
        """Compare a scored candidate with the best."""
        self._best_any = score if self._best_any is None else max(self._best_any, score)
        if trial.kind == "minibatch":
            return
        self.scored_states.add(trial.key)
        if trial.key == self._start and self.start_score is None:
            self.start_score = score
        if self.best.score is None or score > self.best.score:  # on a tie the earlier stays, which is the simpler one
            self.best = Best(trial.state, score, trial.number)
            with contextlib.suppress(OSError):  # a full disk must not fail a paid study; the trial's event holds the state too
                self._on_best(self.best)

    def _tell(self, trial: Trial, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._told >= _PROGRESS_EVERY_S:
            self._told = now
            done = trial.total if last else min(len(trial.seen), trial.total)
            self.scope.publish(Progress(run_id=self.scope.run_id, done=done, total=trial.total, errors=trial.errors))

    def _inherit(self, call_id: str) -> None:
        place = self.place()
        if place is not None:
            self._places[call_id] = place

    def _narrow(self, devset: Sequence[Any]) -> None:
        """Take a part of the validation set as the whole: MIPROv2 draws one at the beginning and scores on nothing else."""
        if len(devset) < len(self.valset) and {id(e) for e in devset} <= {id(e) for e in self.valset}:
            self.valset = list(devset)

    def _whole(self, devset: Sequence[Any]) -> bool:
        return len(devset) == len(self.valset) and {id(e) for e in devset} == {id(e) for e in self.valset}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _number(score: Any) -> float | None:
    try:
        return float(score)
    except (TypeError, ValueError):
        return None
