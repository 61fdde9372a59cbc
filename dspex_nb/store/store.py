"""The store: events in, rows out."""

from __future__ import annotations

import atexit
import contextlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dspex_nb.errors import StoreError
from dspex_nb.events import Bus, Event, RunEnded, from_json
from dspex_nb.leases.owners import Owner, is_alive
from dspex_nb.store.rows import CallRow, ExampleRow, LMUsage, RunRow, TrialRow
from dspex_nb.store.schema import connect
from dspex_nb.store.writer import Writer, write_events

_USAGE = """
SELECT coalesce(sum(json_extract(json, '$.cached') IS NULL AND json_extract(json, '$.error') IS NULL), 0),
       coalesce(sum(json_extract(json, '$.cached') IS NOT NULL), 0),
       coalesce(sum(CASE WHEN json_extract(json, '$.cached') IS NULL THEN json_extract(json, '$.prompt_tokens') END), 0),
       coalesce(sum(CASE WHEN json_extract(json, '$.cached') IS NULL THEN json_extract(json, '$.completion_tokens') END), 0),
       coalesce(sum(json_extract(json, '$.error') IS NOT NULL), 0),
       sum(CASE WHEN json_extract(json, '$.cached') IS NULL THEN json_extract(json, '$.cost') END),
       coalesce(sum(json_extract(json, '$.saved')), 0.0),
       coalesce(sum(json_extract(json, '$.cost') IS NULL AND json_extract(json, '$.error') IS NULL), 0),
       coalesce(sum(json_extract(json, '$.cached') IS NOT NULL AND json_extract(json, '$.saved') IS NULL), 0)
FROM events WHERE run_id = ? AND kind = 'lm_called'
"""
_STUDY_USAGE = """
SELECT calls - errors, cache_hits, prompt_tokens, completion_tokens, errors,
       CASE WHEN calls - errors > unpriced OR calls = 0 AND cache_hits > 0 THEN cost END, saved_cost, unpriced, unpriced_hits
FROM study_usage WHERE run_id = ?
"""
_RUN = "SELECT run_id, name, of_kind, status, started, ended, owner_pid, owner_started, error, info, result FROM runs"
_TRIALS = """
SELECT trial, seq, kind, status, score, best, examples, errors, elapsed_s, at, parent, calls, cache_hits, prompt_tokens,
       completion_tokens, CASE WHEN unpriced = 0 THEN cost END, CASE WHEN unpriced_hits = 0 THEN saved_cost END, info
FROM study_trials WHERE run_id = ? AND seq > ? ORDER BY trial
"""
_EXAMPLES = "SELECT trial, idx, seq, score, error, elapsed_s FROM study_examples WHERE run_id = ? AND seq > ?"
_CALLS = """
SELECT seq, trial, idx, key, model, step, cached, prompt_tokens, completion_tokens, cost, saved_cost, elapsed_s, error
FROM study_calls WHERE run_id = ? AND seq > ?
"""


