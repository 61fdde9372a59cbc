"""`dx.Pipeline`: steps joined by their fields, run in a call, in the background, or over a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.displays import show
from dspex_nb.api.mapping import run_rows
from dspex_nb.api.programs import program_of, refuse_unnamed
from dspex_nb.api.runs import Run
from dspex_nb.api.sessions import session
from dspex_nb.errors import MissingInputError, did_you_mean
from dspex_nb.pipelines import PipelineSpec, build, describe, to_python
from dspex_nb.predictions import Prediction
from dspex_nb.routing import Plan
from dspex_nb.routing import plan as plan_routes
from dspex_nb.runs.mapping import RowResult
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import PlanInfo, RouteInfo, pipeline_mermaid, plan_html, plan_text


class Pipeline:
    """Steps joined by the fields they read and write; order follows data.

    Args:
        name: Shown in views and in the run store.
        inputs: Input names to types; None takes the fields that are read and never written.
        **steps: Step constructors such as `dx.native(fn)` or `dx.predict("message -> desk")`.

    Raises:
        PlanError: The graph cannot run: two writers, a cycle, a field nobody writes.
    """

    def __init__(self, name: str, *, inputs: Mapping[str, Any] | None = None, **steps: Any) -> None:
        self.spec: PipelineSpec = build(name, steps, inputs=inputs)

    @classmethod
    def of(cls, spec: PipelineSpec) -> Pipeline:
        """Return the pipeline of a spec that was read from a cell."""
        pipeline = cls.__new__(cls)
        pipeline.spec = spec
        return pipeline

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.spec.name

    @property
    def required(self) -> list[str]:
        """Names of the inputs a call must give."""
        return [given.name for given in self.spec.inputs if given.required]

    def __call__(self, *unnamed: Any, **inputs: Any) -> Prediction:
        """Run on one row of inputs, each given by its name.

        Returns the fields of the steps nobody reads from; all fields are at `.fields`.

        Raises:
            MissingInputError: An input without a default is not given, or one is given without its name.
            StepError: A step failed; it names the cell line, the step, the cause and the next act.
            Cancelled: The user pressed ■.
        """
        refuse_unnamed(f"pipeline {self.name!r}", unnamed, self.required)
        now = session()
        return self.call_in(inputs, now, Scope(new_run_id(), now.bus))

    def call_in(self, inputs: Mapping[str, Any], now: Session, scope: Scope) -> Prediction:
        """Run on one row in a given session and scope, as a row of a map or a step of another pipeline."""
        outcome = execute(self.spec, self._plan(now), self.checked(inputs), session=now, scope=scope)
        return outcome.prediction(scope.run_id)

    def run(self, *, on_progress: Any = None, **inputs: Any) -> Run:
        """Start in the background and return its handle; showing the handle shows the run live."""
        return Run(self, self.checked(inputs), session(), on_progress=on_progress)

    async def acall(self, **inputs: Any) -> Prediction:
        """Run on one row without blocking the running event loop; cancelling the task cancels the run."""
        return await self.run(**inputs)

    def map(
        self, data: Any, n_jobs: int | None = None, on_error: str = "keep", on_progress: Any = None, *, live: bool = True
    ) -> Any:
        """Run on every row and return a DataFrame: the data's columns, the result's fields, and `error`.

        A column of the data named like a field that the pipeline writes is kept as `expected_…`, so that what was
        given never passes for what was answered; the field itself is then shown even if a later step reads it.

        Args:
            data: Dicts, examples, a DataFrame, or the path of a CSV, JSONL or Parquet file.
            n_jobs: Rows in flight; None and -1 mean the LM's `max_concurrency`.
            on_error: `"keep"` notes a row's error in its `error` column; `"raise"` stops at the first.
            on_progress: Called with each event.
            live: Whether a notebook shows the progress bar.

        Raises:
            DataError: A column that the pipeline reads is missing.
            Cancelled: The user pressed ■; nothing runs on, answers already received are in the cache.
        """
        import pandas as pd

        from dspex_nb.datasets import rows_of

        rows = [dict(row) for row in rows_of(data)]
        results = run_rows(
            program_of(self),
            rows,
            n_jobs=n_jobs,
            on_error=on_error,
            on_progress=on_progress,
            live=live,
        )
        given = {name: _column(self.spec, name) for row in rows[:1] for name in row}
        shown = [*(name for name in given if given[name] != name), *self.spec.result]
        records = [
            {
                **{given.get(name, name): value for name, value in row.items()},
                **{name: _field(result, name) for name in dict.fromkeys(shown)},
                "error": None if result.error is None else _short(result.error),
            }
            for row, result in zip(rows, results, strict=True)
        ]
        index = data.index if hasattr(data, "index") and hasattr(data, "columns") else None
        return pd.DataFrame(records, index=index)

    def plan(self) -> Plan:
        """Return each step's route and why; runs nothing."""
        return self._plan(session())

    def _plan(self, now: Session) -> Plan:
        return plan_routes(self.spec, now)

    def to_python(self) -> str:
        """Return plain Python that builds the same pipeline: no magics, no notebook."""
        return to_python(self.spec)

    def checked(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with defaults filled in.

        Raises:
            MissingInputError: One is missing, or one is given that the pipeline does not take.
        """
        known = {given.name: given for given in self.spec.inputs}
        for name in inputs:
            if name not in known:
                hint = f"{did_you_mean(name, known)}its inputs are {', '.join(known) or 'none'}"
                raise MissingInputError(f"pipeline {self.name!r} takes no input {name!r}", hint=hint)
        missing = [name for name in self.required if name not in inputs]
        if missing:
            call = ", ".join(f"{name}=…" for name in self.required)
            raise MissingInputError(f"pipeline {self.name!r} needs the input {missing[0]!r}", hint=f"call {self.name}({call})")
        return {name: inputs.get(name, given.default) for name, given in known.items()}

    def save(self, path: str | Path) -> Path:
        """Write the pipeline as readable Python, the same text as `to_python()`; `dx.load(path)` reads it back."""
        target = Path(path)
        target.write_text(self.to_python(), encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self.spec.steps)} steps)"

    def _ipython_display_(self) -> None:
        described = describe(self.spec)
        routes = [RouteInfo(r.step, r.engine, r.pool, r.reason) for r in self.plan().routes]
        info = PlanInfo(name=self.name, routes=routes, described=described)
        show(plan_html(info), plan_text(info), {"text/vnd.mermaid": pipeline_mermaid(described)})


def _column(spec: PipelineSpec, name: str) -> str:
    """Return what a column of the data is called in the result of a map."""
    ref = spec.fields.get(name)
    return f"expected_{name}" if ref is not None and ref.step else name


def _field(result: RowResult, name: str) -> Any:
    if result.prediction is None:
        return None
    return result.prediction.get(name, result.prediction.fields.get(name))


def _short(error: BaseException) -> str:
    return str(getattr(error, "message", "") or f"{type(error).__name__}: {error}")
