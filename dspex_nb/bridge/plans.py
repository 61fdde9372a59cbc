"""What crosses to a study's process: plain data that needs no dspy to make, so that starting a study does not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.errors import OptimizerError
from dspex_nb.signatures import Signature

KINDS = ("predict", "chain_of_thought")


@dataclass(frozen=True, slots=True)
class ProgramRecipe:
    """What it takes to make a native program's DSPy twin: plain data, so that it crosses to a study's process.

    Attributes:
        kind: `"predict"` or `"chain_of_thought"`.
        signature: Without the `reasoning` field that a chain of thought adds.
        demos: Its few-shot examples.
        options: LM options of each call.
        state: DSPy's saved state, loaded over all of it, or None.
    """

    kind: str
    signature: Signature
    demos: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Inner:
    """The step inside `best_of_n` and `refine`: a kind, a `dspy.Module` or a native program, and its options."""

    module: Any
    signature: Signature | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What to optimize, with what, on what. Rows are dicts or `dspy.Example`s.

    Attributes:
        program: A `ProgramRecipe`, a `dspy.Module`, or a list of them for an optimizer that takes several.
        inputs: Names of the input columns; read from the program if empty.
        adapter: An adapter's name or adapter, None for the client's default.
        n_jobs: Threads of each evaluation.
        accelerate: Serve its predictors natively where that gives the same.
    """

    program: Any
    optimizer: str
    metric: Callable[..., Any] | None
    trainset: Sequence[Any]
    valset: Sequence[Any] | None = None
    inputs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    adapter: Any = None
    seed: int = 0
    n_jobs: int = 4
    accelerate: bool = False


def recipe_of(program: Any) -> ProgramRecipe:
    """Read a native `Predict` or `ChainOfThought` by what it holds; this floor cannot import its class.

    Raises:
        OptimizerError: It is no native program.
    """
    kind = getattr(program, "kind", None)
    signature = getattr(program, "base_signature", None)
    if kind not in KINDS or not isinstance(signature, Signature):
        raise OptimizerError(
            f"{type(program).__name__} cannot be optimized",
            hint="give a dx.Predict, a dx.ChainOfThought or a dspy.Module",
        )
    demos = [dict(demo) for demo in program.demos]
    return ProgramRecipe(str(kind), signature, demos, dict(program.lm_options), program.dump_state())