class Store:
    """Runs on disk, in one SQLite file that several processes share.

    Appending never blocks on the disk and never raises: what a disk refuses is in `faults`, and the run goes on.
    Reading sees what was committed, at most 50 ms old, 200 ms while much is written; `flush` waits for one's own.

    Args:
        path: The database file; made if missing.

    Raises:
        StoreError: The file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.faults: list[str] = []
        self._reading = threading.Lock()
        self._reader = connect(self.path)
        self._writer = Writer(self.path, self.faults)
        self._elsewhere: set[str] = set()
        self._closed = False
        atexit.register(_close_at_exit, weakref.ref(self))

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def append(self, events: Iterable[Event]) -> None:
        """Queue events to be written within 50 ms, 200 ms while they are many."""
        if not self._closed:
            for event in events:
                self._writer.append(event)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything appended so far is on disk; False if it is not within the time."""
        return self._writer.flush(timeout_s)

    def attach(self, bus: Bus) -> Callable[[], None]:
        """Record every event of a bus; the returned callable stops it."""
        return bus.subscribe(self._record, quick=True)

    def written_elsewhere(self, run_id: str) -> None:
        """Leave a run's events to another process: here they are only shown again, and must not be stored twice."""
        self._elsewhere.add(run_id)

    def own(self, run_id: str) -> None:
        """Make this process the owner of a run."""
        owner = Owner.here()
        self._change("UPDATE runs SET owner_pid=?, owner_started=? WHERE run_id=?", (owner.pid, owner.started, run_id))

    def events(self, run_id: str, since: int = 0) -> list[tuple[int, Event]]:
        """Return a run's events after sequence number `since`, oldest first; kinds of a newer version are left out.

        Events of steps that were written at once have one number.
        """
        rows = self._rows("SELECT seq, json FROM events WHERE run_id=? AND seq>? ORDER BY seq", (run_id, since))
        return [(int(seq), event) for seq, text in rows for event in _events_of(run_id, text)]

    def runs(self, of: str | None = None) -> list[RunRow]:
        """Return the runs, newest first; only those of one kind if `of` says so."""
        rows = self._rows(f"{_RUN} WHERE of_kind=coalesce(?, of_kind) ORDER BY started DESC", (of,))
        return [_run_row(row) for row in rows]

    def run(self, run_id: str) -> RunRow | None:
        """Return one run, or None if it is unknown."""
        rows = self._rows(f"{_RUN} WHERE run_id=?", (run_id,))
        return _run_row(rows[0]) if rows else None

    def trials(self, run_id: str, since: int = 0) -> list[TrialRow]:
        """Return a study's trials in order; only those that changed after sequence number `since`."""
        return [_trial_row(row) for row in self._rows(_TRIALS, (run_id, since))]

    def trial(self, run_id: str, number: int) -> TrialRow | None:
        """Return one trial of a study, or None if it is unknown."""
        rows = self._rows(_TRIALS.replace("ORDER BY", "AND trial = ? ORDER BY"), (run_id, -1, number))
        return _trial_row(rows[0]) if rows else None

    def examples(self, run_id: str, since: int = 0, trial: int | None = None) -> list[ExampleRow]:
        """Return the examples scored in a study's trials, or in one, in the order they were; only those after `since`."""
        # The plus signs keep SQLite from the index on `seq`, by which it would read a whole study for one trial's rows.
        of_trial = _EXAMPLES.replace("seq > ?", "+seq > ?") + " AND trial = ? ORDER BY +seq"
        query = _EXAMPLES + " ORDER BY seq" if trial is None else of_trial
        return [ExampleRow(*row) for row in self._rows(query, (run_id, since) if trial is None else (run_id, since, trial))]

    def calls(self, run_id: str, since: int = 0, trial: int | None = None, limit: int | None = None) -> list[CallRow]:
        """Return a study's LM calls, or those of one trial, in the order they ended; at most the first `limit` after `since`."""
        query = _CALLS + ("" if trial is None else " AND trial = ?") + " ORDER BY seq LIMIT ?"
        some = -1 if limit is None else limit
        values = (run_id, since, some) if trial is None else (run_id, since, trial, some)
        return [CallRow(*row) for row in self._rows(query, values)]

    def usage(self, run_id: str) -> LMUsage:
        """Return the LM calls of a run, summed."""
        return LMUsage(*(self._rows(_STUDY_USAGE, (run_id,)) or self._rows(_USAGE, (run_id,)))[0])

    def mark_interrupted(self) -> list[str]:
        """End the runs whose process is gone as `"interrupted"`; returns their ids."""
        gone = [row for row in self.runs() if row.status == "running" and not is_alive(row.owner)]
        return [row.run_id for row in gone if self._interrupt(row)]

    def close(self) -> None:
        """Write what is queued and close the file."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        with self._reading:
            self._reader.close()

    def _record(self, event: Event) -> None:
        if event.run_id not in self._elsewhere and not self._closed:
            self._writer.append(event)

    def _interrupt(self, row: RunRow) -> bool:
        event = RunEnded(run_id=row.run_id, status="interrupted", error="its process ended before it did")
        with self._reading:
            try:
                self._reader.execute("BEGIN IMMEDIATE")
                # Another process may have seen the same: only who changes the row writes the event.
                mine = self._reader.execute(
                    "UPDATE runs SET status='interrupted' WHERE run_id=? AND status='running' AND owner_pid=?",
                    (row.run_id, row.owner.pid),
                ).rowcount
                if mine:
                    write_events(self._reader, [event], row.owner)
                self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                if self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")
                self.faults.append(f"run {row.run_id} could not be marked interrupted: {error}")
                return False
        return bool(mine)

    def _change(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._reading:
            try:
                self._reader.execute(statement, values)
            except sqlite3.Error as error:
                raise StoreError(f"the run store {self.path} cannot be written: {error}", hint="free some disk space") from error

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._reading:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(
                    f"the run store {self.path} cannot be read: {error}", hint="move that file away; a new one is made"
                ) from error


def _events_of(run_id: str, text: str) -> Iterator[Event]:
    """Read the events of one row of the log, see `schema`."""
    data = json.loads(text)
    if "columns" in data:
        columns, rows = data["columns"], data["rows"]
        found = [{"kind": kind, "run_id": run_id, **dict(zip(columns[kind], row, strict=False))} for kind, *row in rows]
    else:
        found = [data]
    for one in found:
        with contextlib.suppress(KeyError, TypeError):
            yield from_json(one)


def _run_row(row: Any) -> RunRow:
    run_id, name, of, status, started, ended, pid, ticks, error, info, result = row
    return RunRow(run_id, name, of, status, started, ended, Owner(pid, ticks), error, json.loads(info), json.loads(result))


def _trial_row(row: Any) -> TrialRow:
    values: tuple[Any, ...] = (*row[:-1], json.loads(row[-1]))
    return TrialRow(*values)


def _close_at_exit(reference: weakref.ref[Store]) -> None:
    store = reference()
    if store is not None:
        store.close()
