"""The research assistant: over PostgreSQL on a real server, FAISS and Chroma at once, and its cell as the design writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import dspex_nb as dx
from dspex_nb.pipelines import read_cell
from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.scripted import ScriptedLM
from dspex_nb.testing.shell import TestingShell

pytestmark = pytest.mark.services
CELL = """
query: str

rewrite = chain_of_thought("query -> refined_queries: list[str]")
hits    = parallel(
    retriever(words, k=10), retriever(near, k=10), retriever(kept, k=10),
    query=refined_queries, merge="rrf",
)
ranked  = rerank(hits, query=query, method="mmr", k=5)
answer  = predict("query, passages: list[str] -> answer", passages=ranked)
report  = respond(answer, passages=ranked, format="markdown", citations=True)
"""


def answered(request):
    if "refined_queries" in json.dumps(request.messages[0]):
        return json.dumps({"reasoning": "r", "refined_queries": ["global statement", "declaring names global"]})
    return json.dumps({"answer": "The global statement declares names of the module [1]. See also [9]."})


@pytest.fixture
def three_stores(pgvector, tmp_path):
    """Make the same topics searchable in PostgreSQL, FAISS and Chroma; gone after the test."""
    for name in ("faiss", "chroma"):
        if not KINDS[name].installed:
            pytest.skip(f"pip install 'dspex_nb[{name}]'")
    made = {}

    def make(**options):
        topics = dx.datasets.python_topics()
        made["words"] = retriever("postgres", dsn=pgvector, table="research_topics", index=topics)
        made["near"] = retriever("faiss", index=topics, **options)
        made["kept"] = retriever("chroma", path=tmp_path / "chroma", index=topics, **options)
        return made

    yield make
    if "words" in made:
        made["words"].drop()
    if "kept" in made:
        made["kept"].close()


def check(citation, ranked, stores):
    """A citation is of that passage, which each store has under the same id."""
    cited = ranked[citation.number - 1]
    assert cited.id == citation.passage_id
    for index in stores.values():
        assert cited.text in {one.text for one in index.search(cited.text, k=50) if one.id == cited.id}


def test_three_stores_at_once_and_citations_that_resolve(three_stores):
    stores = three_stores(embedder=HashEmbedder(64))
    research = dx.Pipeline.of(read_cell("research", CELL, stores))
    with dx.context(lm=ScriptedLM(answered), adapter="compact", cache=False):
        result = research(query="What does the global statement do?")
    ranked = result.fields["ranked"]
    assert "global" in {one.title for one in ranked}
    (citation,) = result.report.citations
    assert citation.number == 1
    assert result.report.removed == (9,)
    check(citation, ranked, stores)


PARSE = """
def parse_query(query: str):
    return {"search_terms": [word for word in query.lower().split() if len(word) > 3], "filters": {}}
"""
WRITTEN = """%%pipeline research
query: str

parse    = native(parse_query, "query -> search_terms: list[str], filters: dict[str, str]")
rewrite  = chain_of_thought("search_terms -> refined_queries: list[str], strategy: str")
hits     = parallel(
    retriever("bm25", index=topics, k=20),
    retriever("faiss", index=topics, k=20),
    query=refined_queries, filter=filters, merge="rrf",
)
ranked   = rerank(hits, query=query, method="mmr", k=5)
answer   = multi_chain_comparison("query, passages: list[str] -> answer", passages=ranked, chains=3, aggregation="weighted_vote")
report   = respond(answer, passages=ranked, format="markdown", citations=True)
cache(ttl="1h")
"""
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_research_assistant.ipynb"
IN_THREE = """hits    = parallel(
    words=retriever(words, query=question, k=10),
    near=retriever(near, query=question, k=10),
    kept=retriever(kept, k=10),
"""


@pytest.mark.model
def test_the_cell_as_written_on_the_embedded_models():
    from pydoc_data.topics import topics

    if not KINDS["faiss"].installed:
        pytest.skip("pip install 'dspex_nb[faiss]'")
    with TestingShell() as shell:
        shell.run("%dspex lm local")
        shell.user_ns["topics"] = topics
        shell.run(PARSE)
        shell.run(WRITTEN)
        result = shell.run("research(query='What does the global statement do?')")
    ranked = result.fields["ranked"]
    assert "global" in {one.id for one in ranked}
    for citation in result.report.citations:
        assert topics[citation.passage_id] == ranked[citation.number - 1].text
    assert len(result.fields["hits"]) >= len(ranked) == 5


def notebooks_cells():
    """Return the notebook's cells from the query parser to the demos, and its pipeline over three stores."""
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    at = next(number for number, cell in enumerate(cells) if cell.startswith("%%pipeline"))
    first = next(number for number, cell in enumerate(cells) if "def parse_query" in cell)
    written, count = re.subn(r"hits .*?(?=    query=refined_queries)", IN_THREE, cells[at], flags=re.DOTALL)
    assert count == 1
    return ["import re\nfrom typing import Literal\nimport dspex_nb as dx", *cells[first:at], written]


@pytest.mark.model
def test_three_stores_at_once_on_the_embedded_models(three_stores):
    stores = three_stores()
    with TestingShell() as shell:
        shell.run("%dspex lm local")
        shell.user_ns.update(stores)
        for cell in notebooks_cells():
            shell.run(cell)
        for query, title in (("What does the global statement do?", "global"), ("What does the assert statement do?", "assert")):
            result = shell.run(f"research(query={query!r})")
            ranked = result.fields["ranked"]
            assert len(ranked) == 3
            assert title in {one.title for one in ranked}
            assert result.report.citations
            for citation in result.report.citations:
                assert f"[{citation.number}]" in result.report.answer
                check(citation, ranked, stores)
