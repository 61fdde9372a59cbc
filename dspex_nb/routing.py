"""Which engine serves each step of a pipeline, and why: decided once, before anything runs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast, get_args, get_origin

from dspex_nb.adapters import DSPY_ADAPTERS, get_adapter
from dspex_nb.ambient import Session
from dspex_nb.errors import PlanError
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.predictions import Route
from dspex_nb.signatures import Codec, Signature, register_package

KERNEL = "kernel"
"""The pool of steps that name none: the notebook's own process."""

_LM_KINDS = ("predict", "chain_of_thought")


def _dspys_type(kind: type) -> Codec | None:
    # A class of DSPy's is met, so DSPy is imported already; what its types mean is known to the bridge alone.
    from dspex_nb.bridge import type_codec

    return type_codec(kind)


register_package("dspy", _dspys_type)


@dataclass(frozen=True, slots=True)
class Plan:
    """The route of every step, inner ones included (`outer/inner`, `parent.child`). Prints as a table.

    Attributes:
        name: The pipeline's.
        routes: In cell order, each followed by its children's.
        compiled: What the scheduler derives from spec and plan once and uses in each run; no part of the plan's value.
    """

    name: str
    routes: tuple[Route, ...]
    compiled: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getitem__(self, step: str) -> Route:
        for route in self.routes:
            if route.step == step:
                return route
        raise KeyError(step)

    @property
    def needs_lm(self) -> bool:
        """Whether a step calls a language model."""
        return any(route.engine != "python" for route in self.routes)

    def __str__(self) -> str:
        rows = [("step", "engine", "pool", "why"), *((r.step, r.engine, r.pool, r.reason) for r in self.routes)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
        )

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def plan(spec: PipelineSpec, session: Session) -> Plan:
    """Return the route of each step.

    Raises:
        PlanError: A step asks for what cannot be: `engine="native"` for a signature that only DSPy serves, a pool that
            does not exist, an LM step in a pool of processes.
    """
    return Plan(spec.name, tuple(_routes(spec.steps, session, "")))


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


def _routes(steps: Iterable[Step], session: Session, prefix: str) -> Iterator[Route]:
    for step in steps:
        yield _route(step, session, prefix)
        yield from _routes(step.children, session, prefix)
        if isinstance(step.on_error, Step):
            yield from _routes([step.on_error], session, prefix)
        if step.kind == "pipeline":
            yield from _routes(step.callable.steps, session, f"{prefix}{step.name}/")


def _route(step: Step, session: Session, prefix: str) -> Route:
    try:
        return _decide(prefix + step.name, step, session)
    except PlanError as error:
        if error.line or not step.line:
            raise
        raise PlanError(error.message, hint=error.hint, line=step.line, column=step.column, text=step.text) from None


def _decide(name: str, step: Step, session: Session) -> Route:
    pool, where = _pool(step, session)
    if step.kind in _LM_KINDS:
        program = step.callable if isinstance(getattr(step.callable, "signature", None), Signature) else None
        signature = cast("Signature", program.signature if program is not None else step.signature)
        adapter = step.adapter or getattr(program, "adapter", None)
        return route_call(name, signature, session, engine=step.engine, adapter=adapter, pool=pool)
    if step.kind in _PYTHON_REASONS:
        if step.engine == "dspy":
            raise PlanError(f"step {name!r}: engine='dspy' has no meaning for a {step.kind} step", hint="leave out engine=")
        return Route(name, "python", pool, _PYTHON_REASONS[step.kind].format(count=len(step.children), where=where))
    if step.engine == "native":
        raise PlanError(f"step {name!r}: only DSPy has {_module_name(step)}", hint="leave out engine=, and DSPy serves it")
    return Route(name, "dspy", pool, f"dspy: {_module_name(step)} is a module of DSPy's kind")


_PYTHON_REASONS = {
    "function": "python: a Python function runs {where}",
    "template": "python: a template is filled in in the kernel",
    "parallel": "python: its {count} steps run at once",
    "pipeline": "python: its steps have their own routes",
}


def _pool(step: Step, session: Session) -> tuple[str, str]:
    """Return the pool's name and, in words, where the step runs."""
    if step.pool is None:
        return KERNEL, "in the kernel"
    found = step.pool
    if isinstance(found, str):
        if session.pools is None:
            raise PlanError(f"step {step.name!r}: there is no pool {found!r}", hint=f"make it first: dx.pool({found!r}, size=4)")
        found = session.pools.get(found)
    if found.separate and step.kind != "function":
        raise PlanError(
            f"step {step.name!r}: pool {found.name!r} is made of processes, and only Python functions run in those",
            hint="LM steps wait on the network, not on the processor: leave out pool=, or use a pool with backend='thread'",
        )
    what = "processes" if found.separate else "threads"
    return str(found.name), f"in pool {found.name!r} ({found.size} {what})"


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


__all__ = ["KERNEL", "Plan", "native_adapter", "plan", "route_call"]
