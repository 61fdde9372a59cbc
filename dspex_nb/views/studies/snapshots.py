"""A study at one moment, as columns: 10,000 trials cost a few copies of arrays, not 10,000 objects."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex_nb.store.rows import ExampleRow, TrialRow

LIVE = frozenset({"waiting", "running", "paused", "pausing", "stopping"})
MINIBATCH = "minibatch"
_FIRST = 256

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
Texts = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known of a study beside its trials.

    Attributes:
        status: `"running"`, `"paused"`, or as it ended: `"done"`, `"stopped"`, `"failed"`, `"interrupted"`; see also `LIVE`.
        total: Trials it will score, 0 where the optimizer decides that as it goes.
        expected_calls: LM calls it may make at most, cache hits among them, as estimated before it began; 0 if unknown.
        done_rows: Examples scored within the current trial, of `total_rows`.
        paid: US dollars of the requests sent whose price is known; `saved` of those the cache answered.
        unpriced: Requests sent whose price is unknown.
        budget: What ends it early, in words, e.g. `"$0.50, 500 calls"`; empty for none.
        options: The optimizer's.
        note: A sentence on the outcome.
        adoptable: Whether the best program can be put into the user's: it is at hand, and this was not done yet.
        resumable: Whether an ended study can go on.
    """

    name: str = "program"
    optimizer: str = ""
    metric: str = ""
    status: str = "waiting"
    study_id: str = ""
    total: int = 0
    expected_calls: int = 0
    done_rows: int = 0
    total_rows: int = 0
    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    paid: float = 0.0
    saved: float = 0.0
    unpriced: int = 0
    elapsed_s: float = 0.0
    budget: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    note: str = ""
    adoptable: bool = True
    resumable: bool = False

    @property
    def live(self) -> bool:
        """Whether it is still going on."""
        return self.status in LIVE

    @property
    def title(self) -> str:
        """Program and optimizer."""
        return f"{self.name}: {self.optimizer}" if self.optimizer and self.optimizer not in self.name else self.name


@dataclass(frozen=True, slots=True)
class TrialColumns:
    """Trials in order of their numbers; every column has their length.

    Attributes:
        score: 0 to 1, NaN while there is none; `parent` the trial it was made from, -1 for none.
        cost: US dollars of the requests sent, NaN where a price is unknown; `saved` of those the cache answered.
        demos: How many demos it holds, -1 if unknown.
        candidate: The same number for the same instructions and demos.
        words: Characters of its instructions.
        part: Whether it was scored on a part of the validation set.
    """

    number: Counts
    score: Numbers
    examples: Counts
    errors: Counts
    elapsed_s: Numbers
    parent: Counts
    calls: Counts
    cache_hits: Counts
    tokens: Counts
    cost: Numbers
    saved: Numbers
    demos: Counts
    candidate: Counts
    words: Counts
    part: NDArray[np.bool_]
    kind: Texts
    status: Texts
    label: Texts

    def __len__(self) -> int:
        return len(self.number)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which have a score."""
        return np.isfinite(self.score)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which were scored on the whole validation set: a score on a part is no rival of theirs."""
        whole: NDArray[np.bool_] = np.isfinite(self.score) & ~self.part
        return whole


@dataclass(frozen=True, slots=True)
class ExampleColumns:
    """Scores of single examples: `trial` and `index` say of which; NaN where scoring failed."""

    trial: Counts
    index: Counts
    score: Numbers
    failed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StudySnapshot:
    """A study at one moment.

    Attributes:
        params: What the optimizer chose for each trial, a column a choice; None where it says nothing.
    """

    facts: StudyFacts
    trials: TrialColumns
    examples: ExampleColumns
    params: Mapping[str, Texts] = field(default_factory=dict)

    @property
    def rivals(self) -> NDArray[np.bool_]:
        """Which trials can be the best: those scored on the whole set, or on a part while there are no others."""
        whole = self.trials.whole
        return whole if whole.any() else self.trials.scored

    @property
    def best(self) -> int | None:
        """Position of the best trial, the earliest of equals; None while nothing is scored."""
        rivals = self.rivals
        return int(np.argmax(np.where(rivals, self.trials.score, -np.inf))) if rivals.any() else None

    @property
    def start(self) -> float | None:
        """Score of the program as it was, None if it was not measured."""
        found = np.flatnonzero((self.trials.kind == "start") & self.trials.scored)
        return float(self.trials.score[found[0]]) if len(found) else None

    @property
    def done(self) -> int:
        """Trials that ended."""
        return int(np.isin(self.trials.status, ("done", "failed")).sum())


_INTEGERS = (
    "number", "examples", "errors", "parent", "calls", "cache_hits", "tokens", "demos", "candidate", "words",
)  # fmt: skip
_FLOATS = ("score", "elapsed_s", "cost", "saved")
_TEXTS = ("kind", "status", "label")


