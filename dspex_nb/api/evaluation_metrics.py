"""The metrics of an evaluation: asked in DSPy where they are DSPy's judges, and known by name in a later kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import MetricError
from dspex_nb.metrics import Metric, resolve_metric
from dspex_nb.scopes import Scope


def in_dspy(metric: Metric) -> Metric:
    """Return the metric so that a DSPy judge inside it asks the session's model, where DSPy itself has none set."""
    dspy = sys.modules.get("dspy")
    if dspy is None or metric.bind is not None or is_builtin(metric.name):
        return metric

    def bind(now: Session, scope: Scope) -> Any:
        from dspex_nb.bridge import asking

        return asking(metric.score, now, scope)

    return replace(metric, bind=bind)


def is_builtin(name: str) -> bool:
    """Whether a metric of this name is one of ours, as every kernel has it."""
    from dspex_nb.metrics import BUILTIN

    return name.partition(":")[0].partition("@")[0] in {known.partition("@")[0] for known in BUILTIN}


def known_by_name(name: str, lower: Sequence[str]) -> Metric:
    """Return a metric by its name; one that was a function stands for its scores only."""
    try:
        return resolve_metric(name)
    except MetricError:
        return Metric(name, _lost, lower_is_better=name in lower)


def is_lost(metric: Metric) -> bool:
    """Whether a metric was a function of another kernel."""
    return metric.score is _lost


def _lost(*_: Any) -> float:
    raise MetricError("this metric is a function of another kernel", hint="give it again: .resume(metrics=…)")
