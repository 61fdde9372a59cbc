"""The run store: what goes in comes out, in order, once, across processes and deaths."""

import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from dspex_nb.errors import StoreError
from dspex_nb.events import (
    Bus,
    LMCalled,
    Progress,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    TokenReceived,
    TrialEnded,
)
from dspex_nb.store import Owner, Store, is_alive


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "runs.db")
    yield opened
    opened.close()


def start(run_id="r1", of="study"):
    return RunStarted(run_id=run_id, name="study of p", of=of, info={"optimizer": "COPRO"})


def test_events_come_back_in_order_and_since(store):
    sent = [start(), Progress(run_id="r1", done=1, total=2), Progress(run_id="r1", done=2, total=2)]
    store.append(sent)
    assert store.flush()
    rows = store.events("r1")
    assert [event for _, event in rows] == sent
    assert [event for _, event in store.events("r1", since=rows[1][0])] == sent[2:]


def test_token_events_are_not_stored(store):
    store.append([TokenReceived(run_id="r1", step="s", text="a"), Progress(run_id="r1", done=1, total=1)])
    store.flush()
    assert [event.kind for _, event in store.events("r1")] == ["progress"]


def test_projections_follow_the_log(store):
    store.append([start(), TrialEnded(run_id="r1", trial=0, score=0.5, best=0.5, examples=4, info={"demos": 2})])
    store.flush()
    assert store.runs()[0].status == "running"
    assert store.runs()[0].owner == Owner.here()
    store.append([RunEnded(run_id="r1", status="done", elapsed_s=2.0, info={"best_score": 0.5})])
    store.flush()
    row = store.run("r1")
    assert (row.status, row.of, row.info, row.result) == ("done", "study", {"optimizer": "COPRO"}, {"best_score": 0.5})
    assert [(t.trial, t.score, t.info) for t in store.trials("r1")] == [(0, 0.5, {"demos": 2})]
    assert store.runs(of="map") == []


def test_usage_counts_sent_calls_apart_from_hits(store):
    call = {"run_id": "r1", "model": "m", "prompt_tokens": 10, "completion_tokens": 2}
    store.append([LMCalled(**call), LMCalled(**call, cached="disk"), LMCalled(run_id="r1", model="m", error="down")])
    store.flush()
    usage = store.usage("r1")
    assert (usage.calls, usage.cache_hits, usage.prompt_tokens, usage.errors) == (1, 1, 10, 1)
    assert store.usage("none").calls == 0


def test_attached_bus_is_recorded_but_not_runs_written_elsewhere(store):
    bus = Bus()
    detach = store.attach(bus)
    store.written_elsewhere("far")
    bus.publish(start("near"))
    bus.publish(start("far"))
    detach()
    bus.publish(start("later"))
    store.flush()
    assert [row.run_id for row in store.runs()] == ["near"]


def test_group_commit_is_within_the_promise(store):
    store.append([start()])
    deadline = time.monotonic() + 1.0
    while not store.events("r1") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.events("r1")