class StudyColumns:
    """Grows with the rows read from the store and gives snapshots; from any threads.

    A row replaces the one of the same trial, so a running trial's row is simply taken again when it ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._length = 0
        self._at: dict[int, int] = {}
        self._columns: dict[str, Any] = {
            **{name: np.zeros(_FIRST, np.int64) for name in _INTEGERS},
            **{name: np.zeros(_FIRST) for name in _FLOATS},
            **{name: np.empty(_FIRST, object) for name in _TEXTS},
            "part": np.zeros(_FIRST, bool),
        }
        self._params: dict[str, Any] = {}
        self._candidates: dict[str, int] = {}
        self._examples: list[NDArray[Any]] = []
        self._order: Counts | None = None
        self._in_order = True

    def take_trials(self, rows: Iterable[TrialRow]) -> None:
        """Add trials, or replace what was known of them."""
        with self._lock:
            for row in rows:
                at = self._place(row.trial)
                for name, value in _values(row).items():
                    self._columns[name][at] = value
                self._columns["candidate"][at] = self._candidate(row.info)
                for name, value in (row.info.get("params") or {}).items():
                    self._param(str(name))[at] = value

    def take_examples(self, rows: Sequence[ExampleRow]) -> None:
        """Add scored examples."""
        if not rows:
            return
        block = np.array(
            [(row.trial, row.index, np.nan if row.score is None else row.score, row.error is not None) for row in rows], float
        )
        with self._lock:
            self._examples.append(block)

    def snapshot(self, facts: StudyFacts) -> StudySnapshot:
        """Return what is known now."""
        with self._lock:
            trials = TrialColumns(**{name: self._ordered(column) for name, column in self._columns.items()})
            params = {name: self._ordered(column) for name, column in self._params.items()}
            if len(self._examples) != 1:
                self._examples = [np.concatenate(self._examples)] if self._examples else [np.empty((0, 4))]
            block = self._examples[0]
        examples = ExampleColumns(block[:, 0].astype(int), block[:, 1].astype(int), block[:, 2], block[:, 3] > 0)
        if not facts.live:
            trials.status[trials.status == "running"] = "cancelled"
        return StudySnapshot(facts, trials, examples, params)

    def _ordered(self, column: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of a column by number of trial; where they came in that order, which is the rule, a plain one."""
        if self._in_order:
            return column[: self._length].copy()
        if self._order is None:
            self._order = np.argsort(self._columns["number"][: self._length], kind="stable")
        return column[self._order]

    def _place(self, number: int) -> int:
        at = self._at.get(number)
        if at is None:
            at = self._at[number] = self._length
            self._length += 1
            self._order = None
            self._in_order &= at == 0 or number > self._columns["number"][at - 1]
            if at >= len(self._columns["number"]):
                for columns in (self._columns, self._params):
                    for name, column in columns.items():
                        columns[name] = np.concatenate([column, np.empty_like(column)])
            for column in self._params.values():
                column[at] = None
        return at

    def _param(self, name: str) -> Texts:
        if name not in self._params:
            self._params[name] = np.full(len(self._columns["number"]), None, object)
        column: Texts = self._params[name]
        return column

    def _candidate(self, info: Mapping[str, Any]) -> int:
        """Return a number for the instructions and demos: what is scored twice is known again."""
        parts = info.get("predictors") or {"instructions": info.get("instructions"), "state": info.get("state")}
        key = hash(json.dumps(parts, sort_keys=True, default=str))
        return self._candidates.setdefault(str(key), len(self._candidates))


def _values(row: TrialRow) -> dict[str, Any]:
    """Return a trial's values by column."""
    info = row.info
    demos = info.get("demos")
    return {
        "number": row.trial,
        "score": np.nan if row.score is None else row.score,
        "examples": row.examples or 0,
        "errors": row.errors or 0,
        "elapsed_s": np.nan if row.elapsed_s is None else row.elapsed_s,
        "parent": -1 if row.parent is None else row.parent,
        "calls": row.calls or 0,
        "cache_hits": row.cache_hits or 0,
        "tokens": (row.prompt_tokens or 0) + (row.completion_tokens or 0),
        "cost": np.nan if row.cost is None else row.cost,
        "saved": np.nan if row.saved_cost is None else row.saved_cost,
        "demos": demos if isinstance(demos, int) else len(demos) if isinstance(demos, Sequence) else -1,
        "words": sum(len(text) for text in instructions_of(info).values()),
        "kind": row.kind or "candidate",
        "part": row.kind == MINIBATCH,
        "status": row.status or "done",
        "label": str(info.get("what") or info.get("label") or f"candidate {row.trial}"),
    }


def instructions_of(info: Mapping[str, Any]) -> dict[str, str]:
    """Return a trial's instructions by predictor; `""` where only one text is known."""
    predictors = info.get("predictors")
    if isinstance(predictors, Mapping):
        return {str(name): str(one.get("instructions") or "") for name, one in predictors.items() if isinstance(one, Mapping)}
    told = info.get("instructions")
    if isinstance(told, Mapping):
        return {str(name): str(text) for name, text in told.items()}
    return {"": str(told)} if told else {}


def demos_of(info: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return a trial's demos by predictor, where they are known."""
    predictors = info.get("predictors") or info.get("state") or {}
    if not isinstance(predictors, Mapping):
        return {}
    parts = {"": predictors} if "signature" in predictors else predictors
    return {str(name): list(one.get("demos") or ()) for name, one in parts.items() if isinstance(one, Mapping)}
