"""The route of each step: native where that is exact, DSPy where it must be, refused with a reason where neither can."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast, get_args, get_origin

from dspex_nb.adapters import DSPY_ADAPTERS, check_adapter, get_adapter
from dspex_nb.ambient import Session
from dspex_nb.errors import AdapterError, PlanError, PoolError
from dspex_nb.pipelines.options import ADVANCED, CODE_KINDS
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import Step
from dspex_nb.predictions import Route
from dspex_nb.routing.capabilities import TABLE, advanced, operation_of
from dspex_nb.signatures import Signature

KERNEL = "kernel"
"""The pool of steps that name none: the notebook's own process."""

_CHAINS = 3
_AROUND_STEPS = ("parallel", "pipeline")


def native_adapter(adapter: Any, session: Session) -> Any | None:
    """Return the adapter of a native call: the one given, else the session's, else the LM's own; None if only DSPy has it.

    Raises:
        AdapterError: No adapter is called so.
    """
    chosen = adapter or session.adapter or getattr(session.lm, "default_adapter", None) or "chat"
    if isinstance(chosen, str):
        return None if chosen in DSPY_ADAPTERS else get_adapter(chosen)
    return chosen if hasattr(chosen, "unsupported") and hasattr(chosen, "messages") else None


def route_call(
    step: str, signature: Signature, session: Session, *, engine: str | None = None, adapter: Any = None, pool: str = KERNEL
) -> Route:
    """Return the route of one `predict` or `chain_of_thought` call.

    Raises:
        PlanError: `engine="native"` was asked for and only DSPy serves the call exactly.
    """
    if engine not in (None, "native", "dspy"):
        raise PlanError(f"step {step!r}: engine={engine!r} is not known", hint="use engine='native' or engine='dspy'")
    if engine == "dspy":
        return Route(step, "dspy", pool, "dspy: engine='dspy' was asked for")
    found = native_adapter(adapter, session)
    why_not = _name_only_dspy(adapter, session) if found is None else found.unsupported(signature)
    if why_not is None:
        assert found is not None  # noqa: S101 - else there is a reason
        return Route(step, "native", pool, f"native: the {found.name} adapter serves {_type_names(signature)} exactly")
    if engine == "native":
        raise PlanError(
            f"step {step!r}: engine='native' cannot serve it exactly: {why_not}", hint="leave out engine=, and DSPy serves it"
        )
    return Route(step, "dspy", pool, f"dspy: {why_not}")


def routes_of(steps: Iterable[Step], session: Session, prefix: str = "", source: str = "") -> Iterator[Route]:
    """Yield the route of each step, followed by those of its children, its fallback and its inner steps.

    Args:
        steps: The steps of a pipeline.
        session: LM, adapter and pools.
        prefix: `"outer/"` for those of an inner one.
        source: The cell that they are in, for errors to point at.

    Raises:
        PlanError: A step asks for what cannot be.
    """
    for step in steps:
        inner = list(routes_of(step.children, session, prefix, source))
        if step.kind in _SAMPLERS:
            inner = [replace(one, engine="dspy", reason=f"dspy: {step.kind} is DSPy's and runs it") for one in inner]
        yield _placed(step, session, prefix, source, inner)
        yield from inner
        if isinstance(step.on_error, Step):
            yield from routes_of([step.on_error], session, prefix, source)
        if step.kind == "pipeline":
            yield from routes_of(step.callable.steps, session, f"{prefix}{step.name}/", step.callable.source)


_SAMPLERS = ("best_of_n", "refine")


def _placed(step: Step, session: Session, prefix: str, source: str, inner: list[Route]) -> Route:
    """Return a step's route; an error points at the option that cannot be."""
    option = "pool"
    try:
        pool, where = _pool(step, session)
        option = "engine"
        return _decide(prefix + step.name, step, session, inner, pool, where)
    except (PlanError, AdapterError) as error:
        if not step.line or (isinstance(error, PlanError) and error.line):
            raise
        word = "adapter" if isinstance(error, AdapterError) else option
        raise _place(step, source).find(word).plan_error(error.message, error.hint) from None


def _place(step: Step, source: str) -> Place:
    above, _, last = step.text.rpartition("\n")
    count = above.count("\n") + 1 if above else 0
    lines = tuple(source.split("\n"))
    return Place(step.line, step.column, step.line + count, len(last) + (0 if count else step.column), lines)


def _decide(name: str, step: Step, session: Session, inner: list[Route], pool: str, where: str) -> Route:
    operation = operation_of(step)
    served = [engine for engine in ("native", "dspy", "python") if (operation, engine) in TABLE]
    if step.engine is not None and step.engine not in served:
        raise _cannot(name, step, served)
    if served == ["python"]:
        return Route(name, "python", pool, f"python: {_python_reason(step, where, inner)}")
    if operation == "template that calls":
        return Route(name, "native", pool, "native: the filled template is the whole prompt")
    if step.kind in CODE_KINDS:
        _require_deno(name, step)
    if served == ["dspy"]:
        if isinstance(step.adapter, str):
            check_adapter(step.adapter)
        return Route(name, "dspy", pool, f"dspy: {_module_name(step)} is a module of DSPy's kind{_around(inner)}")
    if step.kind == "chain_of_thought" and advanced(step):
        return _advanced(name, step, pool)
    program = step.callable if isinstance(getattr(step.callable, "signature", None), Signature) else None
    signature = cast("Signature", program.signature if program is not None else step.signature)
    adapter = step.adapter or getattr(program, "adapter", None)
    route = route_call(name, signature, session, engine=step.engine, adapter=adapter, pool=pool)
    if step.kind != "multi_chain_comparison":
        return route
    count, how = step.options.get("chains") or _CHAINS, str(step.options["aggregation"]).replace("_", " ")
    return Route(name, route.engine, pool, f"{route.reason}; {count} chains, {how} counted here")


