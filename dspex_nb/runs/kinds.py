"""One call of a step, by its kind: a function, a template, a native program, a vote, a DSPy module, children, a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import replace
from functools import partial
from typing import Any

from dspex_nb.errors import AdapterParseError, PlanError
from dspex_nb.messages import Request, Usage
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.pipelines.options import ADVANCED
from dspex_nb.pipelines.records import Step
from dspex_nb.pools import crew
from dspex_nb.retrieval.asking import Asker
from dspex_nb.routing.capabilities import advanced, votes
from dspex_nb.runs.chains import CHAINS, TEMPERATURE, vote, voting_program
from dspex_nb.runs.outcomes import Written
from dspex_nb.runs.retrieving import folded, merged, reranked, responded, searched
from dspex_nb.runs.spreading import spread, spread_outputs
from dspex_nb.runs.surroundings import Blank, Surroundings, values_of
from dspex_nb.runs.telling import completed, predicted
from dspex_nb.runs.together import checked, gathered, grouped, several
from dspex_nb.scopes import Scope

_NOTHING = Usage()


def perform_kind(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    """Make one call, here, of a step that is no function.

    Raises:
        Exception: Whatever the call raised.
    """
    kind = step.kind
    if kind in _PLAIN:
        return Written(spread(step, _PLAIN[kind](step, values)))
    if (kind == "chain_of_thought" and advanced(step)) or (kind == "multi_chain_comparison" and not votes(step)):
        return _module(step, around, scope, attempt, values)
    return _PERFORMED.get(kind, _module)(step, around, scope, attempt, values)


_PLAIN = {"reduce": folded, "retriever": searched, "respond": responded}


def _reranked(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    del attempt
    session = around.session
    asker = Asker(session.lm, scope, None if step.cache is False else session.cache)
    found = reranked(step, values, asker)
    return Written(spread(step, found), asker.usage, asker.cost, asker.cached)


def _filled(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    text = step.callable.render(values)
    return _asked(step, around, scope, attempt, text) if step.options.get("call") else Written(spread(step, text))


def _asked(step: Step, around: Surroundings, scope: Scope, attempt: int, text: str) -> Written:
    """Send a filled template as the prompt."""
    apart = ("call", "system", "rollout_id", "config", "demos")
    options = {name: value for name, value in step.options.items() if name not in apart}
    if step.ttl_s is not None:
        options.setdefault("ttl_s", step.ttl_s)
    system = [{"role": "system", "content": step.options["system"]}] if "system" in step.options else []
    rollout = (step.options.get("rollout_id") or 0) + attempt or None
    request = Request([*system, {"role": "user", "content": text}], {**options, **step.options.get("config", {})}, rollout)
    session = around.session
    cache = None if step.cache is False else session.cache
    response = completed(step, request, session=session, scope=scope, cache=cache)
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

    with grouped(scope) as group:
        parts = several(step, around, group, [partial(chain, number) for number in range(count)])
    read = [part for part in parts if part.fields]
    if not read:
        raise unread[0]
    chosen = vote([part.fields for part in read], step.writes, weighted=step.options.get("aggregation") == "weighted_vote")
    taken = gathered(replace(step, writes=(), hidden=()), read)
    return Written(spread_outputs(step, chosen), taken.usage, taken.cost, taken.cached)


def _program(step: Step, around: Surroundings, scope: Scope, attempt: int, values: dict[str, Any]) -> Written:
    program, options = lm_call(step, around, attempt)
    prediction = predicted(step, program, values, session=around.session, scope=scope, options=options)
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
    return {"route": around.routes[step.name], "adapter": step.adapter, "cache": step.cache is not False, **ttl}


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
    with grouped(scope) as group:
        calls = [partial(around.run_child, child, around, group) for child in children]
        at_once = around.threads and len(calls) > 1
        parts: list[Written] = crew.at_once(calls, group.cancel.cancel) if at_once else [checked(scope, call) for call in calls]
    fields = {child.label: part.fields for child, part in zip(children, parts, strict=True)}
    value = [_merged(step, one) for one in _by_element(step, fields, around)] if step.over else _merged(step, fields)
    taken = gathered(replace(step, writes=(), hidden=()), [part for part in parts if part.usage != _NOTHING])
    return Written(spread(step, value), taken.usage, taken.cost, taken.cached)


def _merged(step: Step, fields: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the value of a parallel step: what its children wrote by label, merged if it says how."""
    return merged(step, {
        child.label: fields[child.label].get(child.writes[0])
        if len(child.writes) == 1
        else {name: fields[child.label].get(name) for name in child.writes}
        for child in step.children
    })  # fmt: skip


def _by_element(
    step: Step, fields: Mapping[str, Mapping[str, Any]], around: Surroundings
) -> Iterator[dict[str, Mapping[str, Any]]]:
    """Yield what the children wrote for each element of a list; those that do not go through it wrote the same for all."""
    lists = {label: written for label, written in fields.items() if label in step.over and not isinstance(written, Blank)}
    counts = [len(values) for written in lists.values() for values in written.values()]
    for number in range(max(counts, default=_length(step, around))):
        yield {
            label: {name: values[number] for name, values in written.items()} if label in lists else written
            for label, written in fields.items()
        }


def _length(step: Step, around: Surroundings) -> int:
    """Return how many elements the children of a parallel step were to go through, where all of them failed."""
    going = next(child for child in step.children if child.label in step.over)
    if going.kind == "parallel":
        return _length(going, around)
    value = values_of(going, around.results).get(going.over[0])
    return len(value) if isinstance(value, Sized) and not isinstance(value, str | bytes | Mapping) else 0


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
    "rerank": _reranked,
    "template": _filled,
    "parallel": _parallel,
    "pipeline": _nested,
}
