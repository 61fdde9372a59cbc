"""What a pipeline's run leaves behind: every field, every step's fate, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dspex_nb.messages import Usage
from dspex_nb.predictions import Facts, Prediction, Route

STEP_TIER, KEPT_TIER = "steps", "kept"
"""What `cached` says of a result from the step cache, and of one from an earlier attempt of the same run."""
NOTHING = Usage()


class Written(Struct, gc=False):  # structs, for what making one costs at every step and run
    """What a step wrote, and what it took.

    Attributes:
        cached: The tier that served it: the LM cache's, `"steps"` (the step cache) or `"kept"` (an earlier attempt of the run).
        note: What the user should know of it: why its result was not cached.
    """

    fields: dict[str, Any]
    usage: Usage = NOTHING
    cost: float | None = 0.0
    cached: str | None = None
    attempts: int = 1
    note: str = ""


class Gapped(dict[str, Any]):
    """The fields of a step that went through a list and failed at some items, which are None; `gaps` are their numbers."""

    def __init__(self, fields: Mapping[str, Any], gaps: frozenset[int]) -> None:
        super().__init__(fields)
        self.gaps = gaps


class StepResult(Struct, gc=False):
    """One step's fate.

    Attributes:
        status: `"done"`, `"cached"` (not run: its result was kept), `"failed"` (and the run went on), or `"skipped"`.
        error: The message of what failed, or why it was skipped.
        usage: Tokens and calls; those of inner steps are in it.
        cost: US dollars, None where a price is unknown.
        cached: The tier that served it if no request was sent, else None.
        started_s: Seconds from the run's start.
        attempts: How often it was tried.
        note: What the user should know of it: why its result was not cached.
    """

    status: str
    elapsed_s: float = 0.0
    error: str | None = None
    usage: Usage = NOTHING
    cost: float | None = 0.0
    cached: str | None = None
    route: Route | None = None
    started_s: float = 0.0
    attempts: int = 1
    note: str = ""


class Outcome(Struct):
    """A finished run of a pipeline.

    Attributes:
        outputs: The fields of the steps nobody reads from.
        fields: Every shared field in its last version, inputs too.
        results: What each step wrote, its hidden fields (`reasoning`) too, by its name; `""` holds the inputs.
        step_results: Each step's fate, inner ones as `outer/inner` and `parent.child`.
        timings: Seconds of each step that ran.
    """

    outputs: Mapping[str, Any]
    fields: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    step_results: Mapping[str, StepResult]
    elapsed_s: float = 0.0
    usage: Usage = NOTHING
    cost: float | None = 0.0
    cached: str | None = None

    @property
    def by_step(self) -> dict[str, Mapping[str, Any]]:
        """What each step wrote, without the inputs."""
        return {name: fields for name, fields in self.results.items() if name}

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of each step that ran."""
        return {name: result.elapsed_s for name, result in self.step_results.items() if result.status != "skipped"}

    def prediction(self, run_id: str = "") -> Prediction:
        """Return the outputs as a prediction, with all fields at `.fields`."""
        facts = Facts(
            usage=self.usage, cost=self.cost, run_id=run_id, elapsed_s=self.elapsed_s, cached=self.cached, fields=self.fields
        )
        return Prediction(self.outputs, facts)


def total(results: Mapping[str, StepResult]) -> tuple[Usage, float | None, str | None]:
    """Sum what the outermost steps took: a child's and an inner step's share is in its parent's already."""
    usage, cost, tiers = NOTHING, 0.0, []
    unknown = False
    for result in results.values():
        if result.usage is not NOTHING and (result.usage.calls or result.usage.cache_hits):
            usage = usage + result.usage
            tiers.append(result.cached)
        if result.cost is None:
            unknown = True
        else:
            cost += result.cost
    return usage, None if unknown else cost, tiers[0] if tiers and all(tiers) else None
