"""One step, performed: its bindings read, its engine called, its fields written; retries, `over=` and time limits."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import (
    AdapterParseError,
    Cancelled,
    DSPexError,
    LMError,
    MissingInputError,
    PipelineError,
    PlanError,
    TaskTimeoutError,
)
from dspex_nb.messages import Request, Usage
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.pipelines.options import ADVANCED
from dspex_nb.pipelines.records import FieldRef, Step
from dspex_nb.pools import crew
from dspex_nb.predictions import Route
from dspex_nb.routing import Plan
from dspex_nb.routing.capabilities import advanced, votes
from dspex_nb.runs.calling import call_function, is_async
from dspex_nb.runs.chains import CHAINS, TEMPERATURE, vote, voting_program
from dspex_nb.runs.outcomes import StepResult, Written
from dspex_nb.runs.resuming import Kept
from dspex_nb.runs.retrieving import as_texts, folded, merged, reranked, responded, searched
from dspex_nb.runs.wording import redacted
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
        cached: Names of the steps that the step cache serves.
        kept: Where the run keeps what finished steps wrote, if it can be resumed.
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
    cached: frozenset[str] = frozenset()
    kept: Kept | None = None

    def route(self, step: Step) -> Route:
        """Return the step's route in the plan."""
        routes: dict[str, Route] | None = self.plan.compiled.get("routes")
        if routes is None:
            routes = self.plan.compiled["routes"] = {route.step: route for route in self.plan.routes}
        return routes[self.prefix + step.name]


def perform(step: Step, around: Surroundings, scope: Scope) -> Written:
    """Run a step with its retries, or take its result from the step cache.

    Raises:
        Exception: Whatever its last attempt raised.
        Cancelled: The run was stopped.
    """
    if step.name in around.cached:
        return around.session.steps.through(step, values_of(step, around.results), partial(_tried, step, around, scope))  # type: ignore[no-any-return]
    return _tried(step, around, scope)


def _tried(step: Step, around: Surroundings, scope: Scope) -> Written:
    if not step.retry:
        return _limited(step, around, scope, 0)
    for attempt in range(step.retry):
        try:
            written = _limited(step, around, scope, attempt)
            return replace(written, attempts=attempt + 1)
        except Exception as error:
            if not worth_another(error):
                raise
            scope.cancel.check()
            _pause(wait_s(step, attempt, error), scope)
    return replace(_limited(step, around, scope, step.retry), attempts=step.retry + 1)


def wait_s(step: Step, attempt: int, error: Exception) -> float:
    """Return how long to wait before the next attempt."""
    if isinstance(error, AdapterParseError):
        return 0.0  # another answer is asked for; nobody is overloaded
    waits = step.backoff.longest_s(attempt) * (1 - step.backoff.jitter * random.random())  # noqa: S311 - spreads retries
    return max(waits, getattr(error, "retry_after_s", None) or 0.0)


def _pause(seconds: float, scope: Scope) -> None:
    if seconds <= 0:
        return
    wake = threading.Event()
    forget = scope.cancel.on_cancel(wake.set)
    try:
        wake.wait(seconds)
    finally:
        forget()
    scope.cancel.check()


