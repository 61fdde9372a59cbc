"""The statements of the PostgreSQL index: names are quoted by psycopg, values are parameters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, LiteralString, TypeAlias

from dspex_nb.retrieval.filters import Compare, Condition, Every, Opposite, Some

if TYPE_CHECKING:
    from psycopg import sql

    Where: TypeAlias = tuple[sql.Composable, list[object]]

OWNED = "dspex_nb passages 1, language "  # the table's comment begins so: another table of that name is left alone

# Without fastupdate: else searches read the list of new entries until the next vacuum, and the planner avoids the index.
CREATE = """
CREATE TABLE {table} (
    id text PRIMARY KEY,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    document tsvector GENERATED ALWAYS AS (to_tsvector({language}::regconfig, text)) STORED,
    digest text GENERATED ALWAYS AS (md5(md5(id) || md5(text) || md5(metadata::text))) STORED
);
CREATE INDEX ON {table} USING gin (document) WITH (fastupdate = off);
COMMENT ON TABLE {table} IS {comment};
"""
PUT = """
INSERT INTO {table} AS old (id, text, metadata)
SELECT id, text, metadata::jsonb FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (id, text, metadata)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, metadata = excluded.metadata
WHERE (old.text, old.metadata) IS DISTINCT FROM (excluded.text, excluded.metadata)
"""
DELETE = "DELETE FROM {table} WHERE id = ANY(%s)"
COUNT = "SELECT count(*) FROM {table}"
# Digests are numbers of 60 bits; their sum does not depend on the order of the rows. What another program changed counts too.
VERSION = "SELECT count(*), coalesce(sum(('x' || left(digest, 15))::bit(60)::bigint), 0)::text FROM {table}"
# The query is read in a statement of its own: as a plain parameter of FIND the planner knows it and takes the index.
ASK = """
WITH parts AS (SELECT DISTINCT {parse}(%s::regconfig, part) AS query FROM unnest(%s::text[]) AS part)
SELECT array_agg(query::text), string_agg('(' || query::text || ')', ' | ') FROM parts WHERE numnode(query) > 0
"""
# Each word of the query is one part; a passage needs one of them. The score is the share of parts found, plus how near they
# stand together (0 to 1). PostgreSQL itself has no weight for rare words.
FIND = """
SELECT id, text, metadata,
    (SELECT avg((document @@ part)::int) FROM unnest(%s::tsquery[]) AS part)::float8
        + ts_rank_cd(document, %s::tsquery, 32) AS score
FROM {table} WHERE document @@ %s::tsquery AND {where}
ORDER BY score DESC, id COLLATE "C" LIMIT %s
"""

# jsonpath compares like with like only, and looks into lists: the meaning that the filter language promises.
_PATHS: dict[str, LiteralString] = {
    "$eq": "$ ? (@ == $wanted)",
    "$gt": "$ ? (@ > $wanted)",
    "$gte": "$ ? (@ >= $wanted)",
    "$lt": "$ ? (@ < $wanted)",
    "$lte": "$ ? (@ <= $wanted)",
}


def where(condition: Condition | None) -> Where:
    """Return a condition as SQL with its parameters."""
    from psycopg import sql  # here: what the retriever can do is told without it

    if condition is None:
        return sql.SQL("true"), []
    if isinstance(condition, Every | Some):
        parts = [where(part) for part in condition.parts]
        joined = sql.SQL(" AND " if isinstance(condition, Every) else " OR ").join(text for text, _ in parts)
        return sql.SQL("({})").format(joined), [value for _, values in parts for value in values]
    if isinstance(condition, Opposite):
        text, values = where(condition.part)
        return sql.SQL("(NOT {})").format(text), values
    return _compare(condition)


def _compare(condition: Compare) -> Where:
    from psycopg import sql

    if condition.operator == "$exists":
        return sql.SQL("(jsonb_exists(metadata, %s) = %s)"), [condition.key, condition.value]
    if condition.operator == "$in":
        parts = tuple(Compare(condition.key, "$eq", one) for one in condition.value)
        return where(Some(parts)) if parts else (sql.SQL("false"), [])
    test = sql.SQL("coalesce(jsonb_path_exists(metadata -> %s, {}::jsonpath, jsonb_build_object('wanted', %s::jsonb)), false)")
    wanted = json.dumps(condition.value, ensure_ascii=False)
    return test.format(sql.Literal(_PATHS[condition.operator])), [condition.key, wanted]
