"""The display of an evaluation: how far it is and the rows so far, in the end its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.api.displays import Watch
from dspex_nb.api.evaluations import Evaluation
from dspex_nb.scopes import Scope
from dspex_nb.views import (
    ExampleTable,
    ProgressInfo,
    ProgressState,
    evaluating_html,
    evaluation_html,
    evaluation_live_html,
    evaluation_text,
    labels_bundle,
    progress_html,
    progress_text,
)


class LiveEvaluation:
    """Shown while its `watch` is entered.

    Args:
        name: The title.
        metrics: Their names, the main one first.
        total: Rows in all.
        scope: The run's.
        done: Rows of an earlier attempt, as the table takes them.
        on_progress: Called with each event.

    Attributes:
        table: The rows so far.
        evaluation: The result, once there is one.
    """

    def __init__(
        self, name: str, metrics: Sequence[str], total: int, scope: Scope, done: Sequence[Any], on_progress: Any = None
    ) -> None:
        self.table = ExampleTable(metrics, done)
        self.evaluation: Evaluation | None = None
        self._total, self._main = total, metrics[0]
        self._state = ProgressState(run_id=scope.run_id, title=name, total=self._total)
        self.watch = Watch(
            scope, self._state, self._html, self._text, on_progress=on_progress, actions={"cancel": scope.cancel.cancel},
            figure=lambda: labels_bundle(self.evaluation.info()) if self.evaluation else None, choose=self.table.choose,
            still=lambda: evaluation_html(self.evaluation.info()) if self.evaluation else progress_html(self._progress()),
        )  # fmt: skip

    def end(self, evaluation: Evaluation | None) -> None:
        """Show the result from now on."""
        self.evaluation = evaluation

    def _progress(self) -> ProgressInfo:
        """Return how far it is, rows of an earlier attempt included."""
        done, errors = self.table.done
        info = self._state.snapshot()
        return replace(info, done=done, total=self._total, errors=errors, metric=self._main, score=self.table.mean)

    def _html(self) -> str:
        if self.evaluation is not None:
            return evaluation_live_html(self.evaluation.info(), self.table)
        return evaluating_html(self._progress(), self.table)

    def _text(self) -> str:
        return evaluation_text(self.evaluation.info()) if self.evaluation is not None else progress_text(self._progress())
