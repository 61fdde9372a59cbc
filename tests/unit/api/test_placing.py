"""Rows of a map or an evaluation in a pool's workers: nothing else changes."""

from __future__ import annotations

import os
import threading

import pytest

import dspex_nb as dx
from dspex_nb import ambient
from dspex_nb.ambient import Session
from dspex_nb.errors import PoolError, TransferError

ROWS = [{"text": "a"}, {"text": "bb"}, {"text": "boom"}, {"text": "dddd"}]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A session of its own."""
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    monkeypatch.setattr(ambient, "_root", Session())
    now = dx.session()
    yield now
    now.pools.close()
    now.store.close()


@pytest.fixture
def server(model_server):
    return model_server(lambda body: "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]")


def size(text):
    if text == "boom":
        raise ValueError("on purpose")
    return len(text)


def place(text):
    return os.getpid()


def test_a_map_in_a_pool_gives_the_frame_it_gives_here(notebook):
    pipe = dx.Pipeline("p", size=dx.native(size, text=dx.field("text")), at=dx.native(place, text=dx.field("text")))
    here, there = pipe.map(ROWS, live=False), pipe.map(ROWS, live=False, backend="loky")
    assert list(there.columns) == list(here.columns)
    assert there["size"].tolist()[:2] == [1, 2]
    assert "on purpose" in there["error"][2]
    assert there["error"].isna().tolist() == here["error"].isna().tolist() == [True, True, False, True]
    assert set(here["at"].dropna()) == {os.getpid()}
    assert os.getpid() not in set(there["at"].dropna())
    pool = notebook.pools.get("loky")
    again = list(pipe.map(ROWS, live=False, backend="loky", return_as="generator"))
    assert [row["size"] for row in again][3] == 4
    assert notebook.pools.get("loky") is pool  # found, not made anew


def test_an_evaluation_in_a_pool_scores_the_same_and_its_calls_are_told_here(notebook, server):
    dx.configure(lm=dx.LM("openai/m", api_base=server.url, api_key="sk-mine"))
    rows = [{"question": word, "answer": "yes"} for word in ("one", "two", "three")]
    program = dx.Predict("question -> answer")
    pool = dx.pool("rows", 1, "loky")
    there = dx.evaluate(program, rows, backend=pool)
    assert there.score == 1.0
    assert len(server.bodies) == 3
    assert notebook.ledger.calls == 3
    here = dx.evaluate(program, rows)  # from the cache that the worker wrote
    assert here.score == 1.0
    assert len(server.bodies) == 3
    assert dx.evaluate(len_of, [{"text": "ab", "output": 2}], metrics=exact, backend=pool).score == 1.0


def len_of(text):
    return len(text)


def exact(example, prediction, trace=None):
    return example.output == prediction.output


def test_a_backend_that_is_not_known_and_a_program_that_cannot_travel(notebook):
    pipe = dx.Pipeline("p", size=dx.native(size, text=dx.field("text")))
    with pytest.raises(PoolError, match="backend 'dusk'"):
        pipe.map(ROWS, backend="dusk")
    lock = threading.Lock()
    held = dx.Pipeline("p", size=dx.native(lambda text: (lock, len(text))[1], text=dx.field("text")))
    with pytest.raises(TransferError, match="cannot be sent"):
        held.map(ROWS, backend="loky")
    assert held.map(ROWS, backend="thread", live=False)["size"].tolist() == [1, 2, 4, 4]
