"""Metrics: pure functions of a prediction and a reference, and how they are applied to examples."""

from dspex_nb.metrics.applied import Metric, resolve_metric, resolve_metrics
from dspex_nb.metrics.intervals import Interval, mean_interval, paired_interval
from dspex_nb.metrics.values import BUILTIN, contains, exact_match, f1, numeric_match

__all__ = [
    "BUILTIN",
    "Interval",
    "Metric",
    "contains",
    "exact_match",
    "f1",
    "mean_interval",
    "numeric_match",
    "paired_interval",
    "resolve_metric",
    "resolve_metrics",
]
