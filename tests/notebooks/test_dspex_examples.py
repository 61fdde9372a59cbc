"""DSPex's twenty examples, as pipeline cells and calls, in a real kernel on the embedded model."""

from __future__ import annotations

import re

import pytest
from notebook_cells import RUNS, assert_ran, cell_with, shown

pytestmark = [pytest.mark.notebook, pytest.mark.model, pytest.mark.timeout(500)]
NOTEBOOK, LAST = "04_dspex_examples.ipynb", RUNS
EXAMPLES = [
    "basic", "chain_of_thought", "qa_with_context", "multi_hop_qa", "rag", "custom_signature", "multi_field", "classification",
    "entity_extraction", "code_gen", "math_reasoning", "summarization", "translation", "custom_module", "optimization",
    "flagship_multi_pool_gepa", "flagship_multi_pool_rlm", "rlm_data_extraction", "direct_lm_call", "timeout_test",
]  # fmt: skip


def test_every_cell_ran_without_an_error(executed):
    assert_ran(executed)


def test_the_twenty_are_there_in_their_order(executed):
    headings = [re.match(r"\*\*(\d+) · (\w+)\.", cell.source) for cell in executed.cells if cell.cell_type == "markdown"]
    assert [match.group(2) for match in headings if match] == EXAMPLES
    assert [int(match.group(1)) for match in headings if match] == list(range(1, 21))


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ('dx.Predict("question -> answer")', ["answer"]), ("Is water wet?", ["reasoning", "answer"]),
        ("My card was charged twice!", ["desk", "urgency"]), ("Nothing works today!", ["language", "mood", "words"]),
        ("I love this place, great", ["sentiment"]), ("Ada met Charles", ["people", "cities"]), ("class Summary", ["summary"]),
    ],
)  # fmt: skip
def test_the_calls_show_their_fields_and_the_native_engine(executed, source, fields):
    told = shown(cell_with(executed, source))
    for name in fields:
        assert re.search(rf"^{name}\s", told, re.MULTILINE), told
    assert "native engine" in told


@pytest.mark.parametrize(
    ("run", "step", "engine", "calls"),
    [
        ("qa_with_context", "answer", "native", 1), ("multi_hop_qa", "hop_1", "native", 1), ("multi_hop_qa", "hop_2", "native", 1),
        ("rag", "passages", "python", 0), ("rag", "answer", "native", 1), ("rag", "report", "python", 0),
        ("math_reasoning", "result", "native", 3), ("translation", "translated.french", "native", 1),
        ("translation", "translated.spanish", "native", 1), ("custom_module", "headline", "dspy", 1),
        ("flagship_gepa", "verdict", "native", 1), ("flagship_gepa", "tidy", "python", 0),
    ],
)  # fmt: skip
def test_the_pipelines_ran_by_their_routes(runs, run, step, engine, calls):
    row = runs[run][step]
    assert (row["engine"], row["status"]) == (engine, "done")
    assert row["calls"] + row["cache_hits"] >= calls


def test_the_studies_scored_and_ended(executed):
    trials = shown(cell_with(executed, "BootstrapFewShot"))
    assert len(re.findall(r"^\d+ .*\d\.\d", trials, re.MULTILINE)) >= 2, trials
    assert "done" in shown(cell_with(executed, '"GEPA"'))


def test_the_flagships_ran_in_their_pools_and_asked_the_model(runs):
    gepa, rlm, extraction = runs["flagship_gepa"], runs["flagship_rlm"], runs["rlm_data_extraction"]
    assert {gepa["tidy"]["pool"], gepa["note"]["pool"]} == {"readers", "writers"}
    assert rlm["notes"]["pool"] == "readers"
    for steps, step in ((rlm, "answer"), (extraction, "days")):
        assert steps[step]["engine"] == "dspy"
        assert steps[step]["calls"] >= 1
        assert (steps[step]["status"], steps[f"{step}.on_error"]["status"]) in {("done", "skipped"), ("failed", "done")}


def test_the_bare_call_and_the_timeout(executed, runs):
    assert "completion_tokens=" in shown(cell_with(executed, "response = lm("))
    assert "hello, without waiting" in shown(cell_with(executed, "%%pipeline timeout_test"))
    assert (runs["timeout_test"]["result"]["status"], runs["timeout_test"]["result.on_error"]["status"]) == ("failed", "done")
    assert runs["timeout_test"]["result"]["seconds"] < 1.5
