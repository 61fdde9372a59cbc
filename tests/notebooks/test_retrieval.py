"""The retrieval notebook in a real kernel: words, vectors, both and reranked, measured again. By hand: it embeds for minutes."""

from __future__ import annotations

import json

import pytest
from notebook_cells import assert_ran, cell_with, code_cells, shown

from dspex_nb.retrieval import embedding_local

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.services,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not embedding_local.available(), reason=f"not installed: {embedding_local._INSTALL}"),
]
NOTEBOOK = "06_retrieval.ipynb"
LAST = """
print(json.dumps({
    "help": help_table.to_dict("index"),
    "bank": None if bank_table is None else bank_table.to_dict("index"),
    "halves": [help_half.to_dict("index"), None if bank_half is None else bank_half.to_dict("index")],
    "articles": sorted(held), "asked": len(questions),
}))
"""


@pytest.fixture(scope="module")
def facts(executed):
    return json.loads(code_cells(executed)[-1].outputs[-1].text)


def test_every_cell_ran_without_an_error(executed):
    assert_ran(executed)


def test_the_scores_are_of_real_searches(facts):
    for way in ("bm25", "dense", "hybrid", "reranked"):
        row = facts["help"][way]
        assert 0.3 < row["recall@5"] <= 1, (way, row)
        assert 0.2 < row["nDCG@10"] <= 1, (way, row)
    assert facts["asked"] == 40


def test_weights_are_measured_on_questions_that_did_not_choose_them(executed, facts):
    told = shown(cell_with(executed, "help_tried, help_half ="), "text/plain")
    for half in facts["halves"]:
        if half is not None:
            assert set(half) == {"bm25", "dense", "hybrid", "weighted"}
            assert half["weighted"]["nDCG@10"] > half["hybrid"]["nDCG@10"]
    assert "share" in told


def test_vectors_find_the_intent_that_words_do_not_say(facts):
    if facts["bank"] is None:
        pytest.skip("banking77_train_1000.jsonl is not there: set DSPEX_DATA")
    assert facts["bank"]["dense"]["nDCG@10"] > facts["bank"]["bm25"]["nDCG@10"]


def test_the_box_is_kept_for_a_saved_notebook(executed):
    assert "<mark" in shown(cell_with(executed, "search_box"), "text/html")
