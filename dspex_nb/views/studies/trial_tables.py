"""The table of trials: filtered, sorted and cut into pages here, so that 10,000 rows never reach a browser."""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex_nb.errors import did_you_mean
from dspex_nb.views.formats import cost_text, count_text, one_line, score_text, seconds_text
from dspex_nb.views.studies.snapshots import StudySnapshot, TrialColumns

PAGE = 12
_COMPARE = re.compile(r"^([A-Za-z_ ]+?)(>=|<=|!=|=|:|>|<)(.*)$")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_WORDS = ("kind", "status", "label")
_AS = {"time": "elapsed_s", "seconds": "elapsed_s", "trial": "number", "hits": "cache_hits", "tried": "label"}
NUMBERS = (
    "number",
    "score",
    "examples",
    "errors",
    "elapsed_s",
    "parent",
    "calls",
    "cache_hits",
    "tokens",
    "cost",
    "saved",
    "demos",
)


@dataclass(frozen=True, slots=True)
class TrialsPage:
    """One page of the table.

    Attributes:
        rows: Positions of its trials in the snapshot's columns.
        found: Trials that the filter keeps; `total` all.
        page: Its number, counted from 0; `pages` at least 1.
        problem: What of the filter was not understood, empty if nothing.
    """

    rows: NDArray[np.int64]
    found: int
    total: int
    page: int
    pages: int
    problem: str = ""


def trials_page(
    snapshot: StudySnapshot, *, sort: str = "number", descending: bool = True, query: str = "", page: int = 0, size: int = PAGE
) -> TrialsPage:
    """Return a page of trials.

    Args:
        snapshot: The study.
        sort: A column's name, trials without a value last; or `"best"`: rivals by their scores before those scored on a part.
        descending: The highest first.
        query: Words that a row must hold, and comparisons such as `score>0.7`, `kind:minibatch` or `errors>0`.
        page: Which one; too high a number gives the last.
        size: Rows a page.
    """
    trials = snapshot.trials
    kept, problem = _kept(trials, query)
    rows = np.flatnonzero(kept)
    if sort in _WORDS:
        keys = np.array([str(text) for text in getattr(trials, sort)[rows]])
        order = np.argsort(keys, kind="stable")
        order = order[::-1] if descending else order
    elif sort == "best":
        order = np.argsort(-np.nan_to_num(np.where(snapshot.rivals, trials.score + 1, trials.score), nan=-1)[rows], kind="stable")
    else:
        values = getattr(trials, sort if sort in NUMBERS else "number")[rows].astype(float)
        if sort in ("parent", "demos"):
            values[values < 0] = np.nan
        order = np.argsort(np.where(np.isnan(values), np.inf, -values if descending else values), kind="stable")
    rows = rows[order]
    pages = max(-(-len(rows) // size), 1)
    page = min(max(page, 0), pages - 1)
    return TrialsPage(rows[page * size : (page + 1) * size], len(rows), len(trials), page, pages, problem)


def _kept(trials: TrialColumns, query: str) -> tuple[NDArray[np.bool_], str]:
    kept = np.ones(len(trials), bool)
    problem = ""
    for term in _terms(query):
        found = _COMPARE.match(term)
        if found is None:
            kept &= _holds(trials, term)
            continue
        name, sign, wanted = _AS.get(found[1].strip(), found[1].strip()), found[2], found[3].strip()
        if name in _WORDS:
            column = getattr(trials, name)
            same = np.array([wanted.casefold() in str(text).casefold() for text in column], bool)
            kept &= ~same if sign == "!=" else same
            continue
        if name not in NUMBERS:
            problem = f"there is no column {one_line(name, 30)!r}: {did_you_mean(name, [*NUMBERS, *_WORDS])}write e.g. score>0.7"
            continue
        try:
            number = float(wanted)
        except ValueError:
            problem = f"{one_line(term, 30)!r} needs a number after {sign!r}, e.g. {name}>0"
            continue
        with np.errstate(invalid="ignore"):
            kept &= _SIGNS["=" if sign == ":" else sign](getattr(trials, name).astype(float), number)
    return kept, problem


def _terms(query: str) -> list[str]:
    try:
        return shlex.split(query)
    except ValueError:  # a quotation mark that is not closed yet: someone is still writing
        return query.replace('"', " ").replace("'", " ").split()


def _holds(trials: TrialColumns, word: str) -> NDArray[np.bool_]:
    """Return which trials hold a word in label, kind or status, or are of that number."""
    sought = word.casefold()
    held = np.array([sought in str(label).casefold() for label in trials.label], bool)
    for column in (trials.kind, trials.status):
        kinds = {text for text in set(column.tolist()) if sought in str(text).casefold()}
        held |= np.array([text in kinds for text in column.tolist()], bool) if kinds else False
    return held | (trials.number == int(word)) if word.isdecimal() else held


@dataclass(frozen=True, slots=True)
class TrialColumn:
    """A column of the table: its field, its heading, whether it holds numbers, and how a value is written."""

    field: str
    heading: str
    numeric: bool
    write: Callable[[TrialColumns, int], object]


def _money(trials: TrialColumns, row: int) -> str:
    cost, saved = float(trials.cost[row]), float(trials.saved[row])
    if np.isnan(cost):
        return "unknown"
    return cost_text(cost) if cost or not saved else "cached"


def _from(trials: TrialColumns, row: int) -> str:
    return "" if trials.parent[row] < 0 else f"{trials.parent[row]}"


COLUMNS: Sequence[TrialColumn] = (
    TrialColumn("number", "#", numeric=True, write=lambda t, i: int(t.number[i])),
    TrialColumn("label", "Tried", numeric=False, write=lambda t, i: one_line(str(t.label[i]), 80)),
    TrialColumn(
        "kind", "Kind", numeric=False, write=lambda t, i: {"minibatch": "part", "candidate": "whole"}.get(t.kind[i], t.kind[i])
    ),
    TrialColumn("score", "Score", numeric=True, write=lambda t, i: score_text(float(t.score[i]))),
    TrialColumn("parent", "From", numeric=True, write=_from),
    TrialColumn("demos", "Demos", numeric=True, write=lambda t, i: "" if t.demos[i] < 0 else int(t.demos[i])),
    TrialColumn("errors", "Errors", numeric=True, write=lambda t, i: int(t.errors[i]) or ""),
    TrialColumn("tokens", "Tokens", numeric=True, write=lambda t, i: count_text(int(t.tokens[i]))),
    TrialColumn("cost", "Paid", numeric=True, write=_money),
    TrialColumn("elapsed_s", "Time", numeric=True, write=lambda t, i: seconds_text(float(t.elapsed_s[i]))),
)


def columns_of(snapshot: StudySnapshot) -> list[TrialColumn]:
    """Return the columns that hold anything: narrow pages have no room for empty ones."""
    trials = snapshot.trials
    empty = {
        "parent": bool((trials.parent < 0).all()),
        "demos": bool((trials.demos <= 0).all()),
        "errors": not trials.errors.any(),
        "tokens": not trials.tokens.any(),
        "cost": not np.nan_to_num(trials.cost).any() and not np.nan_to_num(trials.saved).any(),
    }
    return [column for column in COLUMNS if not empty.get(column.field)]