def test_a_run_whose_process_died_is_interrupted_once(store):
    code = (
        "import sys; from dspex_nb.store import Store; from dspex_nb.events import RunStarted; s = Store(sys.argv[1]);"
        "s.append([RunStarted(run_id='dead', name='n', of='study')]); s.flush(); import os; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.path)], check=True)
    store.append([start("mine")])
    store.flush()
    assert store.mark_interrupted() == ["dead"]
    assert store.mark_interrupted() == []
    assert store.run("dead").status == "interrupted"
    assert store.run("mine").status == "running"
    assert [e.status for _, e in store.events("dead") if isinstance(e, RunEnded)] == ["interrupted"]


def test_owner_is_told_from_a_recycled_process_id():
    here = Owner.here()
    assert is_alive(here)
    assert not is_alive(Owner(here.pid, here.started + 1))
    assert not is_alive(Owner(2**22 + 1))


def test_two_processes_write_at_once(store):
    code = (
        "import sys; from dspex_nb.store import Store; from dspex_nb.events import Progress; s = Store(sys.argv[1]);"
        "[s.append([Progress(run_id=sys.argv[2], done=i, total=200)]) or s.flush() for i in range(20)]; s.close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(store.path), name]) for name in "ab"]
    store.append([Progress(run_id="c", done=i, total=200) for i in range(200)])
    assert [child.wait(30) for child in children] == [0, 0]
    assert store.flush()
    assert [len(store.events(name)) for name in "abc"] == [20, 20, 200]


def test_a_locked_database_is_noted_once_and_loses_nothing(store, monkeypatch):
    monkeypatch.setattr("dspex_nb.store.writer._RETRY_S", 0.05)
    store._writer._connection.execute("PRAGMA busy_timeout=20")
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store.append([start()])
    assert not store.flush(0.4)
    assert len(store.faults) == 1
    assert "locked" in store.faults[0]
    blocker.execute("ROLLBACK")
    assert store.flush(2.0)
    assert [event.kind for _, event in store.events("r1")] == ["run_started"]


def test_an_unusable_file_says_what_to_do(tmp_path):
    (tmp_path / "runs.db").write_bytes(b"this is no database at all, only some text" * 30)
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store(tmp_path / "runs.db")
    assert "DSPEX_HOME" in caught.value.hint


def test_events_with_values_json_does_not_know_are_kept(store):
    store.append([RunStarted(run_id="r1", name="n", of="call", info={"when": {1, 2}})])
    store.flush()
    assert json.loads(json.dumps(store.run("r1").info))["when"] == str({1, 2})


class _Untold:
    def __str__(self):
        raise RuntimeError("no text")


_CIRCLE = {}
_CIRCLE["itself"] = _CIRCLE


@pytest.mark.parametrize("info", [{("a", "b"): 1}, _CIRCLE, {"x": _Untold()}], ids=["key", "circle", "no text"])
def test_an_event_that_cannot_be_written_takes_no_other_with_it(store, info):
    store.append([start("before"), RunStarted(run_id="odd", name="n", of="call", info=info), start("after")])
    assert store.flush()
    assert {row.run_id for row in store.runs()} == {"before", "after"}
    assert [fault for fault in store.faults if "a run_started record of run odd cannot be written" in fault] == store.faults
    store.append([start("later")])
    assert store.flush()
    assert store.run("later") is not None


def test_an_error_with_half_a_character_is_kept(store):
    store.append([start(), RunEnded(run_id="r1", status="failed", error="no file caf\udce9")])
    assert store.flush()
    assert (store.run("r1").status, store.run("r1").error) == ("failed", "no file caf\\udce9")
    assert [event.kind for _, event in store.events("r1")] == ["run_started", "run_ended"]
    assert store.faults == []


def test_the_file_is_its_owners_only(store):
    assert os.stat(store.path).st_mode & 0o077 == 0


def test_every_event_is_written_as_its_json(store):
    events = [LMCalled(run_id="r", model="m", cost=at / 7, error="é\udc80" if at == 3 else None) for at in range(200)]
    store.append([RunStarted(run_id="r", name="n", of="map", info={1: {"a": (1, 2)}}), *events])
    assert store.flush()
    found = [event for _, event in store.events("r")]
    assert found[1:] == events
    assert found[0].info == {"1": {"a": [1, 2]}}
    assert [seq for seq, _ in store.events("r")] == sorted(seq for seq, _ in store.events("r"))


def test_events_of_steps_that_are_written_together_keep_their_runs_order(store):
    sent = {name: [start(name, of="pipeline")] for name in "ab"}
    for at in range(6):
        for name, events in sent.items():
            events.append(StepStarted(run_id=name, step=f"s{at}", reason="caf\udce9" if at == 2 else ""))
            if at % 3 == 1:
                events.append(LMCalled(run_id=name, model="m", prompt_tokens=at))
            events.append(StepEnded(run_id=name, step=f"s{at}", status="done", elapsed_s=at / 7))
    store.append([event for pair in zip(*sent.values(), strict=True) for event in pair])
    assert store.flush()
    for name, events in sent.items():
        rows = store.events(name)
        assert [event for _, event in rows] == events
        numbers = [seq for seq, _ in rows]
        assert numbers == sorted(numbers)
        for seq in set(numbers):
            assert [event for number, event in store.events(name, since=seq)] == [e for number, e in rows if number > seq]
        assert store.usage(name).prompt_tokens == 5
    with sqlite3.connect(store.path) as file:
        assert file.execute("SELECT count(*) FROM events WHERE run_id = 'a'").fetchone() == (1 + 3 + 2,)


def test_an_event_of_a_newer_version_hides_none_beside_it(store):
    ended = StepEnded(run_id="r", step="s", status="done")
    store.append([StepStarted(run_id="r", step="s", at=1.0), ended])
    assert store.flush()
    with sqlite3.connect(store.path) as file:
        file.execute("UPDATE events SET json = replace(json, 'step_started', 'step_dreamt')")
    assert [event for _, event in store.events("r")] == [ended]