def _advanced(name: str, step: Step, pool: str) -> Route:
    """A chain of thought that takes a model's own reasoning, or has a reasoning field of the user's."""
    asked = next(one for one in ADVANCED if step.options.get(one))
    if step.engine == "native":
        raise PlanError(
            f"step {name!r}: engine='native' cannot serve {asked}=: extracting reasoning is DSPy's",
            hint=f"leave out engine= or {asked}=",
        )
    return Route(name, "dspy", pool, f"dspy: {asked}= asks for DSPy's way with reasoning")


def _cannot(name: str, step: Step, served: list[str]) -> PlanError:
    if "dspy" in served:
        more = "; aggregation='majority' and 'weighted_vote' are native" if step.kind == "multi_chain_comparison" else ""
        hint = f"leave out engine=, and DSPy serves it{more}"
        return PlanError(f"step {name!r}: only DSPy has {_module_name(step)}", hint=hint)
    return PlanError(f"step {name!r}: engine={step.engine!r} has no meaning for a {step.kind} step", hint="leave out engine=")


def _require_deno(name: str, step: Step) -> None:
    """Refuse a step that runs a model's code where its sandbox is not installed."""
    settings = getattr(sys.modules.get("dspy"), "settings", None)
    if "interpreter_factory" in step.options or (settings is not None and settings.get("interpreter_factory") is not None):
        return
    if importlib.util.find_spec("deno") is None and shutil.which("deno") is None:
        raise PlanError(
            f"step {name!r}: {step.kind} runs the model's code in Deno's sandbox, and Deno is not installed",
            hint="pip install deno",
        )


def _python_reason(step: Step, where: str, inner: list[Route]) -> str:
    if step.kind == "parallel":
        merge = step.options.get("merge")
        how = merge if isinstance(merge, str) else getattr(merge, "__name__", "a function")
        told = "" if merge is None else f", merged by {how}"
        many = ", for each item of a list" if step.over else ""
        return f"its {len(step.children)} steps run at once{many}{_around(inner)}{told}"
    if step.kind == "retriever":
        return f"{getattr(step.callable, 'name', None) or type(step.callable).__name__} is searched {where}"
    if step.kind == "rerank":
        return f"passages are reordered {where}"
    return _PYTHON_REASONS[step.kind].format(where=where)


_PYTHON_REASONS = {
    "function": "a Python function runs {where}",
    "reduce": "a Python function runs {where} for each element",
    "template": "a template is filled in {where}",
    "respond": "an answer is formatted {where}",
    "pipeline": "its steps have their own routes",
}


def _around(inner: list[Route]) -> str:
    """Say how many of the steps inside DSPy serves: those are run natively around it."""
    count = sum(route.engine == "dspy" for route in inner)
    return f", {count} of them in DSPy" if count and len(inner) > 1 else ""


def _pool(step: Step, session: Session) -> tuple[str, str]:
    """Return the pool's name and, in words, where the step runs."""
    if step.pool is None:
        return KERNEL, "in the kernel"
    found = step.pool
    if isinstance(found, str):
        if session.pools is None:
            raise PlanError(f"step {step.name!r}: there is no pool {found!r}", hint=f"make it first: dx.pool({found!r}, size=4)")
        try:
            found = session.pools.get(found)
        except PoolError as error:
            raise PlanError(f"step {step.name!r}: {error.message}", hint=error.hint) from None
    if step.kind in _AROUND_STEPS:
        raise PlanError(
            f"step {step.name!r}: pool= has no meaning for a {step.kind} step, whose steps run where they say",
            hint="give pool= to the steps inside it",
        )
    if found.settings.python is not None and step.kind != "function":
        raise PlanError(
            f"step {step.name!r}: pool {found.name!r} runs another Python, which makes calls of functions only",
            hint="leave out pool=, or use a pool without python=",
        )
    if found.separate and not getattr(step.callable, "portable", True):
        index = f"an open {step.callable.name} index"
        raise PlanError(
            f"step {step.name!r}: pool {found.name!r} is made of processes, and {index} stays in its own",
            hint="leave out pool=, or use a pool with backend='thread'",
        )
    what = "process" if found.separate else "thread"
    many = "" if found.size == 1 else "es" if found.separate else "s"
    return str(found.name), f"in pool {found.name!r} ({found.size} {what}{many})"


def _name_only_dspy(adapter: Any, session: Session) -> str:
    chosen = adapter or session.adapter
    name = chosen if isinstance(chosen, str) else type(chosen).__name__
    return f"the {name} adapter is DSPy's own"


def _module_name(step: Step) -> str:
    found = step.callable
    if step.kind != "module" or found is None:
        return step.kind
    return str(found.__name__ if isinstance(found, type) else type(found).__name__)


def _type_names(signature: Signature) -> str:
    names = list(dict.fromkeys(_type_name(one.type) for one in signature.fields.values()))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is None:
        return str(getattr(kind, "__name__", kind))
    outer = str(getattr(origin, "__name__", None) or getattr(origin, "_name", None) or origin)
    return outer if outer == "Literal" else f"{outer}[{', '.join(_type_name(arg) for arg in get_args(kind))}]"
