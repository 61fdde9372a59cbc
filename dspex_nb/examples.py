"""A labelled example: fields by attribute and item, and which of them are inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import did_you_mean


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a synthesized example comes from.

    Attributes:
        model: The model that wrote it.
        key: The cache key of the prompt it answered: the same prompt has the same key anywhere.
        seeds: Places of the seed examples that the prompt showed.
        round: In which round it was asked for, counted from 1.
        run_id: The run in the store.
        given: Fields that were told to the model, not answered by it: a label to write an example of.
    """

    model: str
    key: str
    seeds: tuple[int, ...] = ()
    round: int = 1
    run_id: str = ""
    given: tuple[str, ...] = ()


class Example(Mapping[str, Any]):
    """Fields by attribute and item, as in DSPy; metrics receive it as `example`.

    Args:
        values: Field values.
        input_keys: Names of the inputs; None while unknown (every field may be one).
        provenance: Where `dx.synthesize` has it from; None for any other example.
    """

    __slots__ = ("_values", "input_keys", "provenance")

    def __init__(
        self, values: Mapping[str, Any], input_keys: Iterable[str] | None = None, provenance: Provenance | None = None
    ) -> None:
        self._values = dict(values)
        self.provenance = provenance
        self.input_keys = None if input_keys is None else frozenset(input_keys)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            hint = did_you_mean(name, self._values)
            raise AttributeError(f"this example has no field {name!r}; {hint}fields: {', '.join(self._values)}") from None

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Example({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Example, (self._values, self.input_keys, self.provenance))

    def with_inputs(self, *names: str) -> Example:
        """Return the same example with `names` as its inputs."""
        return Example(self._values, names, self.provenance)

    def inputs(self) -> dict[str, Any]:
        """Return the input fields (all fields while the inputs are unknown)."""
        return {k: v for k, v in self._values.items() if self.input_keys is None or k in self.input_keys}

    def labels(self) -> dict[str, Any]:
        """Return the fields that are not inputs."""
        return {k: v for k, v in self._values.items() if self.input_keys is not None and k not in self.input_keys}