def worth_another(error: Exception) -> bool:
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
    width = min(len(calls), _width(around.session)) if around.threads and overlaps(step) else 1
    if width <= 1:
        return [_checked(scope, call) for call in calls]
    lanes = [calls[start::width] for start in range(width)]
    done = crew.at_once([partial(_in_turn, scope, lane) for lane in lanes], scope.cancel.cancel)
    return [done[index % width][index // width] for index in range(len(calls))]


def overlaps(step: Step) -> bool:
    """Whether a step waits for something else than this thread, so that others gain by running meanwhile."""
    if step.kind == "template":
        return bool(step.options.get("call"))
    return step.kind not in ("function", "reduce", "respond") or step.pool is not None or is_async(step.callable)


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
    values = {name: value.read(results) if isinstance(value, FieldRef) else value for name, value in step.bindings.items()}
    for name in step.texts:
        if name in values:
            values[name] = as_texts(values[name])
    return values


def _once(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    kind = step.kind
    if kind == "function":
        return Written(spread(step, call_function(step, around.session, scope, around.prefix + step.name, values)))
    if kind in _PLAIN:
        return Written(spread(step, _PLAIN[kind](step, values)))
    if (kind == "chain_of_thought" and advanced(step)) or (kind == "multi_chain_comparison" and not votes(step)):
        return _module(step, around, scope, attempt, values)
    return _PERFORMED.get(kind, _module)(step, around, scope, attempt, values)


_PLAIN = {"reduce": folded, "retriever": searched, "rerank": reranked, "respond": responded}


def _filled(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    text = step.callable.render(values)
    return _asked(step, around, scope, attempt, text) if step.options.get("call") else Written(spread(step, text))


def _asked(step: Step, around: Surroundings, scope: Scope, attempt: int, text: str) -> Written:
    """Send a filled template as the prompt."""
    apart = ("call", "system", "rollout_id", "config", "demos")
    options = {name: value for name, value in step.options.items() if name not in apart}
    system = [{"role": "system", "content": step.options["system"]}] if "system" in step.options else []
    rollout = (step.options.get("rollout_id") or 0) + attempt or None
    request = Request([*system, {"role": "user", "content": text}], {**options, **step.options.get("config", {})}, rollout)
    session = around.session
    cache = None if step.cache is False else session.cache
    response = session.require_lm().complete(request, scope=scope, cache=cache, ttl_s=step.ttl_s)
    return Written(spread(step, response.text), response.usage, response.cost, response.cached)


def _voted(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    """Run the chains, each its own sample, and let them vote; a chain whose answer cannot be read has no vote."""
    count = step.options.get("chains") or CHAINS
    given = {name: value for name, value in step.options.items() if name not in ("chains", "aggregation", "demos", "n")}
    first = (given.pop("rollout_id", None) or 0) + attempt * count
    program = _kept_program(step, around, voting_program)
    unread: list[AdapterParseError] = []

    def chain(number: int) -> Written:
        options = {"temperature": TEMPERATURE, **given, "rollout_id": first + number + 1}
        try:
            prediction = program.call(values, session=around.session, scope=group, **options, **_call_options(step, around))
        except AdapterParseError as error:
            unread.append(error)
            return Written({})
        return Written(dict(prediction), prediction.usage, prediction.cost, prediction.cached)

    with _grouped(scope) as group:
        parts = _several(step, around, group, [partial(chain, number) for number in range(count)])
    read = [part for part in parts if part.fields]
    if not read:
        raise unread[0]
    chosen = vote([part.fields for part in read], step.writes, weighted=step.options.get("aggregation") == "weighted_vote")
    taken = _gathered(replace(step, writes=(), hidden=()), read)
    return Written(spread_outputs(step, chosen), taken.usage, taken.cost, taken.cached)


def _program(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    program, options = lm_call(step, around, attempt)
    prediction = program.call(values, session=around.session, scope=scope, **options)
    fields = spread_outputs(step, prediction)
    return Written(fields, prediction.usage, prediction.cost, prediction.cached)


def lm_call(step: Step, around: Surroundings, attempt: int) -> tuple[Predict, dict[str, Any]]:
    """Return the native program of an LM step, and the options of its call."""
    options = {name: value for name, value in step.options.items() if name not in ("demos", *ADVANCED)}
    if attempt:
        # The same request would be answered from the cache with what failed before.
        options["rollout_id"] = (options.get("rollout_id") or 0) + attempt
    return _kept_program(step, around, _native_program), options | _call_options(step, around)


def _kept_program(step: Step, around: Surroundings, make: Callable[[Step], Predict]) -> Predict:
    """Return the step's program, made once a plan."""
    programs: dict[str, Predict] = around.plan.compiled.setdefault("programs", {})
    program = programs.get(around.prefix + step.name)
    if program is None:
        program = make(step)
        if step.state is not None:
            program = copy.copy(program).load_state(step.state)  # a copy: the program may be the user's own
        programs[around.prefix + step.name] = program
    return program


def _call_options(step: Step, around: Surroundings) -> dict[str, Any]:
    ttl = {} if step.ttl_s is None or "ttl_s" in step.options else {"ttl_s": step.ttl_s}
    return {"route": around.route(step), "adapter": step.adapter, "cache": step.cache is not False, **ttl}


def _native_program(step: Step) -> Predict:
    if isinstance(step.callable, Predict):
        return step.callable
    if step.signature is None:
        raise PlanError(f"step {step.name!r} has no signature", hint=f"write {step.kind}('question -> answer')")
    program = (ChainOfThought if step.kind == "chain_of_thought" else Predict)(step.signature)
    program.demos = [dict(demo) for demo in step.options.get("demos") or ()]
    return program


def _module(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    from dspex_nb.bridge import Inner, run_module  # loads dspy

    inner = None
    if step.children:  # of best_of_n and refine
        child = step.children[0]
        inner = Inner(child.callable if child.callable is not None else child.kind, child.signature, child.options)
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
        inner=inner,
        state=step.state,
    )
    return Written(spread_outputs(step, done.outputs), done.usage, done.cost, done.cached)


def _parallel(step: Step, around: Surroundings, scope: Scope, _attempt: int, _values: dict[str, Any]) -> Written:
    children = step.children
    with _grouped(scope) as group:
        calls = [partial(around.run_child, child, around, group) for child in children]
        at_once = around.threads and len(calls) > 1
        parts: list[Written] = crew.at_once(calls, group.cancel.cancel) if at_once else [_checked(scope, call) for call in calls]
    value: Any = merged(step, {
        child.label: part.fields.get(child.writes[0])
        if len(child.writes) == 1
        else {name: part.fields.get(name) for name in child.writes}
        for child, part in zip(children, parts, strict=True)
    })  # fmt: skip
    taken = _gathered(replace(step, writes=(), hidden=()), [part for part in parts if part.usage != _NOTHING])
    return Written(spread(step, value), taken.usage, taken.cost, taken.cached)


def _nested(step: Step, around: Surroundings, scope: Scope, _attempt: int, values: dict[str, Any]) -> Written:
    spec = getattr(step.callable, "spec", step.callable)
    prefix = f"{around.prefix}{step.name}/"
    done = around.run_pipeline(
        spec,
        around.plan,
        values,
        session=around.session,
        scope=scope,
        prefix=prefix,
        threads=around.threads,
        # Under `over=` the same inner steps run once an item: their names do not tell them apart.
        kept=None if around.kept is None or step.over else around.kept.below(step.name),
    )
    around.inner.update(done.step_results)
    wanted = {**done.fields, **done.outputs}
    fields = {name: wanted[name] for name in step.writes if name in wanted}
    if not fields and len(step.writes) == 1:
        fields = {step.writes[0]: dict(done.outputs)}
    return Written(fields, done.usage, done.cost, done.cached)


_PERFORMED = {
    "predict": _program,
    "chain_of_thought": _program,
    "multi_chain_comparison": _voted,
    "template": _filled,
    "parallel": _parallel,
    "pipeline": _nested,
}


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
    said = redacted(str(error), limit=2000)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
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
