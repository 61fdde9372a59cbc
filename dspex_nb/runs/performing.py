"""One step, performed: its bindings read, its engine called, its fields written; retries, `over=` and time limits."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import Cancelled, DSPexError, LMError, MissingInputError, PipelineError, PlanError, TaskTimeoutError
from dspex_nb.messages import Usage
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.pipelines.records import FieldRef, Step
from dspex_nb.pools import Task, crew
from dspex_nb.predictions import Prediction, Route
from dspex_nb.routing import Plan
from dspex_nb.runs.outcomes import StepResult
from dspex_nb.scopes import CancelToken, Scope

Results = Mapping[str, Mapping[str, Any]]
_AT_ONCE = 8
_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every step of one run shares.

    Attributes:
        prefix: `"outer/"` inside a nested pipeline.
        threads: False where rows of a map already fill the threads: then steps run one after the other.
        results: What each step wrote so far; `""` holds the inputs.
        inner: Fates of children and inner steps, by full name.
    """

    plan: Plan
    session: Session
    scope: Scope
    prefix: str
    threads: bool
    results: dict[str, dict[str, Any]]
    inner: dict[str, StepResult]
    run_pipeline: Callable[..., Any]
    run_child: Callable[..., Any]

    def route(self, step: Step) -> Route:
        """Return the step's route in the plan."""
        routes: dict[str, Route] | None = self.plan.compiled.get("routes")
        if routes is None:
            routes = self.plan.compiled["routes"] = {route.step: route for route in self.plan.routes}
        return routes[self.prefix + step.name]


@dataclass(frozen=True, slots=True)
class Written:
    """What a step wrote, and what it took."""

    fields: dict[str, Any]
    usage: Usage = _NOTHING
    cost: float | None = 0.0
    cached: str | None = None
    attempts: int = 1


def perform(step: Step, around: Surroundings, scope: Scope) -> Written:
    """Run a step with its retries.

    Raises:
        Exception: Whatever its last attempt raised.
        Cancelled: The run was stopped.
    """
    if not step.retry:
        return _limited(step, around, scope, 0)
    for attempt in range(step.retry):
        try:
            written = _limited(step, around, scope, attempt)
            return replace(written, attempts=attempt + 1)
        except Exception as error:
            if not _worth_another(error):
                raise
            scope.cancel.check()
    return replace(_limited(step, around, scope, step.retry), attempts=step.retry + 1)


def _worth_another(error: Exception) -> bool:
    """Whether the same call may succeed: not where it was stopped, refused, or called with the wrong things."""
    if isinstance(error, Cancelled | PlanError | MissingInputError):
        return False
    return error.retryable if isinstance(error, LMError) else True


def _limited(step: Step, around: Surroundings, scope: Scope, attempt: int) -> Written:
    """Make one attempt, broken off after `timeout_s`."""
    if step.timeout_s is None or _in_pool(step):
        return _attempt(step, around, scope, attempt)
    token = CancelToken()  # its own, so that a time limit closes this step's sockets and no other's
    forget = scope.cancel.on_cancel(token.cancel)
    future = crew.start(_attempt, step, around, replace(scope, cancel=token), attempt)
    wake = threading.Event()
    future.add_done_callback(lambda _: wake.set())
    forget_wake = scope.cancel.on_cancel(wake.set)
    try:
        wake.wait(step.timeout_s)
        if future.done():
            written: Written = future.result()
            return written
        scope.cancel.check()
        raise TaskTimeoutError(
            f"not done after {step.timeout_s:g} s; its thread was abandoned, its result will be discarded",
            hint="raise timeout_s, or give the step on_error='skip'",
        )
    finally:
        forget()
        forget_wake()
        if not future.done():
            token.cancel()
            future.cancel()


def _in_pool(step: Step) -> bool:
    return step.pool is not None and step.kind == "function"


