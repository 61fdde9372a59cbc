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
    """One scored candidate of a study; `info` holds its demos, instructions and state."""

    trial: int
    score: float
    best: float
    examples: int
    elapsed_s: float
    at: float
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LMUsage:
    """The LM calls of a run, summed. `calls` were sent; `cache_hits` were not."""

    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: int = 0
    cost: float | None = None
