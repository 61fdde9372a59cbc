"""The user's metric inside a study: counted, stoppable, its errors named instead of swallowed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from dspex_nb.bridge.watching import StudyWatch
from dspex_nb.errors import MetricError
from dspex_nb.metrics import resolve_metric

_ERRORS_UNTIL_HOPELESS = 10


class MetricFailed(BaseException):
    """Every score so far raised: going on would pay for nothing. `cause` is the MetricError to show."""

    def __init__(self, cause: MetricError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class WatchedMetric:
    """The user's metric.

    An error counts as score 0 and is shown with its example. Where every score so far raised, the study is given up.
    """

    def __init__(self, metric: Callable[..., Any], watch: StudyWatch, examples: Sequence[Any]) -> None:
        self.name = getattr(metric, "__name__", type(metric).__name__)
        self.__name__ = self.name  # DSPy titles columns with it
        self._metric, self._watch = resolve_metric(metric), watch
        self._lock = threading.Lock()
        self._succeeded = False
        self._failures = 0
        self._enough = max(1, min(_ERRORS_UNTIL_HOPELESS, len(examples)))

    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> Any:
        """Return the score, with its feedback where GEPA asks about one predictor; 0.0 where the metric raises."""
        self._watch.checkpoint()
        if prediction is None:  # SIMBA asks about an example that the program failed on; the failure is told already
            return 0.0
        place, index = self._watch.place(), self._watch.index_of(example)
        trial = None if place is None else place.trial
        try:
            score = self._metric(example, prediction, trace, pred_name, pred_trace)
        except Exception as error:  # noqa: BLE001 - it is the user's code
            failure = self._failure(error, index)
            self._watch.scored(trial, index, None, failure.message)
            self._count(failure)
            return 0.0
        self._succeeded = True
        if trial is not None and pred_name is None:
            self._watch.scored(trial, index, float(getattr(score, "score", score)), None)
        return score

    def _failure(self, error: Exception, index: int) -> MetricError:
        where = f"example {index}" if index >= 0 else "an example"
        text = error.message if isinstance(error, MetricError) else f"{type(error).__name__}: {error}"
        failure = MetricError(
            f"the metric {self.name!r} raised on {where}: {text}",
            hint=f"try it by hand: {self.name}(example, program(**example inputs))",
        )
        failure.__cause__ = error
        return failure

    def _count(self, failure: MetricError) -> None:
        with self._lock:
            self._failures += 1
            hopeless = not self._succeeded and self._failures >= self._enough
        if hopeless:
            raise MetricFailed(failure)
