"""The rows the store's readers return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dspex_nb.leases.owners import Owner


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run.

    Attributes:
        of: What it was: `"call"`, `"pipeline"`, `"map"`, `"evaluation"` or `"study"`.
        status: `"running"`, or how it ended: `"done"`, `"failed"`, `"stopped"`, `"cancelled"`, `"interrupted"`.
        started: Seconds since the epoch; `ended` is None while it runs.
        info: What `RunStarted.info` said; `result` what `RunEnded.info` said.
    """

    run_id: str
    name: str
    of: str
    status: str
    started: float
    ended: float | None
    owner: Owner
    error: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One candidate of a study.

    Attributes:
        seq: Sequence number of the event that last changed it.
        kind: `"start"` (the untouched program), `"candidate"` (scored on the whole validation set), `"minibatch"` (on a part
            of it or on training examples), `"full"` (scored on the whole set after minibatches) or `"result"`.
        status: `"running"`, `"done"`, `"failed"`, or `"stopped"` where the study ended first.
        best: The best score of the study by then.
        examples: How many it is scored on; `errors` of them ended in an error.
        at: Seconds since the epoch of its end, of its start while it runs.
        parent: The trial whose program it was made from.
        calls: Requests sent for it; `cache_hits` were served without one.
        cost: US dollars paid, None where a price is unknown; `saved_cost` what the hits had cost.
        info: `label`, `demos`, `bootstrapped`, `instructions`, `predictors` (by name: `instructions`, `demos`), `params` (what
            the optimizer chose), and `state` (DSPy's saved state) where it is not too large.
    """

    trial: int
    seq: int
    kind: str
    status: str
    score: float | None
    best: float | None
    examples: int
    errors: int
    elapsed_s: float
    at: float
    parent: int | None
    calls: int
    cache_hits: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    saved_cost: float | None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One example scored in a trial; `index` counts as in `RowScored`."""

    trial: int
    index: int
    seq: int
    score: float | None
    error: str | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class CallRow:
    """One LM call of a study; `trial` is None outside every trial, `cached` None if a request was sent."""

    seq: int
    trial: int | None
    index: int | None
    key: str
    model: str
    step: str
    cached: str | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    saved_cost: float | None
    elapsed_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class LMUsage:
    """The LM calls of a run, summed. `calls` were sent and answered, `errors` sent in vain; `cache_hits` were not sent.

    Attributes:
        cost: US dollars of the calls whose price is known, None if there is none; `unpriced` is how many have no known price.
        saved_cost: What the hits had cost, as far as that is known; `unpriced_hits` is how many hits say nothing of it.
    """

    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: int = 0
    cost: float | None = None
    saved_cost: float = 0.0
    unpriced: int = 0
    unpriced_hits: int = 0
