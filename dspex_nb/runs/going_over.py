"""A step under `over=`: one call an item of a list, each with its own retries, time limit and fate; the outputs become lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import structs

from dspex_nb.errors import Cancelled, PipelineError
from dspex_nb.pipelines.records import FieldRef, Step
from dspex_nb.runs.outcomes import Gapped, Written
from dspex_nb.runs.surroundings import Blank, Surroundings, values_of
from dspex_nb.runs.together import gathered, grouped, several
from dspex_nb.runs.wording import explain, secrets_in
from dspex_nb.scopes import Scope

_Call = Callable[[Step, Surroundings, Scope, dict[str, Any]], Written]
_TOLD = 3


def perform_items(step: Step, around: Surroundings, scope: Scope, call: _Call) -> Written:
    """Call a step once an item of its list and return its fields as lists.

    With `on_error="skip"` an item that fails is None, with a fallback it is the fallback's, and the note says why; items that
    the step before could not give are left out. With neither, the first failure stops the others.

    Raises:
        PipelineError: It is no list, or several lists differ in length.
        Exception: What the call of an item raised, where nothing is said of errors or where every item failed.
    """
    values = values_of(step, around.results)
    lists = {name: _listed(step, name, values[name]) for name in step.over}
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise PipelineError(f"over= goes through lists of different lengths: {lengths}", hint="give lists of one length")
    rows = [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
    absent = _absent(step, around)
    failures: dict[int, Exception] = {}

    def item(number: int) -> Written:
        if number in absent:
            return Written({})
        try:
            return call(step, around, group, {**values, **rows[number]})
        except Exception as error:
            if step.on_error == "stop" or isinstance(error, Cancelled | CancelledError):
                _say_where(error, step, number)
                raise
            failures[number] = error
            return Written({})

    with grouped(scope) as group:
        parts = several(step, around, group, [partial(item, number) for number in range(len(rows))])
    if failures and len(failures) + len(absent) == len(rows) and step.on_error == "skip":
        first = failures[min(failures)]
        _say_where(first, step, min(failures), ", and every other failed too" if len(failures) > 1 else "")
        raise first
    told = [_told(step, failures, len(rows), around)] if failures else []
    if absent:
        told.append(f"{len(absent)} of {len(rows)} items left out, which an earlier step did not give")
    if failures and isinstance(step.on_error, Step):
        _mend(step.on_error, parts, failures, around, scope)
    made = gathered(step, parts)
    gaps = frozenset(number for number, part in enumerate(parts) if not part.fields)
    fields = Gapped(made.fields, gaps) if gaps else made.fields
    return structs.replace(made, fields=fields, attempts=max((part.attempts for part in parts), default=1), note="; ".join(told))


def _mend(fallback: Step, parts: list[Written], failures: Mapping[int, Exception], around: Surroundings, scope: Scope) -> None:
    """Let a fallback give what failed: item by item if it goes through the list too, else the same for each."""
    numbers = sorted(failures)
    given = values_of(fallback, around.results)
    some = {name: _chosen(_listed(fallback, name, given[name]), numbers) for name in fallback.over}
    done: Written = around.run_child(replace(fallback, bindings={**fallback.bindings, **some}), around, scope)
    missing = done.fields.gaps if isinstance(done.fields, Gapped) else frozenset()
    for at, number in enumerate([] if isinstance(done.fields, Blank) else numbers):
        if at not in missing:
            one = {name: value[at] if fallback.over else value for name, value in done.fields.items()}
            parts[number] = structs.replace(parts[number], fields=one)
    parts[numbers[0]] = structs.replace(parts[numbers[0]], usage=done.usage, cost=done.cost, cached=done.cached)


def _chosen(items: list[Any], numbers: list[int]) -> list[Any]:
    if numbers[-1] >= len(items):
        raise PipelineError("the list of the fallback is shorter than that of its step", hint="give lists of one length")
    return [items[number] for number in numbers]


def _absent(step: Step, around: Surroundings) -> frozenset[int]:
    """Return the numbers of the items that are None because the step that gives the list failed at them."""
    found: frozenset[int] = frozenset()
    for name in step.over:
        ref = step.bindings[name]
        written = around.results.get(ref.step or "") if isinstance(ref, FieldRef) else None
        if isinstance(written, Gapped):
            found |= written.gaps
    return found


def _told(step: Step, failures: Mapping[int, Exception], count: int, around: Surroundings) -> str:
    one = len(failures) == 1
    what = f"{'is' if one else 'are'} None" if step.on_error == "skip" else f"come{'s' if one else ''} from the fallback"
    secrets = secrets_in(values_of(step, around.results))
    each = [f"element {number}: {explain(failures[number], secrets=secrets)[0]}" for number in sorted(failures)[:_TOLD]]
    more = [f"and {len(failures) - _TOLD} more"] if len(failures) > _TOLD else []
    return f"{len(failures)} of {count} items failed and {what}: {'; '.join((*each, *more))}"


def _say_where(error: Exception, step: Step, number: int, more: str = "") -> None:
    """Put before what an error says of its attempts at which item of which list they were."""
    refs = [step.bindings[name] for name in step.over]
    listed = f"over={', '.join(map(str, refs))}" if all(isinstance(ref, FieldRef) for ref in refs) else "those that failed"
    notes = getattr(error, "__notes__", [])
    error.__notes__ = [f"at element {number} of {listed}{more}", *notes]


def _listed(step: Step, name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise PipelineError(
            f"over={step.bindings[name]}: expected a list, found {type(value).__name__}",
            hint=f"let what {step.name!r} reads there be a list",
        )
    return list(value)
