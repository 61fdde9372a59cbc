"""`Plan`: what a pipeline will do, before anything runs: order, routes and why, the calls to expect and what they may cost."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.pipelines.records import PipelineSpec
from dspex_nb.predictions import Route
from dspex_nb.routing.deciding import routes_of
from dspex_nb.routing.estimates import Estimate, estimate, total

_HEAD = ("round", "step", "engine", "pool", "calls", "why")


@dataclass(frozen=True, slots=True)
class Plan:
    """The route of every step, inner ones included (`outer/inner`, `parent.child`). Prints as a table.

    Attributes:
        name: The pipeline's.
        routes: In cell order, each followed by its children's.
        compiled: What the scheduler derives from spec and plan once and uses in each run; no part of the plan's value.
        spec: The pipeline; order and estimates are read from it when they are asked for, so that a run does not pay for them.
        session: The session it was planned for.
    """

    name: str
    routes: tuple[Route, ...]
    compiled: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    spec: PipelineSpec | None = field(default=None, compare=False, repr=False)
    session: Session | None = field(default=None, compare=False, repr=False)

    def __getitem__(self, step: str) -> Route:
        for route in self.routes:
            if route.step == step:
                return route
        raise KeyError(step)

    @property
    def needs_lm(self) -> bool:
        """Whether a step calls a language model."""
        return any(route.engine != "python" for route in self.routes)

    @property
    def levels(self) -> list[tuple[str, ...]]:
        """The steps in rounds: those of one round may run at once, each round needs the ones before it."""
        return [] if self.spec is None else self.spec.levels()

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The calls that each step makes and what they may cost, by the names of `routes`; steps without calls are left out."""
        if self.spec is None or self.session is None:
            return {}
        found: Mapping[str, Estimate] | None = self.compiled.get("estimates")
        if found is None:
            found = {name: made for name, made in estimate(self.spec.steps, self.session) if made}
            self.compiled["estimates"] = found
        return found

    @property
    def calls(self) -> tuple[int, int | None]:
        """The fewest and the most calls to a model that one run makes; None where there is no telling."""
        whole = total(self.estimates.values())
        return whole.least, whole.most

    @property
    def cost(self) -> float | None:
        """What one run may cost in US dollars by its likely calls; None where a price or a number of calls is unknown."""
        return total(self.estimates.values()).cost

    def rows(self) -> list[tuple[str, ...]]:
        """Return the plan as rows of text: round, step, engine, pool, calls, why."""
        rounds = {name: str(number) for number, names in enumerate(self.levels, 1) for name in names}
        estimates = self.estimates
        return [(rounds.get(r.step, ""), r.step, r.engine, r.pool, str(estimates.get(r.step, "")), r.reason) for r in self.routes]

    @property
    def summary(self) -> str:
        """What one run makes, in a line: `3 rounds; 1 to 5 model calls; about $0.0012`."""
        rounds = len(self.levels)
        whole = total(self.estimates.values())
        told = [f"{rounds} round{'s' if rounds != 1 else ''}", f"{whole or 'no'} model call{'' if str(whole) == '1' else 's'}"]
        if whole.most != 0:
            told.append("cost unknown" if whole.cost is None else f"about ${whole.cost:.2g}" if whole.cost else "no cost")
        return "; ".join(told)

    def __str__(self) -> str:
        rows = [_HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows]
        return "\n".join([*lines, self.summary])

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align: left'>{name}</th>" for name in _HEAD)
        cells = ("".join(f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row) for row in self.rows())
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        caption = f"<caption style='text-align: left'>{html.escape(self.name)}: {html.escape(self.summary)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plan(spec: PipelineSpec, session: Session) -> Plan:
    """Return the route of each step.

    Raises:
        PlanError: A step asks for what cannot be: `engine="native"` for a signature that only DSPy serves, a pool that
            does not exist, an LM step in a pool of processes, a sandbox that is not installed.
    """
    return Plan(spec.name, tuple(routes_of(spec.steps, session, source=spec.source)), spec=spec, session=session)
