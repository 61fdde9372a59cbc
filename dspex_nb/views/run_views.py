"""A pipeline's run, live or ended, and its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.views.formats import cost_text, count_text, one_line, plural, seconds_text
from dspex_nb.views.markup import (
    Html,
    button,
    chip,
    error_notice,
    frame,
    heading,
    join,
    muted,
    picture,
    state_chip,
    state_text,
    tag,
)
from dspex_nb.views.pictures import StepMark, pipeline_line, pipeline_picture, pipeline_text
from dspex_nb.views.run_states import RunInfo, RunState, StepInfo, holder_of
from dspex_nb.views.tables import Column, number, table_html, table_text


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """How one step will be served: `engine`, `pool` and the `reason`, a full sentence."""

    step: str
    engine: str
    pool: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """A pipeline and its routes.

    Attributes:
        name: The pipeline's name.
        routes: One a step; `predictions.Route` records serve too.
        described: What `pipelines.describe` returns, for the picture.
        rounds: For each step the round it runs in, as text; steps of one round run at once.
        calls: For each step how many model calls to expect, as text.
        summary: Rounds, calls and cost of one run, in a line.
    """

    name: str
    routes: Sequence[Any] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    rounds: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""


def _info(state: RunState | RunInfo) -> RunInfo:
    return state.snapshot() if isinstance(state, RunState) else state


def run_html(state: RunState | RunInfo, *, stop: bool = True) -> str:
    """Draw a run as HTML.

    Args:
        state: The run, or a snapshot of it.
        stop: Whether a Stop button (action `cancel`) is shown while it goes on.
    """
    info = _info(state)
    stopper = button("cancel", "Stop", danger=True) if stop and info.status == "running" else ""
    head = heading(info.name, state_chip(info.status), stopper, *_totals(info), kind="pipeline")
    return frame(head, error_notice(info.error) if info.error else "", _picture(info), _steps(info))


def _totals(info: RunInfo) -> list[Html]:
    chips = [chip(seconds_text(info.elapsed_s))]
    if info.calls or info.cache_hits:
        cached = f" · {info.cache_hits:,} from cache" if info.cache_hits else ""
        chips.append(chip(plural(info.calls, "LM call"), cached))
        chips.append(chip(plural(info.prompt_tokens + info.completion_tokens, "token")))
        chips.append(chip(muted("cost "), cost_text(info.cost)))
    return chips


def _picture(info: RunInfo) -> Html:
    if not info.described.get("steps"):
        return Html("")
    marks = {s.name: StepMark(s.state, s.engine, s.elapsed_s if s.state != "running" else None) for s in info.steps}
    return picture(pipeline_picture(info.described, marks), pipeline_line(info.described))


def _name(step: StepInfo | RouteInfo, parents: Mapping[str, str], kinds: Mapping[str, str], name: str) -> Html:
    parent = parents.get(name, "")
    label = name[len(parent) + 1 :] if parent and name.startswith(parent) else name
    kind = kinds.get(name, "").replace("_", " ")
    shown = tag("strong", label, style="font-weight: 600;")
    return join(muted("└ ") if parent else "", shown, join(" ", muted(kind)) if kind and step else "")


def _steps(info: RunInfo) -> Html:
    parents = {s.name: s.parent for s in info.steps}
    kinds = {s.name: s.kind for s in info.steps}
    rows = [
        (
            _name(s, parents, kinds, s.name),
            join(state_text(s.state), muted(f" try {s.attempts}") if s.attempts > 1 else ""),
            seconds_text(s.elapsed_s),
            _calls(s),
            count_text(s.tokens) if s.tokens else "",
            cost_text(s.cost) if s.calls else "",
            _why(s.engine, s.written or "; ".join(filter(None, (s.reason, s.note))), s.error),
        )
        for s in _nested(info.steps)
    ]
    columns = [
        Column("Step"),
        Column("State", wrap=False),
        number("Time"),
        number("LM calls"),
        number("Tokens"),
        number("Cost"),
        Column("Engine", width="40%"),
    ]
    return table_html(columns, rows, limit=None, empty="no step has begun")


def _nested(steps: Sequence[StepInfo]) -> list[StepInfo]:
    """Return the steps with each one's children right below it."""
    known = {s.name for s in steps}
    below: dict[str, list[StepInfo]] = {}
    for step in steps:
        below.setdefault(step.parent if step.parent in known and step.parent != step.name else "", []).append(step)
    ordered: list[StepInfo] = []

    def walk(parent: str) -> None:
        for step in below.pop(parent, ()):
            ordered.append(step)
            walk(step.name)

    walk("")
    return ordered


