"""What a program returns: its output fields, and what they took to make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from dspex_nb.errors import did_you_mean
from dspex_nb.messages import Usage


@dataclass(frozen=True, slots=True)
class Route:
    """Which engine serves a step, in which pool, and why; fixed at plan time."""

    step: str
    engine: str
    pool: str
    reason: str


_NOTHING = Usage()


class Facts(Struct):
    """What making a prediction took: usage, cost in US dollars (None if unknown), the route, the run, seconds."""

    usage: Usage = _NOTHING
    cost: float | None = None
    route: Route | None = None
    run_id: str = ""
    elapsed_s: float = 0.0
    cached: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    completions: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FieldEvent:
    """What becomes of one output field while its prediction is made.

    Attributes:
        kind: `"start"`, `"delta"` (`text` is the next piece), `"end"`, or `"withdrawn"`: what was shown of the field does not
            hold; `text` says why, and if the field is to come again it starts anew.
        field: The output's name.
        text: The piece, or the reason.
    """

    kind: str
    field: str
    text: str = ""


class Prediction(Mapping[str, Any]):
    """Output fields by attribute and by item; `.usage`, `.cost`, `.route`, `.run_id`, `.cached` beside them.

    A field named like one of those is reached by item: `prediction["usage"]`.
    """

    __slots__ = ("_facts", "_outputs")

    def __init__(self, outputs: Mapping[str, Any], facts: Facts | None = None) -> None:
        self._outputs = dict(outputs)
        self._facts = facts or Facts()

    usage = property(lambda self: self._facts.usage, doc="Tokens and calls.")
    cost = property(lambda self: self._facts.cost, doc="US dollars, None where a price is unknown.")
    route = property(lambda self: self._facts.route, doc="Engine, pool and the reason.")
    run_id = property(lambda self: self._facts.run_id, doc="The run in the store.")
    elapsed_s = property(lambda self: self._facts.elapsed_s, doc="Seconds it took.")
    cached = property(lambda self: self._facts.cached, doc="The cache tier that served it, or None.")
    fields = property(lambda self: self._facts.fields, doc="Every field of a pipeline's run, also the inner ones.")
    completions = property(lambda self: self._facts.completions, doc="All candidates where n > 1.")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._outputs[name]
        except KeyError:
            known = ", ".join(self._outputs) or "none"
            raise AttributeError(
                f"this prediction has no field {name!r}; {did_you_mean(name, self._outputs)}fields: {known}"
            ) from None

    def __getitem__(self, name: str) -> Any:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prediction) and self._outputs == other._outputs

    __hash__ = None  # type: ignore[assignment]  # outputs may be lists and dicts

    def __repr__(self) -> str:
        return f"Prediction({', '.join(f'{k}={v!r}' for k, v in self._outputs.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Prediction, (self._outputs, self._facts))

    def joined(self, more: Mapping[str, Any]) -> Prediction:
        """Return the same prediction with further outputs; its own win."""
        return Prediction({**more, **self._outputs}, self._facts)

    def to_dict(self) -> dict[str, Any]:
        """Return the output fields as a plain dict."""
        return dict(self._outputs)
