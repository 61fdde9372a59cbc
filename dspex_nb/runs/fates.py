"""What becomes of each step of a run: started, done, failed, skipped; kept as results and published as events."""

from __future__ import annotations

import inspect
import time
from collections.abc import Container
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

from msgspec import Struct, field

from dspex_nb.errors import Cancelled, StepError
from dspex_nb.events import StepEnded, StepStarted
from dspex_nb.messages import Usage
from dspex_nb.pipelines.records import FieldRef, Step
from dspex_nb.runs.outcomes import KEPT_TIER, NOTHING, STEP_TIER, StepResult, Written, total
from dspex_nb.runs.performing import perform
from dspex_nb.runs.surroundings import Blank, Surroundings, values_of
from dspex_nb.runs.wording import explain, inputs_text, secrets_in
from dspex_nb.scopes import Scope

_FOUND = frozenset({STEP_TIER, KEPT_TIER})


class Fates(Struct):
    """The fates of one run's steps. A child on a thread only adds its own, which is one dictionary item: no lock is needed.

    Attributes:
        names: The steps of the graph, whose fates go into `top`; those of children and fallbacks go into `inner`.
        prefix: `"outer/"` for an inner pipeline.
        pipeline: The name of an inner pipeline, whose cell is another than the one that runs.
        started: When the run began, on the clock of `time.perf_counter`.
        quiet: Publish nothing: a row's steps are no events of their own, its LM calls and the map's progress are.
        blanks: Whether a step was skipped or failed: as long as none was, none can lack what it reads.
        charged: Whether a step told of tokens, calls or cost: as long as none did, there is nothing to sum.
    """

    names: Container[str]
    scope: Scope
    prefix: str
    pipeline: str = ""
    quiet: bool = False
    started: float = field(default_factory=time.perf_counter)
    top: dict[str, StepResult] = field(default_factory=dict)
    inner: dict[str, StepResult] = field(default_factory=dict)
    blanks: bool = False
    charged: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.started

    def total(self) -> tuple[Usage, float | None, str | None]:
        """Return the run's tokens and calls, its cost, and the cache's tier that served all of it, if one did.

        What no step's result tells of, failed attempts and what functions asked of a model, is in the ledger.
        """
        usage, cost, cached = total(self.top) if self.charged else (NOTHING, 0.0, None)
        ledger = None if self.prefix else self.scope.ledger  # an inner pipeline's run has the outer one's
        if ledger is None or ledger.calls + ledger.cache_hits <= usage.calls + usage.cache_hits:
            return usage, cost, cached
        counted = replace(
            usage,
            prompt_tokens=ledger.prompt_tokens,
            completion_tokens=ledger.completion_tokens,
            calls=ledger.calls,
            cache_hits=ledger.cache_hits,
        )
        return counted, None if ledger.unknown else ledger.cost, None if ledger.calls else cached

    def begin(self, step: Step, around: Surroundings) -> float:
        """Say that a step starts; returns the time."""
        if not self.quiet:
            route, scope = around.routes[step.name], self.scope
            scope.bus.publish(StepStarted(run_id=scope.run_id, step=route.step, engine=route.engine, reason=route.reason))
        return time.perf_counter()

    def end(self, step: Step, status: str, elapsed_s: float, error: str | None = None, note: str = "") -> None:
        """Say that a step is over."""
        if self.quiet:
            return
        name, scope = self.prefix + step.name, self.scope
        scope.bus.publish(StepEnded(run_id=scope.run_id, step=name, status=status, elapsed_s=elapsed_s, error=error, note=note))

    def done(
        self, step: Step, written: Written, started: float, around: Surroundings, ended: float | None = None
    ) -> dict[str, Any]:
        """Keep a success; returns the step's fields. `ended` is when it was over, if that is not now."""
        elapsed_s = (ended or time.perf_counter()) - started
        status = "done" if written.cached is None or written.cached not in _FOUND else "cached"
        route, began_s = around.routes[step.name], started - self.started
        if written.usage is not NOTHING or written.cost != 0.0:
            self.charged = True
        self._keep(step, StepResult(
            status, elapsed_s, None, written.usage, written.cost, written.cached, route, began_s, written.attempts, written.note
        ))  # fmt: skip
        self.end(step, status, elapsed_s, None, written.note)
        return written.fields

    def skipped(self, step: Step, around: Surroundings) -> dict[str, Any] | None:
        """Skip a step that cannot or should not run and return its blank fields; None if it should run.

        Raises:
            StepError: Its `when=` failed.
        """
        if not self.blanks and step.when is None:
            return None
        reason = _unmet(step, around) or self._condition(step, around)
        if reason is None:
            return None
        self._keep(step, StepResult("skipped", error=reason, route=around.routes[step.name], started_s=self.elapsed_s))
        self.end(step, "skipped", 0.0, reason)
        return self._blank(step)

    def failed(
        self, step: Step, error: Exception, started: float, around: Surroundings, ended: float | None = None
    ) -> dict[str, Any]:
        """Do what the step says of errors: go on with blank fields or its fallback's, which are returned, or stop the run.

        Raises:
            StepError: The step says nothing of errors.
            Cancelled: It was stopped.
        """
        elapsed_s = (ended or time.perf_counter()) - started
        if isinstance(error, Cancelled | CancelledError):
            self.end(step, "cancelled", elapsed_s)
            raise Cancelled("stopped") from error
        message, hint = explain(error, retried=step.retry > 0, secrets=secrets_in(values_of(step, around.results)))
        self.end(step, "failed", elapsed_s, message)
        self._keep(
            step, StepResult("failed", elapsed_s, message, route=around.routes[step.name], started_s=started - self.started)
        )
        if step.on_error == "skip":
            return self._blank(step)
        if isinstance(step.on_error, Step) and not self._is_of(step.on_error, error):
            return self.child(step.on_error, around, self.scope).fields
        if isinstance(error, StepError):  # of an inner pipeline: it names the inner step already
            raise error
        raise self._step_error(step, f"{message}{told_inputs(step, around)}", hint, error) from error

    def child(self, step: Step, around: Surroundings, scope: Scope) -> Written:
        """Run a child of `parallel` or a fallback, in this thread, with its own fate."""
        blank = self.skipped(step, around)
        if blank is not None:
            return Written(blank)
        started = self.begin(step, around)
        try:
            written = perform(step, around, scope.at_step(self.prefix + step.name))
        except Exception as error:  # noqa: BLE001 - a step's error is sorted out in one place
            return Written(self.failed(step, error, started, around))
        self.done(step, written, started, around)
        return written

    def _is_of(self, step: Step, error: Exception) -> bool:
        """Say whether an error is that of a step: a fallback that already failed for an item of a list is not run again."""
        return isinstance(error, StepError) and error.step == self.prefix + step.name

    def _blank(self, step: Step) -> Blank:
        self.blanks = True
        return Blank(dict.fromkeys((*step.writes, *step.hidden)))

    def _keep(self, step: Step, fate: StepResult) -> None:
        (self.top if step.name in self.names else self.inner)[self.prefix + step.name] = fate

    def _condition(self, step: Step, around: Surroundings) -> str | None:
        if step.when is None:
            return None
        try:
            holds = step.when.holds(around.results)
        except Exception as error:
            absent = [ref for ref in step.when.bindings.values() if isinstance(around.results.get(ref.step or ""), Blank)]
            if absent:  # it is as if the step itself needed them
                return f"its when= needs {absent[0]}, but step {absent[0].step!r} gave none"
            told = f"its when= failed: {explain(error)[0]}"
            if step.on_error == "skip":
                return told
            raise self._step_error(step, told, "mend the condition, or give the step on_error='skip'", error) from error
        return None if holds else f"when={step.when.text or '…'} did not hold"

    def _step_error(self, step: Step, message: str, hint: str, cause: Exception) -> StepError:
        name = self.prefix + step.name
        cell = f" of {self.pipeline!r}" if self.pipeline else ""
        where = f" (cell line {step.line}{cell})" if step.line else ""
        return StepError(f"step {name!r}{where}: {message}", hint=hint, step=name, line=step.line, cause=cause)


def _unmet(step: Step, around: Surroundings) -> str | None:
    """Return why a step cannot run: a step it needs a field of was skipped or failed."""
    for name, value in step.bindings.items():
        blank = isinstance(value, FieldRef) and value.step and isinstance(around.results.get(value.step), Blank)
        if blank and not _has_default(step, name):
            return f"needs {value}, but step {value.step!r} gave none"
    return None


def _has_default(step: Step, name: str) -> bool:
    """Say whether a step can do without a parameter, as what joins two branches can, of which one was skipped."""
    if step.signature is not None:
        return name in step.signature.inputs and not step.signature.inputs[name].required
    if step.kind == "pipeline":
        spec = getattr(step.callable, "spec", step.callable)
        return any(one.name == name and not one.required for one in spec.inputs)
    if step.kind not in ("function", "reduce") or name in step.positional:
        return False
    try:
        known = inspect.signature(step.callable).parameters
    except (TypeError, ValueError):  # a builtin that does not say
        return False
    return name in known and known[name].default is not inspect.Parameter.empty


def told_inputs(step: Step, around: Surroundings) -> str:
    """Return what the step was given, shortened and without secrets, as the end of a message."""
    told = inputs_text(values_of(step, around.results))
    return f"; it was given {told}" if told else ""
