"""`dx.Pipeline`: steps joined by their fields, run in a call, in the background, or over a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dspex_nb.ambient import Session, current
from dspex_nb.api.displays import Watch, show
from dspex_nb.api.map_rows import frame_of, map_to, records_of
from dspex_nb.api.mapping import check_choice, iter_table
from dspex_nb.api.past_runs import resume_run
from dspex_nb.api.placing import placed
from dspex_nb.api.programs import is_dspy_module, refuse_unnamed
from dspex_nb.api.runs import Run
from dspex_nb.api.sessions import scope_here, session
from dspex_nb.errors import DataError, MissingInputError, PipelineError, did_you_mean
from dspex_nb.modules.state import jsonable
from dspex_nb.pipelines import PipelineSpec, build, describe, to_python
from dspex_nb.pipelines.saving import digest, to_saved, write_saved
from dspex_nb.pools import Pool
from dspex_nb.predictions import Prediction
from dspex_nb.routing import Plan
from dspex_nb.routing import plan as plan_routes
from dspex_nb.runs.row_files import RowFile
from dspex_nb.runs.rows import RowCall, row_runner
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.step_cache import noted
from dspex_nb.runs.tuning import GraphRunner, tunable_steps, with_state
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures.accepting import accept_of, taken
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

    def __reduce__(self) -> tuple[Any, ...]:
        return Pipeline.of, (self.spec,)  # plans are of a session, and stay with it

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.spec.name

    @property
    def required(self) -> list[str]:
        """Names of the inputs a call must give."""
        return list(self._inputs().required)

    def __call__(self, *unnamed: Any, on_progress: Any = None, **inputs: Any) -> Prediction:
        """Run on one row of inputs, each given by its name; `on_progress` is called with each event.

        Returns the fields of the steps nobody reads from; all fields are at `.fields`.

        Raises:
            MissingInputError: An input without a default is not given, or one is given without its name.
            StepError: A step failed; it names the cell line, the step, the cause and the next act.
            Cancelled: The user pressed ■.
        """
        refuse_unnamed(f"pipeline {self.name!r}", unnamed, self._inputs().required)
        now = session()
        scope = scope_here(own_steps=True)
        if on_progress is None:
            return self.call_in(inputs, now, scope)
        with Watch(scope, None, str, str, live=False, on_progress=on_progress):
            return self.call_in(inputs, now, scope)

    def call_in(self, inputs: Mapping[str, Any], now: Session, scope: Scope) -> Prediction:
        """Run on one row in a given session and scope, as a row of a map or a step of another pipeline."""
        outcome = execute(self.spec, self.planned(now), self.checked(inputs), session=now, scope=scope)
        return outcome.prediction(scope.run_id)

    def for_rows(self, now: Session) -> tuple[Any, RowCall | None]:
        """Return what runs a row of many in a thread, and its async twin where no step would hold up an event loop."""
        planned = self.planned(now)

        def call(row: dict[str, Any], scope: Scope) -> Prediction:
            return execute(self.spec, planned, self.checked(row), session=now, scope=scope).prediction(scope.run_id)

        return call, None if now.lm is None else row_runner(self.spec, planned, now)

    def run(self, *, on_progress: Any = None, stream: bool = True, **inputs: Any) -> Run:
        """Start in the background and return its handle; showing the handle shows the run live.

        Args:
            on_progress: Called with each event.
            stream: Whether native LM steps tell their texts while the model writes them, by output field, as
                `TokenReceived` events: `async for event in pipe.run(…)`, `run.events`, and in the live view. Steps served by
                DSPy, steps with several samples and those under `over=` tell nothing before they end.
            **inputs: The pipeline's inputs.

        Raises:
            MissingInputError: One is missing, or one is given that the pipeline does not take.
        """
        return Run(self, self.checked(inputs), session(), on_progress=on_progress, stream=stream)

    async def acall(self, **inputs: Any) -> Prediction:
        """Run on one row without blocking the running event loop; cancelling the task cancels the run."""
        on_progress = inputs.pop("on_progress", None)
        return await Run(
            self, self.checked(inputs), session(), on_progress=on_progress, keep=False
        )  # nobody holds it to resume it

    def map(
        self,
        data: Any,
        n_jobs: int | None = None,
        on_error: str = "keep",
        on_progress: Any = None,
        *,
        live: bool = True,
        return_as: str = "frame",
        order: str = "rows",
        out: str | Path | None = None,
        backend: str | Pool | None = None,
    ) -> Any:
        """Run on every row and return a DataFrame: the data's columns, the result's fields, and `error`.

        A column of the data named like a field that the pipeline writes is kept as `expected_…`, so that what was
        given never passes for what was answered; the field itself is then shown even if a later step reads it.

        A map that was stopped or killed is run again with the same call: answers that were received come from the cache, and
        with `out=` rows that are in the file are not run again, as long as their inputs, the pipeline and the model are the same.

        Args:
            data: Dicts, examples, a generator of them, a DataFrame, or the path of a CSV, JSONL or Parquet file; JSONL and
                Parquet are read as they are needed.
            n_jobs: Rows in flight; None and -1 mean the LM's `max_concurrency`, -2 one less.
            on_error: `"keep"` notes a row's error in its `error` column; `"raise"` stops at the first.
            on_progress: Called with each event.
            live: Whether a notebook shows the progress bar, with rate and time left.
            return_as: `"frame"`; `"generator"` gives each row as a dict and holds only those in flight;
                `"generator_unordered"` gives them as they end.
            order: `"rows"`, or `"finished"`: as they end, with the row's number as `row` or, in a DataFrame, as its index.
            out: A `.jsonl` or `.parquet` file that the rows are written to as they end; its path is returned.
            backend: Where rows run: None here; `"loky"`, `"dask"` or `"ray"` in the session's pool of that backend; or a pool.
                There a slot runs one row at a time, and `n_jobs` is twice the slots by default.

        Raises:
            DataError: A column that the pipeline reads is missing.
            LMNotConfiguredError: A step needs an LM and none is set.
            Cancelled: The user pressed ■; nothing runs on, answers already received are in the cache.
        """
        check_choice("return_as", return_as, ("frame", "generator", "generator_unordered"))
        check_choice("order", order, ("rows", "finished"))
        now = session()
        if self.planned(now).needs_lm:
            now.require_lm()
        ordered = order == "rows" and return_as != "generator_unordered"
        options = {"n_jobs": n_jobs, "on_error": on_error, "on_progress": on_progress, "live": live, "ordered": ordered}
        program = placed(self, backend=backend)
        if out is not None:
            file = RowFile(out, self.identity(now) or new_run_id())
            return map_to(file, self.spec, partial(iter_table, program, data, **options))
        records = records_of(self.spec, iter_table(program, data, **options), numbered=not ordered)
        return records if return_as != "frame" else frame_of(self.spec, records, data, numbered=not ordered)

    def plan(self) -> Plan:
        """Return each step's route and why; runs nothing."""
        now = session()
        found = self.planned(now)
        return replace(found, routes=noted(self.spec, found.routes, on=now.steps is not None and now.cache is not None))

    def planned(self, now: Session) -> Plan:
        """Return the plan for a session, made once for as long as neither it nor the pipeline changes."""
        found = getattr(self, "_planned", None)
        if found is None or found[0] is not self.spec or found[1] is not now:
            fixed = plan_routes(self.spec, now)
            if any(step.pool is not None for step in self.spec.all_steps()):
                return fixed  # a pool may be closed, or made anew, between two runs
            found = self._planned = (self.spec, now, fixed)
        return found[2]

    def resume(self, run_id: str | None = None, /, *, on_progress: Any = None, **inputs: Any) -> Run:
        """Continue a failed, stopped or killed run of this pipeline from its last finished step, in any kernel.

        Steps whose definition is unchanged, with all before them, are not run again; what could not be kept is.

        Args:
            run_id: The run; None means the latest of this pipeline's name that did not get done.
            on_progress: Called with each event.
            **inputs: Its inputs, only where they could not be kept.

        Raises:
            DSPexError: There is no such run, it still runs, or it is done.
            MissingInputError: Its inputs could not be kept and are not given.
        """
        return resume_run(self, run_id, session(), inputs, on_progress)

    def to_python(self) -> str:
        """Return plain Python that builds the same pipeline: no magics, no notebook."""
        return to_python(self.spec, _recipe)

    def as_dspy(self) -> Any:
        """Return a `dspy.Module` that DSPy's optimizers tune: each LM step is a named predictor of it.

        Calling it runs the pipeline's graph, on DSPy's LM where one is set, else on the session's. What it learned comes back
        with `adopt`.
        """
        from dspex_nb.bridge import RESERVED, Assembled, Part

        session()  # makes the cache and the store, before a program looks at the session from elsewhere
        parts = [
            Part(one.name, one.path, one.program, one.step.signature, one.options, one.inner, one.step.state,
                 one.step.adapter, one.step.cache)
            for one in tunable_steps(self.spec, RESERVED)
        ]  # fmt: skip
        return Assembled(self.name, parts, GraphRunner(self.spec), current)

    def adopt(self, tuned: Any) -> Pipeline:
        """Take demos, instructions and descriptions from a tuned module of `as_dspy()`, or its state; returns this pipeline.

        Raises:
            DataError: It is of another pipeline. Nothing is changed.
        """
        return self.load_state(tuned if isinstance(tuned, Mapping) else tuned.dump_state())

    def dump_state(self) -> dict[str, Any]:
        """Return what `as_dspy().load_state` takes: the demos, instructions and descriptions of each LM step."""
        state: dict[str, Any] = self.as_dspy().dump_state()
        return state

    def load_state(self, state: Mapping[str, Any]) -> Pipeline:
        """Take demos, instructions and descriptions from a state; returns this pipeline.

        Raises:
            DataError: It is of another pipeline. Nothing is changed.
        """
        from dspex_nb.bridge import RESERVED

        self.spec = with_state(self.spec, jsonable(dict(state)), RESERVED)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Pipeline:
        return Pipeline.of(self.spec)

    def checked(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with defaults filled in.

        Raises:
            MissingInputError: One is missing, or one is given that the pipeline does not take.
        """
        takes = self._inputs()
        known = takes.known
        for name in inputs:
            if name not in known:
                hint = f"{did_you_mean(name, known)}its inputs are {', '.join(known) or 'none'}"
                raise MissingInputError(f"pipeline {self.name!r} takes no input {name!r}", hint=hint)
        for name in takes.required:
            if name not in inputs:
                call = ", ".join(f"{name}=…" for name in takes.required)
                raise MissingInputError(f"pipeline {self.name!r} needs the input {name!r}", hint=f"call {self.name}({call})")
        values = {name: inputs[name] if name in inputs else given.fresh() for name, given in known.items()}
        return taken(takes.makers, values, paths=True) if takes.makers else values  # what the user gave may name files

    def _inputs(self) -> _Inputs:
        """Return what a call may give, made once for as long as the pipeline does not change."""
        found: tuple[PipelineSpec, _Inputs] | None = getattr(self, "_takes", None)
        if found is None or found[0] is not self.spec:
            found = self._takes = (self.spec, _Inputs(self.spec))
        return found[1]

    def identity(self, now: Session) -> str:
        """Return a text that is equal only where rows give the same results in a session; empty where that cannot be told."""
        try:
            made = digest(self.spec, _recipe)
        except PipelineError:  # it cannot be written down
            return ""
        return f"{made} {getattr(now.lm, 'model', '')} {getattr(now.adapter, 'name', now.adapter)}"

    def save(self, path: str | Path) -> Path:
        """Write the pipeline to a file that `dx.load(path)` reads back.

        A `.json` file holds inputs, steps and what was learned; functions by where they are imported from, those of the notebook
        as source. A `.py` file holds the same text as `to_python()`.

        Raises:
            DataError: The path ends in neither, or cannot be written.
            PipelineError: The pipeline holds something that cannot be written, or a password.
        """
        target = Path(path)
        if target.suffix not in (".json", ".py"):
            hint = f"save to {target.with_suffix('.json').name!r}, or to {target.with_suffix('.py').name!r} as plain Python"
            raise DataError(f"{target.name}: a pipeline is saved as JSON or as Python", hint=hint)
        try:
            if target.suffix == ".json":
                write_saved(target, to_saved(self.spec, _recipe))
            else:
                text = self.to_python()
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{target} cannot be written: {error.strerror or error}", hint="give another path") from error
        return target

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self.spec.steps)} steps)"

    def mermaid(self) -> str:
        """Return the picture of the pipeline as a Mermaid flowchart's text."""
        return pipeline_mermaid(describe(self.spec))

    def _ipython_display_(self) -> None:
        self.display()

    def display(self) -> None:
        """Show the picture and the plan."""
        described = describe(self.spec)
        found = self.plan()
        routes = [RouteInfo(r.step, r.engine, r.pool, r.reason) for r in found.routes]
        rounds = {name: str(number) for number, names in enumerate(found.levels, 1) for name in names}
        calls = {name: str(calls) for name, calls in found.estimates.items()}
        info = PlanInfo(self.name, routes, described, rounds, calls, found.summary)
        show(plan_html(info), plan_text(info), {"text/vnd.mermaid": pipeline_mermaid(described)})


def _recipe(module: Any) -> Any:
    """Say how a `dspy.Module` object is made again; None for anything else, and where it cannot be said."""
    if not is_dspy_module(module):
        return None
    from dspex_nb.bridge import module_recipe

    return module_recipe(module)


class _Inputs:
    """What a call gives a pipeline.

    Attributes:
        known: Each input by its name.
        required: Names of those without a default.
        makers: How those are taken whose types say how.
    """

    __slots__ = ("known", "makers", "required")

    def __init__(self, spec: PipelineSpec) -> None:
        self.known = {given.name: given for given in spec.inputs}
        self.required = tuple(given.name for given in spec.inputs if given.required)
        found = {name: accept_of(given.type) for name, given in self.known.items()}
        self.makers = {name: accept for name, accept in found.items() if accept is not None}
