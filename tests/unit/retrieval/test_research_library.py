"""The research assistant's own cells, with a real PostgreSQL server in place of the index in memory."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

import dspex_nb as dx
from dspex_nb.pipelines import read_cell
from dspex_nb.testing.scripted import ScriptedLM

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "03_research_assistant.ipynb"


def answered(request):
    if "refined_queries" in json.dumps(request.messages[0]):
        return json.dumps({
            "reasoning": "r", "refined_queries": ["global statements", "declaring names global"], "strategy": "definition"
        })  # fmt: skip
    return json.dumps({"reasoning": "r", "answer": "It declares names.", "source": 1, "confidence": 0.9})


def test_the_assistant_searches_postgres_where_a_server_is_named(postgres, monkeypatch):
    monkeypatch.setenv("DSPEX_PG_DSN", postgres.dsn())
    cells = [one.source for one in nbformat.read(NOTEBOOK, as_version=4).cells if one.cell_type == "code"]
    pipeline = next(at for at, source in enumerate(cells) if source.startswith("%%pipeline research"))
    names: dict = {"__name__": "notebook"}
    for source in cells[1:pipeline]:  # behind the magics that set the table
        exec(compile(source, "<notebook>", "exec"), names)  # noqa: S102 - our own notebook
    try:
        assert names["by_word"].name == "postgres"
        assert names["by_word"].count() == len(names["topics"])
        research = dx.Pipeline.of(read_cell("research", cells[pipeline].partition("\n")[2], names))
        with dx.context(lm=ScriptedLM(answered), adapter="compact", cache=False):
            assert "postgres is searched" in research.plan()["hits.words"].reason
            result = research(query="What does the global statement do?")
        assert "global" in {passage.title for passage in result.fields["ranked"]}
        citation = result.report.citations[0]
        assert (citation.number, citation.passage_id) == (1, result.fields["ranked"][0].id)
    finally:
        names["by_word"].drop()