def _attempt(step: Step, around: Surroundings, scope: Scope, attempt: int) -> Written:
    if not step.over:
        return _once(step, around, scope, attempt, values_of(step, around.results))
    values = values_of(step, around.results)
    lists = {name: _listed(step, name, values[name]) for name in step.over}
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise PipelineError(f"over= goes through lists of different lengths: {lengths}", hint="give lists of one length")
    rows = [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
    with _grouped(scope) as group:
        calls = [partial(_once, step, around, group, attempt, {**values, **row}) for row in rows]
        return _gathered(step, _several(step, around, group, calls))


@contextlib.contextmanager
def _grouped(scope: Scope) -> Iterator[Scope]:
    """Lend a scope to calls that are made together: if one fails, cancelling it stops the others and nothing else."""
    token = CancelToken()
    forget = scope.cancel.on_cancel(token.cancel)
    try:
        yield replace(scope, cancel=token)
    finally:
        forget()


def _several(step: Step, around: Surroundings, scope: Scope, calls: Sequence[Callable[[], Written]]) -> list[Written]:
    """Make the calls: waiting ones a few at once, Python functions one after the other."""
    width = min(len(calls), _width(around.session)) if around.threads and (step.kind != "function" or _in_pool(step)) else 1
    if width <= 1:
        return [_checked(scope, call) for call in calls]
    lanes = [calls[start::width] for start in range(width)]
    done = crew.at_once([partial(_in_turn, scope, lane) for lane in lanes], scope.cancel.cancel)
    return [done[index % width][index // width] for index in range(len(calls))]


def _in_turn(scope: Scope, calls: Sequence[Callable[[], Written]]) -> list[Written]:
    return [_checked(scope, call) for call in calls]


def _checked(scope: Scope, call: Callable[[], Written]) -> Written:
    scope.cancel.check()
    return call()


def _width(session: Session) -> int:
    return int(getattr(session.lm, "max_concurrency", None) or _AT_ONCE)


def _listed(step: Step, name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise PipelineError(
            f"over={name}: expected a list, found {type(value).__name__}", hint=f"let the step before {step.name!r} give a list"
        )
    return list(value)


def _gathered(step: Step, parts: Sequence[Written]) -> Written:
    names = (*step.writes, *(name for name in step.hidden if any(name in part.fields for part in parts)))
    fields = {name: [part.fields.get(name) for part in parts] for name in names}
    usage = sum((part.usage for part in parts), Usage())
    cost = None if any(part.cost is None for part in parts) else sum(part.cost or 0.0 for part in parts)
    cached = parts[0].cached if parts and all(part.cached for part in parts) else None
    return Written(fields, usage, cost, cached)


def values_of(step: Step, results: Results) -> dict[str, Any]:
    """Return the value of each parameter that is given one."""
    return {name: value.read(results) if isinstance(value, FieldRef) else value for name, value in step.bindings.items()}


def _once(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    kind = step.kind
    if kind == "function":
        return Written(spread(step, _function(step, around, values)))
    if kind in ("predict", "chain_of_thought"):
        return _program(step, around, scope, attempt, values)
    if kind == "template":
        return Written(spread(step, step.callable.render(values)))
    if kind == "parallel":
        return _parallel(step, around, scope)
    if kind == "pipeline":
        return _nested(step, around, scope, values)
    return _module(step, around, scope, attempt, values)


def _function(step: Step, around: Surroundings, values: dict[str, Any]) -> Any:
    args = [values.pop(name) for name in step.positional if name in values] if step.positional else ()
    if step.pool is not None:
        pool = around.session.pools.get(step.pool) if isinstance(step.pool, str) else step.pool
        future = pool.run(Task(step.callable, tuple(args), values, timeout_s=step.timeout_s))
        forget = around.scope.cancel.on_cancel(future.cancel)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            around.scope.cancel.check()
            raise
        finally:
            forget()
    value = step.callable(*args, **values)
    return _awaited(value) if inspect.iscoroutine(value) else value


def _awaited(value: Any) -> Any:
    # In a thread of its own: the kernel's main thread already runs a loop, and loops do not nest.
    return crew.start(asyncio.run, value).result()


def _program(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    programs: dict[str, Predict] = around.plan.compiled.setdefault("programs", {})
    program = programs.get(around.prefix + step.name)
    options = {name: value for name, value in step.options.items() if name != "demos"}
    if step.ttl_s is not None:
        options.setdefault("ttl_s", step.ttl_s)
    if program is None:
        program = programs[around.prefix + step.name] = _native_program(step)
    if attempt:
        # The same request would be answered from the cache with what failed before.
        options["rollout_id"] = (options.get("rollout_id") or 0) + attempt
    prediction: Prediction = program.call(
        values,
        session=around.session,
        scope=scope,
        route=around.route(step),
        adapter=step.adapter,
        cache=step.cache is not False,
        **options,
    )
    fields = spread_outputs(step, prediction)
    return Written(fields, prediction.usage, prediction.cost, prediction.cached)


def _native_program(step: Step) -> Predict:
    if isinstance(step.callable, Predict):
        return step.callable
    if step.signature is None:
        raise PlanError(f"step {step.name!r} has no signature", hint=f"write {step.kind}('question -> answer')")
    program = (ChainOfThought if step.kind == "chain_of_thought" else Predict)(step.signature)
    program.demos = [dict(demo) for demo in step.options.get("demos") or ()]
    return program


def _module(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    from dspex_nb.bridge import run_module  # loads dspy

    options = dict(step.options)
    if step.ttl_s is not None:
        options.setdefault("ttl_s", step.ttl_s)
    if attempt:
        options["rollout_id"] = (options.get("rollout_id") or 0) + attempt
    session = around.session
    done = run_module(
        step.callable if step.callable is not None else step.kind,
        step.signature,
        values,
        client=session.require_lm(),
        adapter=step.adapter or session.adapter,
        cache=None if step.cache is False else session.cache,
        scope=scope,
        options=options,
    )
    return Written(spread_outputs(step, done.outputs), done.usage, done.cost, done.cached)


def _parallel(step: Step, around: Surroundings, scope: Scope) -> Written:
    children = step.children
    with _grouped(scope) as group:
        calls = [partial(around.run_child, child, around, group) for child in children]
        at_once = around.threads and len(calls) > 1
        parts: list[Written] = crew.at_once(calls, group.cancel.cancel) if at_once else [_checked(scope, call) for call in calls]
    value: Any = {
        child.label: part.fields.get(child.writes[0])
        if len(child.writes) == 1
        else {name: part.fields.get(name) for name in child.writes}
        for child, part in zip(children, parts, strict=True)
    }
    merge = step.options.get("merge")
    if callable(merge):
        value = merge(value)
    taken = _gathered(replace(step, writes=(), hidden=()), [part for part in parts if part.usage != _NOTHING])
    return Written(spread(step, value), taken.usage, taken.cost, taken.cached)


def _nested(step: Step, around: Surroundings, scope: Scope, values: dict[str, Any]) -> Written:
    spec = getattr(step.callable, "spec", step.callable)
    prefix = f"{around.prefix}{step.name}/"
    done = around.run_pipeline(
        spec, around.plan, values, session=around.session, scope=scope, prefix=prefix, threads=around.threads
    )
    around.inner.update(done.step_results)
    wanted = {**done.fields, **done.outputs}
    fields = {name: wanted[name] for name in step.writes if name in wanted}
    if not fields and len(step.writes) == 1:
        fields = {step.writes[0]: dict(done.outputs)}
    return Written(fields, done.usage, done.cost, done.cached)


def spread(step: Step, value: Any) -> dict[str, Any]:
    """Return the fields of a plain value: itself where the step writes one, else a mapping's or a tuple's parts."""
    writes = step.writes
    if len(writes) == 1:
        return {writes[0]: value}
    if isinstance(value, Mapping):
        missing = [name for name in writes if name not in value]
        if not missing:
            return {name: value[name] for name in writes}
        raise PipelineError(
            f"returned no {missing[0]!r}; it returned {', '.join(map(str, value))}", hint=f"return {', '.join(writes)}"
        )
    if isinstance(value, tuple | list) and len(value) == len(writes):
        return dict(zip(writes, value, strict=True))
    raise PipelineError(
        f"returned a {type(value).__name__}, which is not the {len(writes)} fields it writes",
        hint=f"return a dict with {', '.join(writes)}, or a tuple in that order",
    )


def spread_outputs(step: Step, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a module's outputs; hidden ones where it has them."""
    fields = {name: outputs[name] for name in step.writes if name in outputs}
    if not fields and len(step.writes) == 1:  # a module that does not say what it gives: one field, named after the step
        visible = {name: value for name, value in outputs.items() if name not in step.hidden}
        fields = {step.writes[0]: next(iter(visible.values())) if len(visible) == 1 else dict(visible)}
    missing = [name for name in step.writes if name not in fields]
    if missing:
        raise PipelineError(
            f"gave no {missing[0]!r}; it gave {', '.join(outputs)}", hint="name the outputs it gives in the step's signature"
        )
    return fields | {name: outputs[name] for name in step.hidden if name in outputs}


def explain(error: BaseException) -> tuple[str, str]:
    """Return an error's message and next act; for a user's own error, with the line of code it came from."""
    if isinstance(error, DSPexError):
        return error.message, error.hint
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = _last_line(error)
    return f"{text}{place}", "mend the step, or give it retry=1, on_error='skip' or a fallback step"


def _last_line(error: BaseException) -> str:
    import linecache

    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    source = linecache.getline(code.co_filename, trace.tb_lineno).strip()
    return f" (in {code.co_name}, line {trace.tb_lineno}{f': {source}' if source else ''})"
