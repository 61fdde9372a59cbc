"""A pipeline seen by DSPy's optimizers: its LM steps as parts, its graph run by the scheduler, what they learn put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.bridge.plans import Inner
from dspex_nb.errors import DataError, did_you_mean
from dspex_nb.events import Bus
from dspex_nb.pipelines.records import PipelineSpec, Step
from dspex_nb.routing import plan
from dspex_nb.routing.capabilities import votes
from dspex_nb.runs.chains import CHAINS, TEMPERATURE, vote, voting_program
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.spreading import spread_outputs
from dspex_nb.scopes import Scope, new_run_id

_PLAIN = frozenset({"function", "reduce", "template", "parallel", "retriever", "rerank", "respond", "pipeline"})


@dataclass(frozen=True, slots=True)
class GraphRunner:
    """Runs a pipeline's graph with its LM steps called from outside. It crosses to a study's process with the pipeline."""

    spec: PipelineSpec

    def __call__(self, calls: Mapping[str, Callable[..., Any]], inputs: Mapping[str, Any], session: Session) -> dict[str, Any]:
        """Return the outputs for one row."""
        spec = _with_calls(self.spec, calls, "")
        quiet = Bus(keep=0)  # a trial's rows are no runs of their own
        outcome = execute(spec, plan(spec, session), inputs, session=session, scope=Scope(new_run_id(), quiet))
        return {name: ref.read(outcome.by_step) for name, ref in self.spec.result.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphRunner:
        return self


@dataclass(frozen=True, slots=True)
class TunableStep:
    """An LM step, its full name, and the path of attributes that names it in a `dspy.Module`."""

    step: Step
    name: str
    path: str

    @property
    def program(self) -> Any:
        """What a part is made of: a kind, a module, or the native program."""
        if self.step.kind == "multi_chain_comparison" and votes(self.step):
            return voting_program(self.step)
        return self.step.callable if self.step.callable is not None else self.step.kind

    @property
    def options(self) -> dict[str, Any]:
        """The step's options that the part is made with; those of voting chains are given at each call."""
        if self.step.kind == "multi_chain_comparison" and votes(self.step):
            return {}
        return dict(self.step.options)

    @property
    def inner(self) -> Inner | None:
        """The step inside `best_of_n` and `refine`."""
        if not self.step.children:
            return None
        child = self.step.children[0]
        return Inner(child.callable if child.callable is not None else child.kind, child.signature, child.options)


def tunable_steps(spec: PipelineSpec, reserved: frozenset[str] = frozenset()) -> Iterator[TunableStep]:
    """Yield the LM steps of a pipeline, of its children, fallbacks and inner pipelines."""
    for step in spec.steps:
        yield from _tunable(step, "", "", reserved)


def _tunable(step: Step, prefix: str, group: str, reserved: frozenset[str]) -> Iterator[TunableStep]:
    label = f"{step.label}_step" if step.label in reserved else step.label
    name, path = prefix + step.name, group + label
    if step.kind not in _PLAIN:
        yield TunableStep(step, name, path)
    elif step.kind == "parallel":
        for child in step.children:
            yield from _tunable(child, prefix, f"{path}.", reserved)
    elif step.kind == "pipeline":
        for inner in step.callable.steps:
            yield from _tunable(inner, f"{name}/", f"{path}.", reserved)
    if isinstance(step.on_error, Step):
        yield from _fallback(step.on_error, prefix, f"{path}_", reserved)


def _fallback(step: Step, prefix: str, group: str, reserved: frozenset[str]) -> Iterator[TunableStep]:
    yield from _tunable(step, prefix, group, reserved)  # `triage_on_error` stands beside `triage`


