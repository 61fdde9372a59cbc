"""What holds for any input: filters mean the same in memory and in PostgreSQL, and no answer breaks `respond`."""

from __future__ import annotations

import json
import re

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from dspex_nb.passages import Passage
from dspex_nb.retrieval import merge, respond, retriever
from dspex_nb.retrieval.citing import spans
from dspex_nb.retrieval.filters import matches, read_filter
from dspex_nb.retrieval.postgres_statements import where

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
letters = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
numbers = st.integers(-3, 3) | st.sampled_from([0.5, -0.0, 1.0, 1e300, 2**70])
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | st.sampled_from(["", "a", "b", "0", "true", "ä", "\U0001f642", '"', "\\", "'"])
    | letters
)
keys = st.sampled_from(["x", "y", "z'\"", "$.x"]).filter(lambda key: not key.startswith("$")) | letters.filter(
    lambda key: not key.startswith("$")
)
metadatas = st.dictionaries(
    keys, scalars | st.lists(scalars, max_size=3) | st.dictionaries(letters, scalars, max_size=2), max_size=4
)
orders = st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers | letters)
tests = (
    st.tuples(st.sampled_from(["$eq", "$ne"]), scalars)
    | st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3))
    | st.tuples(st.just("$exists"), st.booleans())
    | orders
)
leaves = st.dictionaries(keys, scalars | st.lists(tests, min_size=1, max_size=2).map(dict), min_size=1, max_size=2)
filters = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda part: {"$not": part}, inner)
        | st.builds(lambda join, parts: {join: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def connection(postgres):
    with psycopg.connect(postgres.dsn(), autocommit=True) as made:
        yield made


@QUICK
@given(asked=filters, metadata=metadatas)
def test_a_filter_means_the_same_in_sql(connection, asked, metadata):
    condition = read_filter(asked)
    text, values = where(condition)
    statement = sql.SQL("SELECT {} FROM (SELECT %s::jsonb AS metadata) AS one").format(text)
    (held,) = connection.execute(statement, [*values, json.dumps(metadata)]).fetchone()
    assert held is matches(condition, metadata)


pieces = st.sampled_from(["[1]", "[2]", "[7]", "[1, 9]", "[0]", "`", "```\n", "x", "Loops iterate elements. ", "\n", "\n\n", "[3](u)", "7]", "<b>", "</p><script>", " ", "é", "[", "]", "#", "~~~"])  # fmt: skip
PASSAGES = [Passage("loops iterate elements", "a", metadata={"title": "<i>"}), Passage("<script>x</script>", "b")]


@QUICK
@given(
    answer=st.lists(pieces, max_size=25).map("".join) | st.text(max_size=60), format=st.sampled_from(["markdown", "html", "json"])
)
def test_every_mark_of_any_answer_points_at_a_passage(answer, format):  # noqa: A002 - the parameter's name
    report = respond(answer, PASSAGES, format)
    prose = "".join(piece for piece, code in spans(report.answer) if not code)
    marked = {
        int(number) for found in re.findall(r"(?<!\w)\[([\d, ]+)\](?!\(|:\s)", prose) for number in re.findall(r"\d+", found)
    }
    assert marked <= {1, 2}
    assert {one.number for one in report.citations} <= {1, 2}
    if format == "html":
        assert set(re.findall(r"<\s*([a-zA-Z!?][^\s>]*)", report.text)) <= {"div", "p", "strong", "ol", "li"}
    if format == "json":
        assert json.loads(report.text)["answer"] == report.answer


@QUICK
@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=4))
def test_merges_keep_each_item_and_order(rankings):
    every = {item for ranking in rankings for item in ranking}
    for method in ("union", "rrf"):
        merged = merge(rankings, method)
        assert len(merged) == len(set(merged))
        assert set(merged) == every
    assert merge(rankings[:1], "rrf") == (rankings[0] if rankings else [])


@QUICK
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.text(st.sampled_from("xyz "), max_size=8)), max_size=12),
    st.sampled_from(["bm25", "trigram"]),
)
def test_any_history_leaves_what_its_end_says(history, kind):
    found, kept = retriever(kind), {}
    for name, text in history:
        if text is None:
            found.delete(name)
            kept.pop(name, None)
        else:
            found.add([text], ids=[name])
            kept[name] = text
    fresh = retriever(kind, index=kept)
    assert (found.count(), found.version) == (len(kept), fresh.version)
    assert found.search("x yy z", k=9) == fresh.search("x yy z", k=9)
