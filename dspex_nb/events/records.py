"""The records: one class a kind of event, each JSON in and out.

Nobody changes an event. They are structs, and not frozen dataclasses, for what making one costs: each step and each call of a
model makes some. Those that hold only texts and numbers are nothing for the garbage collector to go through (`gc=False`). Those
of steps, of which the store writes the most, are encoded as a row of their values, led by their kind.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from msgspec import Struct, field
else:
    try:
        from msgspec import Struct, field
    except ImportError:  # in a pool's worker of another interpreter
        from dspex_nb.events.plain import Struct, field


class Event(Struct, kw_only=True):
    """Something that happened in run `run_id` at `at` (seconds since the epoch)."""

    kind: ClassVar[str] = "event"
    run_id: str
    at: float = field(default_factory=time.time)


class RunStarted(Event, kw_only=True):
    """A call, pipeline run, map, evaluation or study began.

    Attributes:
        of: `"call"`, `"pipeline"`, `"map"`, `"evaluation"` or `"study"`.
        total: Items to do (rows, examples, steps), 0 if unknown.
        info: JSON-able facts for views: a pipeline's steps and edges, a study's optimizer and options.
    """

    kind: ClassVar[str] = "run_started"
    name: str
    of: str
    total: int = 0
    info: dict[str, Any] = field(default_factory=dict)


class RunEnded(Event, kw_only=True):
    """A run ended; `status` is `"done"`, `"failed"`, `"cancelled"` or `"interrupted"`."""

    kind: ClassVar[str] = "run_ended"
    status: str
    elapsed_s: float = 0.0
    error: str | None = None
    info: dict[str, Any] = field(default_factory=dict)


class Progress(Event, kw_only=True, gc=False):
    """`done` of `total` items are finished, `errors` of them with an error."""

    kind: ClassVar[str] = "progress"
    done: int
    total: int
    errors: int = 0


class StepStarted(Event, kw_only=True, gc=False, array_like=True, tag="step_started"):
    """A pipeline step began. `engine` is `"native"`, `"dspy"` or `"python"`."""

    kind: ClassVar[str] = "step_started"
    step: str
    engine: str = "native"
    reason: str = ""


class StepEnded(Event, kw_only=True, gc=False, array_like=True, tag="step_ended"):
    """A pipeline step ended; `status` is `"done"`, `"failed"`, `"skipped"`, `"cached"` or `"cancelled"`.

    `note` says what the user should know of a step that did not fail: why its result was not cached.
    """

    kind: ClassVar[str] = "step_ended"
    step: str
    status: str
    elapsed_s: float = 0.0
    error: str | None = None
    note: str = ""


class ItemYielded(Event, kw_only=True):
    """A generator step gave item `index`, counted from 0; shown, never stored."""

    kind: ClassVar[str] = "item"
    step: str
    index: int
    item: Any = None


class LMCalled(Event, kw_only=True, gc=False):
    """An LM call ended. `key` is the cache key; the response itself is stored once, in the cache.

    Attributes:
        trial: The study's trial that it served, None outside every trial; `index` the example, as in `RowScored`.
        cached: The tier that answered, None if a request was sent.
        cost: US dollars, None where the price is unknown.
        saved: US dollars that a hit would have cost, None where that is unknown.
    """

    kind: ClassVar[str] = "lm_called"
    model: str
    key: str = ""
    step: str = ""
    trial: int | None = None
    index: int | None = None
    cached: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    elapsed_s: float = 0.0
    error: str | None = None
    saved: float | None = 0.0


class TokenReceived(Event, kw_only=True, gc=False):
    """A piece of the text that a model writes for output `field` of `step`; shown, never stored.

    `withdrawn` says that what came of the field so far does not hold: if it is to come again, it begins anew.
    """

    kind: ClassVar[str] = "token"
    step: str
    text: str
    field: str = ""
    withdrawn: bool = False


class LogWritten(Event, kw_only=True, gc=False):
    """A pool's worker printed, logged or warned while it ran a task of `step`.

    Attributes:
        step: The step or the function.
        worker: The slot's name.
        source: `"print"`, `"logging"` or `"warning"`.
        level: As in `logging`: `"INFO"`, `"WARNING"`, …
        text: One line, or one record.
    """

    kind: ClassVar[str] = "log"
    step: str
    worker: str
    source: str
    level: str
    text: str


class TrialStarted(Event, kw_only=True):
    """An optimizer began to score candidate `trial` (counted from 0).

    `info` says what it is: `kind`, `parent`, `examples`, `label`, `demos`, `instructions`, `predictors`, `params`.
    """

    kind: ClassVar[str] = "trial_started"
    trial: int
    info: dict[str, Any] = field(default_factory=dict)


class TrialEnded(Event, kw_only=True):
    """Candidate `trial` was scored, or its scoring failed. `score` is in 0 to 1; `info` adds to what `TrialStarted` said."""

    kind: ClassVar[str] = "trial_ended"
    trial: int
    score: float | None
    best: float | None
    examples: int = 0
    elapsed_s: float = 0.0
    status: str = "done"
    info: dict[str, Any] = field(default_factory=dict)


class RowScored(Event, kw_only=True):
    """Example `index` of an evaluation or of a study's trial was scored; `scores` maps each metric's name to its value.

    In a study the examples of the validation set come first, then those of the training set that are not in it.
    """

    kind: ClassVar[str] = "row_scored"
    index: int
    scores: dict[str, float]
    error: str | None = None
    elapsed_s: float = 0.0
    trial: int | None = None


_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted, RunEnded, Progress, StepStarted, StepEnded, ItemYielded, LMCalled, TokenReceived, TrialStarted, TrialEnded,
        RowScored, LogWritten,
    )
}  # fmt: skip


_NAMES: dict[type[Event], tuple[str, ...]] = {cls: cls.__struct_fields__ for cls in _KINDS.values()}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as a JSON-able dict with its `kind`."""
    return {"kind": event.kind} | {name: getattr(event, name) for name in _NAMES[type(event)]}


def from_json(data: dict[str, Any]) -> Event:
    """Rebuild an event; keys this version does not know are left out, so newer logs still load.

    Raises:
        KeyError: `data["kind"]` names no known event.
    """
    cls = _KINDS[data["kind"]]
    known = _NAMES[cls]
    return cls(**{key: value for key, value in data.items() if key in known})
