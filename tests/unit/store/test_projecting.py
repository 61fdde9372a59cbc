"""The tables of studies: what views read "since seq", kept abreast of the log."""

import sqlite3

import pytest

from dspex_nb.events import LMCalled, RowScored, RunEnded, RunStarted, TrialEnded, TrialStarted
from dspex_nb.store import Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "runs.db")
    opened.append([RunStarted(run_id="s", name="study", of="study")])
    yield opened
    opened.close()


def write(store, *events):
    store.append(events)
    assert store.flush()


def test_a_trial_from_start_to_end(store):
    info = {"kind": "minibatch", "examples": 2, "parent": 0, "label": "zero-shot", "params": {"a": 1}}
    write(store, TrialStarted(run_id="s", trial=1, info=info))
    (row,) = store.trials("s")
    assert (row.trial, row.kind, row.status, row.score, row.parent, row.examples) == (1, "minibatch", "running", None, 0, 2)
    ended = TrialEnded(
        run_id="s", trial=1, score=0.5, best=0.75, examples=2, elapsed_s=3.0, info={"errors": 1, "state": {"x": 1}}
    )
    write(store, ended)
    (row,) = store.trials("s", since=row.seq)
    assert (row.status, row.score, row.best, row.errors, row.elapsed_s, row.parent) == ("done", 0.5, 0.75, 1, 3.0, 0)
    assert row.info == info | {"errors": 1, "state": {"x": 1}}
    assert store.trials("s", since=row.seq) == []
    write(store, TrialStarted(run_id="s", trial=2, info={"kind": "full"}), RunEnded(run_id="s", status="stopped"))
    assert [(trial.trial, trial.status) for trial in store.trials("s", since=row.seq)] == [(2, "stopped")]


def test_examples_are_read_since_and_by_trial(store):
    write(
        store,
        RowScored(run_id="s", trial=0, index=3, scores={"f1": 1.0}, elapsed_s=0.5),
        RowScored(run_id="s", index=4, scores={}),
    )
    (first,) = store.examples("s")
    assert (first.trial, first.index, first.score, first.error, first.elapsed_s) == (0, 3, 1.0, None, 0.5)
    write(store, RowScored(run_id="s", trial=1, index=3, scores={}, error="raised"))
    assert [(row.trial, row.score, row.error) for row in store.examples("s", since=first.seq)] == [(1, None, "raised")]
    assert [row.trial for row in store.examples("s", trial=0)] == [0]
    write(store, RowScored(run_id="s", trial=0, index=3, scores={"f1": 0.0}))
    assert [(row.trial, row.score) for row in store.examples("s")] == [(1, None), (0, 0.0)]


def test_calls_are_kept_by_trial_and_summed_paid_saved_and_unknown_apart(store):
    def call(**rest):
        return LMCalled(**{"run_id": "s", "model": "m", "prompt_tokens": 10, "completion_tokens": 2, "trial": 0, **rest})

    begun = TrialStarted(run_id="s", trial=0, info={"kind": "start"})
    write(store, begun, call(cost=0.5, index=1), call(cost=None), call(cached="disk", saved=0.25, cost=0.0))
    write(store, call(cost=0.25, trial=None), call(error="down", trial=None, prompt_tokens=0, completion_tokens=0))
    usage = store.usage("s")
    assert (usage.calls, usage.cache_hits, usage.errors, usage.prompt_tokens) == (3, 1, 1, 30)
    assert (usage.cost, usage.unpriced, usage.saved_cost, usage.unpriced_hits) == (0.75, 1, 0.25, 0)
    (row,) = store.trials("s")
    assert (row.calls, row.cache_hits, row.prompt_tokens, row.cost, row.saved_cost) == (2, 1, 20, None, 0.25)
    found = store.calls("s")
    assert [(one.trial, one.index, one.cost, one.cached) for one in found][:3] == [
        (0, 1, 0.5, None),
        (0, None, None, None),
        (0, None, 0.0, "disk"),
    ]
    assert [one.seq for one in store.calls("s", trial=0, limit=2)] == [found[0].seq, found[1].seq]
    assert [one.error for one in store.calls("s", since=found[3].seq)] == ["down"]


def test_calls_of_other_runs_stay_in_the_log(store):
    write(store, RunStarted(run_id="m", name="map", of="map"), LMCalled(run_id="m", model="m", prompt_tokens=3, cost=0.5))
    assert store.calls("m") == []
    usage = store.usage("m")
    assert (usage.calls, usage.prompt_tokens, usage.cost, usage.unpriced) == (1, 3, 0.5, 0)


def test_a_store_of_the_first_version_opens_with_its_trials(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript("""
            CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
                json TEXT NOT NULL);
            CREATE TABLE runs (run_id TEXT PRIMARY KEY, name TEXT NOT NULL, of_kind TEXT NOT NULL, status TEXT NOT NULL,
                started REAL NOT NULL, ended REAL, owner_pid INTEGER NOT NULL, owner_started INTEGER NOT NULL, error TEXT,
                info TEXT NOT NULL, result TEXT NOT NULL DEFAULT '{}');
            CREATE TABLE trials (run_id TEXT NOT NULL, trial INTEGER NOT NULL, score REAL NOT NULL, best REAL NOT NULL,
                examples INTEGER NOT NULL, elapsed_s REAL NOT NULL, at REAL NOT NULL, info TEXT NOT NULL,
                PRIMARY KEY (run_id, trial));
            INSERT INTO runs VALUES ('o', 'old', 'study', 'done', 1.0, 2.0, 1, 1, NULL, '{}', '{}');
            INSERT INTO events (run_id, kind, at, json) VALUES ('o', 'lm_called', 1.0,
                '{"kind":"lm_called","run_id":"o","model":"m","prompt_tokens":7,"completion_tokens":1}');
            INSERT INTO trials VALUES ('o', 0, 0.5, 0.5, 4, 1.0, 2.0, '{"kind": "start", "errors": 1, "demos": 2}');
        """)
    old.close()
    store = Store(path)
    (row,) = store.trials("o")
    assert (row.kind, row.status, row.score, row.errors, row.info["demos"], row.seq) == ("start", "done", 0.5, 1, 2, 1)
    assert store.usage("o").prompt_tokens == 7
    store.close()
    Store(path).close()