def _calls(step: StepInfo) -> Html:
    if not step.calls and not step.cache_hits:
        return Html("")
    return join(count_text(step.calls), muted(f" +{step.cache_hits} cached") if step.cache_hits else "")


def _why(engine: str, reason: str, error: str = "") -> Html:
    if error:
        return join(engine, tag("div", error, style="white-space: pre-wrap; overflow-wrap: anywhere;"))
    return join(engine, tag("div", muted(reason), style="font-size: 12px;") if reason else "")


def run_text(state: RunState | RunInfo) -> str:
    """Write a run as text."""
    info = _info(state)
    rows = [
        (
            f"└ {s.name}" if s.parent else s.name,
            s.state,
            seconds_text(s.elapsed_s),
            s.calls + s.cache_hits or "",
            s.tokens or "",
            cost_text(s.cost) if s.calls else "",
            s.engine,
            one_line(s.note or s.error, 60),
        )
        for s in _nested(info.steps)
    ]
    facts = f"{plural(info.calls, 'LM call')}, {info.cache_hits} from cache, cost {cost_text(info.cost)}"
    lines = [f"pipeline {info.name}: {info.status} in {seconds_text(info.elapsed_s)} ({facts})"]
    if info.described.get("steps"):
        lines.append(pipeline_line(info.described))
    sums = [number("time"), number("LM calls"), number("tokens"), number("cost")]
    lines.append(table_text(["step", "state", *sums, "engine", "note"], rows, limit=None))
    return "\n".join([*lines, info.error] if info.error else lines)


def plan_html(info: PlanInfo) -> str:
    """Draw a plan as HTML: the picture, and how each step will be served and why."""
    steps = {str(s.get("name")): s for s in info.described.get("steps") or ()}
    parents = {name: str(s.get("parent") or "") for name, s in steps.items()}
    kinds = {name: str(s.get("kind") or "") for name, s in steps.items()}
    for route in info.routes:  # of the steps inside a pipeline that is a step
        parents.setdefault(route.step, holder_of(route.step, parents))
    rows = [
        (
            info.rounds.get(r.step, ""),
            _name(r, parents, kinds, r.step),
            r.engine,
            r.pool,
            info.calls.get(r.step, ""),
            muted(r.reason),
        )
        for r in info.routes
    ]
    marks = {r.step: StepMark(engine=r.engine) for r in info.routes}
    drawing = picture(pipeline_picture(info.described, marks), pipeline_line(info.described)) if steps else ""
    columns = [
        Column("Round", wrap=False),
        Column("Step"),
        Column("Engine", wrap=False),
        Column("Pool", wrap=False),
        Column("Model calls", wrap=False),
        Column("Why", width="45%"),
    ]
    said = muted(f"{info.summary}; nothing has run yet" if info.summary else "nothing has run yet")
    return frame(heading(info.name, said, kind="plan"), drawing, table_html(columns, rows, limit=None))


def pipeline_html(described: Mapping[str, Any]) -> str:
    """Draw a pipeline as HTML: its picture, and what each step reads and writes."""
    rows = [
        (
            tag("strong", s.get("name", ""), style="font-weight: 600;"),
            str(s.get("kind") or "").replace("_", " "),
            ", ".join(s.get("reads") or ()),
            ", ".join(s.get("writes") or ()),
        )
        for s in described.get("steps") or ()
    ]
    drawing = picture(pipeline_picture(described), pipeline_line(described)) if rows else ""
    return frame(
        heading(described.get("name") or "pipeline", kind="pipeline"),
        drawing,
        table_html(["Step", "Kind", "Reads", "Writes"], rows),
    )


def plan_text(info: PlanInfo) -> str:
    """Write a plan as text."""
    rows = [
        (info.rounds.get(r.step, ""), r.step, r.engine, r.pool, info.calls.get(r.step, ""), one_line(r.reason, 90))
        for r in info.routes
    ]
    drawing = pipeline_text(info.described) + "\n" if info.described.get("steps") else ""
    head = ["round", "step", "engine", "pool", "calls", "why"]
    table = table_text(head, rows, limit=None, max_width=90)
    return f"plan {info.name}\n{drawing}{table}" + (f"\n{info.summary}" if info.summary else "")