def with_state(spec: PipelineSpec, state: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> PipelineSpec:
    """Return the pipeline with what was learned in its steps.

    Args:
        spec: The pipeline.
        state: As `dump_state` of the pipeline's `dspy.Module` gives it.
        reserved: As `tunable_steps` takes it.

    Raises:
        DataError: It is of another pipeline. Nothing is changed.
    """
    left = {name: one for name, one in state.items() if name != "metadata"}
    learned: dict[str, Any] = {}
    for one in sorted(tunable_steps(spec, reserved), key=lambda each: -len(each.path)):
        mine = [key for key in left if key == one.path or key.startswith(f"{one.path}.")]
        if mine:
            own = {key[len(one.path) + 1 :]: left.pop(key) for key in mine}
            learned[one.name] = own.get("", own)
    if left or not learned:
        known = [one.path for one in tunable_steps(spec, reserved)]
        found = next(iter(left), "nothing")
        raise DataError(
            f"this state is not of the pipeline {spec.name!r}: it holds {found!r}",
            hint=f"{did_you_mean(found, known)}its LM steps are {', '.join(known) or 'none'}",
        )
    _check(spec, learned, reserved)
    return _changed(spec, lambda step, name: replace(step, state=learned[name]) if name in learned else step, "")


def _check(spec: PipelineSpec, learned: Mapping[str, Any], reserved: frozenset[str]) -> None:
    """Refuse a native step's state that is of another signature, before a run trips over it."""
    for one in tunable_steps(spec, reserved):
        state = learned.get(one.name)
        signature = getattr(one.program, "base_signature", one.step.signature)
        held = state and state.get("predict", state).get("signature") if isinstance(state, Mapping) else None
        if held and one.step.kind in ("predict", "chain_of_thought") and signature is not None:
            own = len(signature.fields) + (one.step.kind == "chain_of_thought")
            if len(held["fields"]) != own:
                raise DataError(
                    f"the state of step {one.name!r} is of a signature with {len(held['fields'])} fields, the step's has {own}",
                    hint="load it into the pipeline that was tuned",
                )


def _changed(spec: PipelineSpec, change: Callable[[Step, str], Step], prefix: str) -> PipelineSpec:
    """Return the pipeline with each step changed, inner ones first."""

    def of(step: Step) -> Step:
        name = prefix + step.name
        step = replace(
            step,
            children=tuple(of(child) for child in step.children),
            on_error=of(step.on_error) if isinstance(step.on_error, Step) else step.on_error,
            callable=_changed(step.callable, change, f"{name}/") if step.kind == "pipeline" else step.callable,
        )
        return change(step, name)

    return replace(spec, steps=tuple(of(step) for step in spec.steps))


def _with_calls(spec: PipelineSpec, calls: Mapping[str, Callable[..., Any]], prefix: str) -> PipelineSpec:
    def call(step: Step, name: str) -> Step:
        if step.kind == "template" and step.options.get("call"):
            return _as_function(step, _asking(step, calls[""]), step.writes)
        if name not in calls:
            return step
        run = _voting(step, calls[name]) if votes(step) and step.kind == "multi_chain_comparison" else _running(step, calls[name])
        return _as_function(step, run, (*step.writes, *step.hidden))

    return _changed(spec, call, prefix)


def _as_function(step: Step, run: Callable[..., Any], writes: tuple[str, ...]) -> Step:
    return replace(
        step, kind="function", callable=run, signature=None, writes=writes, options={}, children=(), engine=None, adapter=None,
        pool=None, positional=(), state=None, cache=None,
    )  # fmt: skip


def _running(step: Step, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **values: _shaped(step, call(**values))


def _shaped(step: Step, outputs: Mapping[str, Any]) -> Any:
    """Return what a function that writes the same fields returns: the value of one field, a mapping of several."""
    fields = {**dict.fromkeys(step.hidden), **spread_outputs(step, outputs)}
    return fields if len(fields) > 1 else next(iter(fields.values()))


def _voting(step: Step, call: Callable[..., Any]) -> Callable[..., Any]:
    options = {name: value for name, value in step.options.items() if name not in ("chains", "aggregation", "demos", "n")}
    first = options.pop("rollout_id", None) or 0
    count = step.options.get("chains") or CHAINS

    def run(**values: Any) -> Any:
        configs = ({"temperature": TEMPERATURE, **options, "rollout_id": first + number + 1} for number in range(count))
        chains = [call(config=config, **values) for config in configs]
        return _shaped(step, vote(chains, step.writes, weighted=step.options.get("aggregation") == "weighted_vote"))

    return run


def _asking(step: Step, ask: Callable[..., str]) -> Callable[..., str]:
    skipped = ("call", "system", "rollout_id", "config", "demos")
    options = {**{name: value for name, value in step.options.items() if name not in skipped}, **step.options.get("config", {})}
    system = [{"role": "system", "content": step.options["system"]}] if "system" in step.options else []
    return lambda **values: ask([*system, {"role": "user", "content": step.callable.render(values)}], options)
