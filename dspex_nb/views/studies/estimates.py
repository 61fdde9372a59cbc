"""What a study will still take, from its last trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dspex_nb.views.studies.snapshots import StudySnapshot

_LAST = 20
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and US dollars to go, None where nobody can say; `word` is `"about"` or, where only a bound is known, `"up to"`."""

    seconds: float | None = None
    cost: float | None = None
    word: str = "about"


def estimate_to_go(snapshot: StudySnapshot) -> Estimate:
    """Return the mean of the last 20 trials times those left, less what the running one has taken.

    Where the number of trials is unknown, the calls made so far and the most there may be give a bound.
    """
    if snapshot.facts.live and not snapshot.facts.total:
        return _bound(snapshot)
    facts, trials = snapshot.facts, snapshot.trials
    ended = np.flatnonzero(np.isin(trials.status, ("done", "failed")))[-_LAST:]
    left = facts.total - snapshot.done
    if not facts.live or not facts.total or len(ended) < _LEAST:
        return Estimate()
    left = max(left, 0)
    done = facts.done_rows / facts.total_rows if facts.total_rows else 0.0
    share = max(left - min(done, 1.0), 0.0)
    times, costs = trials.elapsed_s[ended], trials.cost[ended]
    seconds = float(np.nanmean(times)) * share if np.isfinite(times).any() else None
    return Estimate(seconds, float(costs.mean()) * share if np.isfinite(costs).all() else None)


def _bound(snapshot: StudySnapshot) -> Estimate:
    facts = snapshot.facts
    asked = facts.calls + facts.cache_hits
    if not facts.expected_calls or asked < _LEAST * _LAST:
        return Estimate()
    more = max(facts.expected_calls / asked - 1, 0.0)
    return Estimate(facts.elapsed_s * more, None if facts.unpriced else facts.paid * more, "up to")
