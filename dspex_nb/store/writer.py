"""The one writer of a process: a thread that groups what arrives within 50 ms into one commit, within 200 ms if it is much."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dspex_nb.events import Event, ItemYielded, StepEnded, StepStarted, TokenReceived, to_json
from dspex_nb.leases.owners import Owner
from dspex_nb.store.projecting import PROJECTED, dumps, insert_many, project
from dspex_nb.store.schema import STEPS, connect

GROUP_S, BUSY_S = 0.05, 0.2
_MUCH = 15  # events in 50 ms; then fewer commits take a third less of the processor, which a study needs for itself
_RETRY_S = 1.0
_SHOWN = frozenset({TokenReceived, ItemYielded})
_OF_STEPS = (StepStarted, StepEnded)
_COLUMNS = {kind.kind: kind.__struct_fields__ for kind in _OF_STEPS}
_INSERT = "INSERT INTO events (run_id, kind, at, json) VALUES "
_KEEP = 20_000  # events held while the disk refuses them; older ones are given up first


class Writer:
    """Writes events behind the caller's back; a disk that refuses is noted once in `faults`, and tried again.

    A publisher only appends to a deque, which needs no lock: each LM call passes here.
    """

    def __init__(self, path: Path, faults: list[str]) -> None:
        self._path, self._faults = path, faults
        self._owner = Owner.here()
        self._connection = connect(path)
        self._pending: deque[Event | threading.Event] = deque()  # what to write, and who wants to be told when all before is
        self._wake = threading.Condition()
        self._asleep = self._hurry = self._closing = False
        self._thread = threading.Thread(target=self._run, name="dspex-store", daemon=True)
        self._thread.start()

    def append(self, event: Event) -> None:
        """Queue an event; tokens and items are shown, never stored."""
        if type(event) in _SHOWN:
            return
        self._pending.append(event)
        if self._asleep:  # it looks at the deque once more after saying so: what came before that look is seen
            with self._wake:
                self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued so far is on disk; False if it is not within the time."""
        written = threading.Event()
        self._pending.append(written)
        with self._wake:
            self._hurry = True
            self._wake.notify_all()
        return written.wait(timeout_s)

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self.flush(2.0)
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(2.0)

    def _run(self) -> None:
        group_s = GROUP_S
        while True:
            with self._wake:
                self._asleep = True
                self._wake.wait_for(lambda: self._pending or self._closing)
                self._asleep = False
                if self._closing:
                    self._connection.close()
                    return
                self._wake.wait_for(lambda: self._hurry or self._closing, group_s)
                self._hurry = False
            batch = [self._pending.popleft() for _ in range(len(self._pending))]
            group_s = BUSY_S if len(batch) * GROUP_S > _MUCH * group_s else GROUP_S
            if self._commit([each for each in batch if isinstance(each, Event)]):
                for each in batch:
                    if isinstance(each, threading.Event):
                        each.set()
            else:
                self._put_back(batch)
                time.sleep(_RETRY_S)

    def _put_back(self, batch: list[Event | threading.Event]) -> None:
        """Queue again what the disk refused, the newest part of it: a disk that stays full must not fill the memory."""
        self._pending.extendleft(reversed(batch[max(0, len(batch) + len(self._pending) - _KEEP) :]))

    def _commit(self, batch: list[Event]) -> bool:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                write_events(self._connection, batch, self._owner)
            except sqlite3.Error:
                raise
            except Exception:  # noqa: BLE001 - a value that cannot be written; it must not take the others with it
                self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
                self._write_singly(batch)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._note(f"the run store {self._path} does not take records: {error}")
            return False
        return True

    def _write_singly(self, batch: list[Event]) -> None:
        for event in batch:
            self._connection.execute("SAVEPOINT one")
            try:
                write_events(self._connection, [event], self._owner)
            except sqlite3.Error:
                raise
            except Exception as error:  # noqa: BLE001 - its values are a user's, and may raise anything
                self._connection.execute("ROLLBACK TO one")
                self._note(f"a {event.kind} record of run {event.run_id} cannot be written: {type(error).__name__}: {error}")
            self._connection.execute("RELEASE one")

    def _note(self, fault: str) -> None:
        if fault not in self._faults:
            self._faults.append(fault)


def write_events(connection: sqlite3.Connection, events: Sequence[Event], owner: Owner) -> None:
    """Put events into the log and its projections, inside the caller's transaction."""
    if not events:
        return
    groups = _grouped(events)
    rows = [_row(group) for group in groups]
    last = insert_many(connection, _INSERT, rows)  # all in one transaction, so their numbers follow each other
    told = [(seq, group[0]) for seq, group in enumerate(groups, last - len(rows) + 1) if type(group[0]) in PROJECTED]
    if told:  # most events, those of steps, are in the log alone
        project(connection, told, owner)


def _grouped(events: Sequence[Event]) -> list[list[Event]]:
    """Put what follows each other of one run's steps together: a row of its own costs more than all else about an event."""
    groups: list[list[Event]] = []
    last: dict[str, list[Event]] = {}
    for event in events:
        if type(event) not in _OF_STEPS:
            groups.append([event])
            last.pop(event.run_id, None)
        elif (group := last.get(event.run_id)) is not None:
            group.append(event)
        else:
            last[event.run_id] = group = [event]
            groups.append(group)
    return groups


_encode = msgspec.json.Encoder(enc_hook=str).encode
_REFUSALS = (TypeError, ValueError, OverflowError)  # a lone surrogate, a number of more than 64 bits


def _row(group: Sequence[Event]) -> tuple[str, str, float, str]:
    first = group[0]
    if type(first) in _OF_STEPS:
        return first.run_id, STEPS, first.at, f'{{"columns":{_COLUMNS_JSON},"rows":{_rows_json(group)}}}'
    return first.run_id, first.kind, first.at, _line(first)


_COLUMNS_JSON = dumps(_COLUMNS)


def _rows_json(group: Sequence[Event]) -> str:
    """Return the events of steps as rows of their values, see `schema`."""
    try:
        return _encode(group).decode()
    except _REFUSALS:
        return dumps([[event.kind, *(getattr(event, name) for name in event.__struct_fields__)] for event in group])


def _line(event: Event) -> str:
    """Return an event's JSON: what `dumps(to_json(event))` gives, at a third of the time."""
    try:
        fields = _encode(event)
    except _REFUSALS:
        return dumps(to_json(event))
    return f'{{"kind":"{event.kind}",{fields[1:].decode()}'
