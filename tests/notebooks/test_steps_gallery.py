"""The gallery in a real kernel, on the embedded model: each step kind really runs, by the route it should."""

from __future__ import annotations

import inspect

import pytest
from notebook_cells import RUNS, assert_ran, cell_with, shown

import dspex_nb.pipelines as constructors
from dspex_nb.pipelines.options import OPTIONS, STEP_OPTIONS

pytestmark = [pytest.mark.notebook, pytest.mark.model, pytest.mark.timeout(500)]
NOTEBOOK, LAST = "02_steps_gallery.ipynb", RUNS

# run, step, engine, status, LM requests at least (from the cache or not)
KINDS = [
    ("loud", "loud_text", "python", "done", 0),
    ("patient", "answer", "python", "done", 0),
    ("split", "word", "python", "done", 0),
    ("measured", "facts", "python", "done", 0),
    ("sorted_mail", "desk", "native", "done", 1),
    ("considered", "guess", "native", "done", 1),
    ("by_majority", "vote", "native", "done", 3),
    ("by_weight", "vote", "native", "done", 3),
    ("by_comparing", "verdict", "dspy", "done", 2),
    ("titled", "headline", "dspy", "done", 1),
    ("refined", "headline", "dspy", "done", 1),
    ("by_neighbours", "desk", "dspy", "done", 1),
    ("replied", "reply", "dspy", "done", 1),
    ("replied_too", "reply", "dspy", "done", 1),
    ("greeting", "note", "python", "done", 0),
    ("asked", "hello", "native", "done", 1),
    ("looked_at", "signs", "python", "done", 0),
    ("looked_at", "signs.mood", "native", "done", 1),
    ("looked_at_too", "signs.shout", "python", "done", 0),
    ("merged", "union_", "python", "done", 0),
    ("merged", "fused", "python", "done", 0),
    ("merged", "joined", "python", "done", 0),
    ("merged", "own", "python", "done", 0),
    ("found", "hits", "python", "done", 0),
    ("reranked", "best", "python", "done", 0),
    ("cited", "report", "python", "done", 0),
    ("outer", "inner", "python", "done", 0),
    ("maybe", "loud", "python", "skipped", 0),
    ("rescued", "result", "python", "failed", 0),
    ("rescued", "result.on_error", "python", "done", 0),
    ("skipped", "result", "python", "failed", 0),
    ("each", "topic", "native", "done", 3),
    ("longest", "winner", "python", "done", 0),
    ("by_dspy", "desk", "dspy", "done", 1),
    ("pooled", "loud_text", "python", "done", 0),
    ("remembered", "length", "python", "cached", 0),
    ("stubborn", "result", "python", "done", 0),
    ("impatient", "result", "python", "failed", 0),
    ("impatient", "result.on_error", "python", "done", 0),
]
AGENTS = ["agent", "agent_2", "calculated", "acted", "recursive"]
SANDBOXED = ("acted", "recursive")


def test_every_cell_ran_without_an_error(executed):
    assert_ran(executed)


@pytest.mark.parametrize(("run", "step", "engine", "status", "calls"), KINDS, ids=[f"{one[0]}-{one[1]}" for one in KINDS])
def test_each_kind_ran_by_its_route(runs, run, step, engine, status, calls):
    row = runs[run][step]
    assert (row["engine"], row["status"]) == (engine, status)
    assert row["calls"] + row["cache_hits"] >= calls
    assert row["reason"].startswith(f"{engine}: ")


# At its first start the sandbox loads Pyodide from the npm registry; without it these two fail before they ask.
@pytest.mark.parametrize("run", [pytest.param(one, marks=pytest.mark.services) if one in SANDBOXED else one for one in AGENTS])
def test_each_agent_asked_the_model_and_was_answered_for_if_it_failed(runs, run):
    step, fallback = runs[run]["answer"], runs[run]["answer.on_error"]
    assert step["engine"] == "dspy"
    assert step["calls"] >= 1, "the model was not even asked"
    assert (step["status"], fallback["status"]) in {("done", "skipped"), ("failed", "done")}


def test_each_constructor_option_and_merge_has_its_cell(executed):
    source = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "code")
    made = {name for name, one in inspect.getmembers(constructors, inspect.isfunction) if hasattr(one, "__dspex_constructor__")}
    # A module is written as it is, Polite() or polite; ColBERTv2 is a server of its own.
    for name in (made & set(OPTIONS)) - {"module", "colbertv2"}:
        assert f"{name}(" in source, name
    for option in set(STEP_OPTIONS) - {"adapter", "state"}:
        assert f"{option}=" in source, option
    for word in ("compare", "majority", "weighted_vote", "union", "rrf", "concat", "merge=shortest", "mmr"):
        assert word in source, word


def test_every_cell_with_a_step_has_a_sentence_above_it(executed):
    told = False
    for cell in executed.cells[:-1]:
        if cell.cell_type == "markdown":
            told = True
        elif cell.source.startswith("%%pipeline"):
            assert told, cell.source
            told = False


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("loud", "HELLO"), ("patient", "hello, later"), ("split", "3"), ("greeting", "Dear Ada, short name!"), ("rescued", "HELLO"),
        ("longest", "The phone is staffed from 9 to 17."), ("impatient", "HELLO"), ("stubborn", "hello"), ("found", "Refunds take"),
        ("reranked", "Refunds take"), ("merged", "own     Refunds take five days."), ("by_majority", "paris"),
    ],
)  # fmt: skip
def test_what_does_not_depend_on_the_model_is_as_it_should_be(executed, run, expected):
    assert expected in shown(cell_with(executed, f"%%pipeline {run} --inputs"))


def test_a_citation_that_leads_nowhere_is_taken_out(executed):
    told = shown(cell_with(executed, "%%pipeline cited --inputs"))
    assert "Refunds take five days [1]." in told
    assert '"removed": [9]' in told


def test_the_run_views_end_with_their_last_picture(executed):
    for cell in executed.cells:
        if cell.cell_type == "code" and cell.source.startswith("%%pipeline") and "--inputs" in cell.source:
            told = shown(cell)
            assert ": done in" in told, told
            assert "waiting" not in told, told
