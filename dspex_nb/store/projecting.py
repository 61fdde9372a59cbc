"""What is kept of events beside the log: rows that views read "since seq", written in the log's own transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import orjson

from dspex_nb.events import Event, LMCalled, RowScored, RunEnded, RunStarted, TrialEnded, TrialStarted
from dspex_nb.leases.owners import Owner

PROJECTED = frozenset({LMCalled, RowScored, RunEnded, RunStarted, TrialEnded, TrialStarted})
"""Kinds of events that the tables tell of."""
_AT_ONCE = (32, 8, 3, 1)
_SUMS = ("calls", "cache_hits", "prompt_tokens", "completion_tokens", "errors", "cost", "unpriced", "saved_cost", "unpriced_hits")
_OF_TRIAL = tuple(name for name in _SUMS if name != "errors")  # a trial's errors are its examples'
_study_sums, _trial_sums = attrgetter(*_SUMS), attrgetter(*_OF_TRIAL)
_STARTED = """
INSERT INTO runs (run_id, name, of_kind, status, started, owner_pid, owner_started, info) VALUES (?, ?, ?, 'running', ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET status='running', ended=NULL, error=NULL,
    owner_pid=excluded.owner_pid, owner_started=excluded.owner_started
"""
_TRIAL_BEGAN = """
INSERT INTO study_trials (run_id, trial, seq, kind, examples, at, parent, info) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, trial) DO UPDATE SET seq=excluded.seq, kind=excluded.kind, status='running', score=NULL, errors=0,
    examples=excluded.examples, at=excluded.at, parent=excluded.parent, info=excluded.info
"""
_TRIAL_ENDED = """
INSERT INTO study_trials (run_id, trial, seq, kind, status, score, best, examples, errors, elapsed_s, at, info)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, trial) DO UPDATE SET seq=excluded.seq, kind=excluded.kind, status=excluded.status, score=excluded.score,
    best=excluded.best, examples=excluded.examples, errors=excluded.errors, elapsed_s=excluded.elapsed_s, at=excluded.at,
    info=json_patch(info, excluded.info)
