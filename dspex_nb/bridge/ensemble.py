"""`Ensemble` whose choice of programs depends on the inputs and a seed alone, so that a study can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from dspex_nb.bridge.candidates import canonical


class RepeatableEnsemble(dspy.teleprompt.Ensemble):  # type: ignore[misc]
    """Asks several programs and reduces their answers to one.

    Args:
        reduce_fn: Takes the list of predictions; the majority of the first output field if None.
        size: How many programs are asked for each input; all of them if None.
        seed: Of their choice.
    """

    def __init__(self, *, reduce_fn: Callable[..., Any] | None = None, size: int | None = None, seed: int = 0) -> None:
        super().__init__(reduce_fn=reduce_fn or dspy.majority, size=size)
        self.seed = seed

    def compile(self, programs: Sequence[Any]) -> Any:
        """Return a program that asks them."""
        return EnsembledProgram(programs, self.reduce_fn, self.size, self.seed)


class EnsembledProgram(dspy.Module):  # type: ignore[misc]
    """Several programs as one."""

    def __init__(self, programs: Sequence[Any], reduce_fn: Callable[..., Any], size: int | None, seed: int) -> None:
        super().__init__()
        self.programs = list(programs)
        self._reduce, self._size, self._seed = reduce_fn, size, seed

    def forward(self, **inputs: Any) -> Any:
        """Ask the programs and reduce their answers."""
        chosen = self.programs
        if self._size:
            chosen = random.Random(f"{self._seed} {canonical(inputs)}").sample(chosen, self._size)  # noqa: S311 - no secret
        return self._reduce([program(**inputs) for program in chosen])
