"""The research assistant in a real kernel, offline, on the embedded model: its answers cite passages that exist."""

from __future__ import annotations

import json

import pytest
from notebook_cells import assert_ran, cell_with, code_cells, shown

pytestmark = [pytest.mark.notebook, pytest.mark.model, pytest.mark.timeout(400)]
NOTEBOOK = "03_research_assistant.ipynb"
STEPS = ["parse", "rewrite", "hits", "hits.asked", "hits.words", "hits.spelling", "ranked", "voted", "cited", "report"]
LAST = """
import json

def told(report):
    return {
        "answer": report.answer, "removed": report.removed, "text": str(report),
        "citations": [[one.number, one.passage_id] for one in report.citations],
    }

print(json.dumps({
    "corpus": [passage.id for passage in dx.datasets.python_topics()],
    "ranked": [passage.id for passage in result.fields["ranked"]],
    "filters": research(query="in:del How do I delete a name?").fields["filters"],
    "titles": [passage.title for passage in research(query="in:del How do I delete a name?").fields["ranked"]],
    "reports": [told(result.report), *map(told, table["report"])],
    "routes": {route.step: route.engine for route in research.plan().routes},
    "first": run.metrics.reset_index().to_dict("records"),
    "again": again.metrics.reset_index().to_dict("records"),
    "kinds": sorted({event.kind for event in run.events}),
}))
"""


@pytest.fixture(scope="module")
def facts(executed):
    return json.loads(code_cells(executed)[-1].outputs[-1].text)


def test_every_cell_ran_without_an_error(executed):
    assert_ran(executed)


def test_every_answer_cites_passages_that_exist(facts):
    for report in facts["reports"]:
        assert report["citations"], report
        for number, passage_id in report["citations"]:
            assert 1 <= number <= 3
            assert passage_id in facts["corpus"]
            assert f"[{number}]" in report["answer"]
        assert report["removed"] == []
    for number, passage_id in facts["reports"][0]["citations"]:
        assert facts["ranked"][number - 1] == passage_id


def test_the_report_is_markdown_with_its_sources(executed):
    text = shown(cell_with(executed, "result.report"), "text/markdown")
    assert "**Sources**" in text
    assert "pydoc" in text


def test_the_plan_shows_every_step_with_its_route(executed, facts):
    html = shown(cell_with(executed, "research.plan()"), "text/html")
    for step in STEPS:
        assert step in html
    assert "3 chains, weighted vote" in html
    assert "merged by rrf" in html
    assert "cached for 1h" in html
    engines = {"rewrite": "native", "voted": "native"}
    assert facts["routes"] == {step: engines.get(step, "python") for step in STEPS}


def test_events_reached_on_progress(executed, facts):
    told = shown(cell_with(executed, "progress"))
    for step in STEPS:
        assert f"('{step}', " in told
    assert {"run_started", "step_started", "step_ended", "lm_called", "run_ended"} <= set(facts["kinds"])


def test_the_first_run_asked_and_the_second_was_served_from_the_caches(facts):
    first, again = ({row["step"]: row for row in facts[name]} for name in ("first", "again"))
    assert (first["rewrite"]["calls"], first["voted"]["calls"]) == (1, 3)
    assert sum(row["calls"] for row in again.values()) == 0
    assert (again["rewrite"]["cache_hits"], again["voted"]["cache_hits"]) == (1, 3)
    for step in ("parse", "hits.asked", "hits.words", "hits.spelling", "cited"):
        assert again[step]["status"] == "cached", step
    assert [row["note"] for row in first.values() if row["note"]] == []


def test_a_filter_in_the_question_keeps_the_search_to_one_topic(facts):
    assert facts["filters"] == {"title": "del"}
    assert set(facts["titles"]) == {"del"}
