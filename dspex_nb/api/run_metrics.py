"""A run's metrics, from what its events told: seconds, calls, tokens, cost and route of each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dspex_nb.messages import Usage
from dspex_nb.views import RunInfo

COLUMNS = (
    "step", "status", "seconds", "calls", "cache_hits", "tokens", "cost", "engine", "pool", "reason", "note", "error",
)  # fmt: skip


def metric_rows(info: RunInfo) -> list[dict[str, Any]]:
    """Return a JSON-able row a step, in the order of the cell."""
    return [
        {
            "step": one.name,
            "status": one.state,
            "seconds": one.elapsed_s,
            "calls": one.calls,
            "cache_hits": one.cache_hits,
            "tokens": one.tokens,
            "cost": one.cost,
            "engine": one.engine,
            "pool": one.pool,
            "reason": one.reason,
            "note": one.note,
            "error": one.error,
        }
        for one in info.steps
    ]


def metric_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return the rows as a DataFrame, indexed by step."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS)).set_index("step")


def timings_of(info: RunInfo) -> dict[str, float]:
    """Return the seconds of each step that began."""
    return {one.name: one.elapsed_s for one in info.steps if one.elapsed_s is not None and one.state != "waiting"}


def usage_of(info: RunInfo) -> Usage:
    """Return the run's calls and tokens."""
    return Usage(
        prompt_tokens=info.prompt_tokens,
        completion_tokens=info.completion_tokens,
        calls=info.calls,
        cache_hits=info.cache_hits,
    )
