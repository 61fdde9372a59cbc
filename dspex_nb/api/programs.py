"""Anything that can be run on rows, seen alike: our predictors and pipelines, DSPy's modules, plain functions."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from dspex_nb.adapters.accepting import accepted
from dspex_nb.api.sessions import session
from dspex_nb.errors import DSPexError, MissingInputError
from dspex_nb.modules import Predict
from dspex_nb.predictions import Facts, Prediction
from dspex_nb.scopes import Scope

Call = Callable[[dict[str, Any], Scope], Prediction]


@dataclass(frozen=True, slots=True)
class Program:
    """A program as `evaluate`, `map` and `batch` see it.

    Attributes:
        inputs: Names of the inputs each row must hold; None where the program does not say.
        accepts: All its inputs, those with defaults too; None where the program does not say.
        call: Runs one row.
        acall: Its async twin, where there is one that never blocks a loop.
        n_jobs: Rows in flight where the caller does not say.
    """

    name: str
    inputs: Sequence[str] | None
    accepts: Sequence[str] | None
    call: Call
    n_jobs: int
    acall: Callable[[dict[str, Any], Scope], Awaitable[Prediction]] | None = None


def is_dspy_module(value: Any) -> bool:
    """Return whether `value` is a `dspy.Module`, without importing dspy."""
    dspy = sys.modules.get("dspy")
    return dspy is not None and isinstance(value, dspy.Module)


def program_of(program: Any, name: str = "") -> Program:
    """Return `program` as rows are run through it, bound to the session of the caller.

    Raises:
        DSPexError: It cannot be called.
    """
    now = session()
    label = str(name or getattr(program, "name", "") or getattr(program, "__name__", type(program).__name__))
    if isinstance(program, Predict):
        asked = replace(now, lm=lm_of(program, now))
        fields = program.signature.inputs
        needed = [name for name, field in fields.items() if field.required]
        return Program(
            label,
            needed,
            list(fields),
            lambda row, scope: program.call(_from_user(program, row), session=now, scope=scope),
            lm_width(asked),
            lambda row, scope: program.acall_in(_from_user(program, row), session=now, scope=scope),
        )
    if hasattr(program, "spec") and hasattr(program, "call_in"):
        accepts = [given.name for given in program.spec.inputs]
        call, acall = program.for_rows(now)
        return Program(label, program.required, accepts, call, lm_width(now), acall)
    if is_dspy_module(program):
        return Program(label, *_dspy_inputs(program), lambda row, scope: _run_dspy(program, row, now, scope), lm_width(now))
    if not callable(program):
        hint = "pass a dx.Predict, a pipeline, a dspy.Module or a function"
        raise DSPexError(f"{label!r} is of type {type(program).__name__}, which cannot be run on rows", hint=hint)
    width = lm_width(now) if now.n_jobs else 1
    return Program(label, *_parameters(program), lambda row, scope: _as_prediction(program(**row), scope), width)


def _from_user(program: Predict, row: Mapping[str, Any]) -> Mapping[str, Any]:
    return accepted(program.signature, row, paths=True)  # rows are the user's: a text may name an image's file


def _dspy_inputs(module: Any) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    predictors = module.predictors()
    forward = getattr(type(module), "forward", None)  # of the class: DSPy warns where an instance's is looked at
    needed, accepted = _parameters(functools.partial(forward, module)) if forward is not None else (None, None)
    if accepted is None and len(predictors) == 1:  # dspy.Predict and its kin take anything and read their signature's inputs
        fields = predictors[0].signature.input_fields
        return [name for name, field in fields.items() if field.is_required()], list(fields)
    return needed, accepted


def _parameters(function: Callable[..., Any]) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    """Return the names a function needs and those it takes; None where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return None, None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None, None
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return [one.name for one in named if one.default is one.empty], [one.name for one in named]


def lm_of(program: Any, now: Any) -> Any:
    """Return the client that `program` asks: its own (`dx.Predict(…, lm=…)`), else the session's."""
    return (program.lm if isinstance(program, Predict) else None) or now.lm


def lm_width(now: Any, n_jobs: int | None = None) -> int:
    """Return how many rows to keep in flight: None means the session's, else the LM's `max_concurrency`; -1 that, -2 one less.

    Raises:
        DSPexError: It is no number of rows.
    """
    check_width(n_jobs)
    wanted = n_jobs if n_jobs is not None else now.n_jobs or -1
    most = int(getattr(getattr(now.lm, "settings", None), "max_concurrency", None) or 8)
    return wanted if wanted > 0 else max(1, most + 1 + wanted)


def check_width(n_jobs: Any) -> None:
    """Refuse what is no number of rows, as joblib does.

    Raises:
        DSPexError: It is none.
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise DSPexError(f"n_jobs={n_jobs!r:.80} is no number of rows", hint="give 1 or more, or -1 for the LM's max_concurrency")


def _run_dspy(module: Any, row: Mapping[str, Any], now: Any, scope: Scope) -> Prediction:
    from dspex_nb.bridge import run_module

    client = now.require_lm()
    done = run_module(module, None, dict(row), client=client, adapter=now.adapter, cache=now.cache, scope=scope)
    facts = Facts(usage=done.usage, cost=done.cost, run_id=scope.run_id, cached=done.cached)
    return Prediction(done.outputs, facts)


def refuse_unnamed(name: str, unnamed: Sequence[Any], inputs: Sequence[str]) -> None:
    """Raise if inputs were given without their names.

    Raises:
        MissingInputError: They were; the hint is the call to write.
    """
    if unnamed:
        call = ", ".join(f"{each}=…" for each in inputs)
        found = f"{name} takes its inputs by name, got {unnamed[0]!r:.40} without one"
        raise MissingInputError(found, hint=f"call it with ({call})")


def _as_prediction(value: Any, scope: Scope) -> Prediction:
    if isinstance(value, Prediction):
        return value
    outputs = dict(value) if isinstance(value, Mapping) else {"output": value}
    return Prediction(outputs, Facts(run_id=scope.run_id))
