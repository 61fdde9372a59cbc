"""The numbers of a study's examples: the validation set's first, then those of the training set that are not in it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any


class Numbering:
    """Numbers examples by what they are, not by what they say: the same objects reach metric and program."""

    def __init__(self, valset: Sequence[Any], trainset: Sequence[Any]) -> None:
        self._numbers: dict[int, int] = {}
        self._by_inputs: dict[Any, int] = {}
        for example in (*valset, *trainset):
            number = self._numbers.setdefault(id(example), len(self._numbers))
            with contextlib.suppress(Exception):  # an example whose inputs nobody named
                self._by_inputs.setdefault(_identity(dict(example.inputs().items())), number)

    def of(self, example: Any) -> int:
        """Return an example's number, -1 if it is of neither set."""
        return self._numbers.get(id(example), -1)

    def of_inputs(self, inputs: Mapping[str, Any]) -> int:
        """Return the number of the example with these values, -1 if there is none."""
        return self._by_inputs.get(_identity(inputs), -1)


def _identity(inputs: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, id(value)) for name, value in inputs.items()))