"""


def _adding(table: str, keys: Sequence[str], replaced: Sequence[str], sums: Sequence[str]) -> str:
    """Return the statement that adds to the sums of a row, making it if need be."""
    columns = (*keys, *replaced, *sums)
    changes = [f"{name}=excluded.{name}" for name in replaced] + [f"{name}={name}+excluded.{name}" for name in sums]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our own names
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changes)}"
    )


_ADD_TO_STUDY = _adding("study_usage", ("run_id",), (), _SUMS)
_ADD_TO_TRIAL = _adding("study_trials", ("run_id", "trial"), ("seq",), _OF_TRIAL)


def project(connection: sqlite3.Connection, events: Sequence[tuple[int, Event]], owner: Owner) -> None:
    """Bring the tables up to these events, each with its sequence number."""
    calls: list[tuple[int, LMCalled]] = []
    scored: list[tuple[int, RowScored]] = []
    for seq, event in events:
        if isinstance(event, LMCalled):
            calls.append((seq, event))
        elif isinstance(event, RowScored):
            if event.trial is not None:
                scored.append((seq, event))
        else:
            _project_one(connection, seq, event, owner)
    if calls or scored:
        studies = _studies(connection, {event.run_id for _, event in (*calls, *scored)})
        _project_scores(connection, [(seq, event) for seq, event in scored if event.run_id in studies])
        _project_calls(connection, [(seq, event) for seq, event in calls if event.run_id in studies])


def _project_one(connection: sqlite3.Connection, seq: int, event: Event, owner: Owner) -> None:
    if isinstance(event, RunStarted):
        started = (column(event.name), event.of, event.at, owner.pid, owner.started, dumps(event.info))
        connection.execute(_STARTED, (event.run_id, *started))
    elif isinstance(event, RunEnded):
        connection.execute(
            "UPDATE runs SET status=?, ended=?, error=?, result=? WHERE run_id=?",
            (event.status, event.at, None if event.error is None else column(event.error), dumps(event.info), event.run_id),
        )
        connection.execute(
            "UPDATE study_trials SET status='stopped', seq=? WHERE run_id=? AND status='running'", (seq, event.run_id)
        )
    elif isinstance(event, TrialStarted):
        info = event.info
        began = (str(info.get("kind", "")), _count(info.get("examples")), event.at, info.get("parent"), dumps(info))
        connection.execute(_TRIAL_BEGAN, (event.run_id, event.trial, seq, *began))
    elif isinstance(event, TrialEnded):
        kind, errors = str(event.info.get("kind", "candidate")), _count(event.info.get("errors"))
        ended = (event.status, event.score, event.best, event.examples, errors, event.elapsed_s, event.at, dumps(event.info))
        connection.execute(_TRIAL_ENDED, (event.run_id, event.trial, seq, kind, *ended))


def _studies(connection: sqlite3.Connection, run_ids: Iterable[str]) -> set[str]:
    query = "SELECT run_id FROM runs WHERE run_id=? AND of_kind='study'"
    return {run_id for run_id in run_ids if connection.execute(query, (run_id,)).fetchone()}


def _project_scores(connection: sqlite3.Connection, scored: Sequence[tuple[int, RowScored]]) -> None:
    rows = [
        (
            event.run_id, event.trial, event.index, seq, next(iter(event.scores.values()), None),
            None if event.error is None else column(event.error), event.elapsed_s,
        )
        for seq, event in scored
    ]  # fmt: skip
    insert_many(connection, "INSERT OR REPLACE INTO study_examples VALUES ", rows)


def _project_calls(connection: sqlite3.Connection, calls: Sequence[tuple[int, LMCalled]]) -> None:
    sums: dict[tuple[str, int | None], _Sums] = defaultdict(_Sums)
    rows = []
    for seq, event in calls:
        sums[event.run_id, event.trial].add(seq, event)
        rows.append((
            seq, event.run_id, event.trial, event.index, event.key, column(event.model), column(event.step), event.cached,
            event.prompt_tokens, event.completion_tokens, event.cost, event.saved, event.elapsed_s,
            None if event.error is None else column(event.error),
        ))  # fmt: skip
    insert_many(connection, "INSERT OR REPLACE INTO study_calls VALUES ", rows)
    for (run_id, trial), one in sums.items():
        connection.execute(_ADD_TO_STUDY, (run_id, *_study_sums(one)))
        if trial is not None:
            connection.execute(_ADD_TO_TRIAL, (run_id, trial, one.seq, *_trial_sums(one)))


@dataclass(slots=True)
class _Sums:
    """LM calls of one trial in one batch, summed."""

    seq: int = 0
    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: int = 0
    cost: float = 0.0
    unpriced: int = 0
    saved_cost: float = 0.0
    unpriced_hits: int = 0

    def add(self, seq: int, event: LMCalled) -> None:
        self.seq = seq
        if event.cached is not None:
            self.cache_hits += 1
            self.saved_cost += event.saved or 0.0
            self.unpriced_hits += event.saved is None
            return
        self.calls += 1
        if event.error is not None:
            self.errors += 1
            return
        self.prompt_tokens += event.prompt_tokens
        self.completion_tokens += event.completion_tokens
        self.cost += event.cost or 0.0
        self.unpriced += event.cost is None


def insert_many(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert rows and return the last one's id.

    Many a statement cost less than half of one a statement. A few sizes only, as each text of a statement is compiled anew.
    """
    mark = f"({', '.join('?' * len(rows[0]))})" if rows else ""
    last, done = 0, 0
    for size in _AT_ONCE:
        while len(rows) - done >= size:
            some = rows[done : done + size]
            cursor = connection.execute(statement + ", ".join([mark] * size), [value for row in some for value in row])
            last, done = cursor.lastrowid or 0, done + size
    return last


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def column(text: str) -> str:
    """Return a text as SQLite takes it: a lone surrogate, as in the name of a file that is no UTF-8, written as its code."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def dumps(value: object) -> str:
    """Return compact JSON; what JSON does not know is written as its text, for a log must not refuse an event."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, a number of more than 64 bits
        return json.dumps(value, default=str, separators=(",", ":"))
