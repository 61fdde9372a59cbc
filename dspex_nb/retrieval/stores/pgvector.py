"""`PgVector`: passages in a table of PostgreSQL with the extension pgvector: vectors, and words by its full text search."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, LiteralString

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import postgres_statements as statements
from dspex_nb.retrieval.base import Filter
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.hits import Hit
from dspex_nb.retrieval.postgres import Postgres, stored
from dspex_nb.retrieval.vectors import VectorIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_BATCH = 1000
_DIMENSION = """SELECT atttypmod FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attname = 'vector' AND NOT attisdropped"""
_PUT: LiteralString = """
INSERT INTO {table} AS old (id, text, metadata, vector)
SELECT id, text, metadata::jsonb, vector::vector FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
    AS given (id, text, metadata, vector)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, metadata = excluded.metadata, vector = excluded.vector
"""
_FIND: LiteralString = """
SELECT id, text, metadata, vector <#> %s::vector AS raw FROM {table} WHERE vector IS NOT NULL AND {where}
ORDER BY vector <#> %s::vector LIMIT %s
"""
_INDEX: LiteralString = "CREATE INDEX ON {table} USING hnsw (vector vector_ip_ops)"
_APPROXIMATE = ("SET LOCAL hnsw.iterative_scan = strict_order", "SET LOCAL hnsw.ef_search = 100")  # filters lose nothing


class PgVector(VectorIndex):
    """Passages in PostgreSQL, found by vectors, words or both. The table is one of the retriever `postgres`, with a column more.

    Args:
        dsn: A URL or `key=value` text; what it leaves out comes from `PGHOST`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`.
        table: The table's name: small letters, digits, underscores.
        language: The text search configuration, e.g. `english`, `german` or `simple`.
        approximate: True for an HNSW index: faster for many, and a few may be missed.
        timeout_s: Seconds that a statement may take.
    """

    name = "pgvector"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    metric = "negative cosine"
    kept = "server"
    concurrent = True

    def _open(
        self,
        *,
        dsn: str = "",
        table: str = "dspex_passages",
        language: str = "english",
        approximate: bool = False,
        timeout_s: float = 30,
    ) -> None:
        self._texts = Postgres(dsn=dsn, table=table, language=language, timeout_s=timeout_s)
        self._table, self._approximate = table, approximate
        self._look()

    @property
    def version(self) -> str:
        """A hash of the table's rows, asked of the server."""
        return self._texts.version

    def count(self) -> int:
        """Return how many passages the table holds."""
        return self._texts.count()

    def close(self) -> None:
        """Close the connections; the table stays."""
        self._texts.close()

    def drop(self) -> None:
        """Remove the table and what it holds; the index cannot be used afterwards."""
        self._texts.drop()

    def __repr__(self) -> str:
        return repr(self._texts).replace("postgres", self.name, 1)

    def _look(self) -> None:
        with self._texts.cursor() as cursor:
            found = cursor.execute(_DIMENSION, [self._table]).fetchone()
        self._dimension = int(found[0]) if found else None

    def _store(self, given: Columns, vectors: Vectors) -> None:
        if self._dimension is None:
            self._make(vectors.shape[1])
        rows = sorted(
            ((*stored(one), _written(vector)) for one, vector in zip(given.passages(), vectors.tolist(), strict=True)),
            key=lambda row: row[0],  # in one order, so that writers never wait in a circle
        )
        with self._texts.cursor() as cursor, cursor.connection.transaction():
            for start in range(0, len(rows), _BATCH):
                columns = [list(column) for column in zip(*rows[start : start + _BATCH], strict=True)]
                cursor.execute(self._texts.filled(_PUT), columns)

    def _make(self, dimension: int) -> None:
        from psycopg import sql

        with self._texts.cursor() as cursor, cursor.connection.transaction():
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._table])  # two may make it at once
            there = cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
            if there is None:
                raise RetrieverError("this PostgreSQL has no extension 'vector'", hint="install pgvector on the server")
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            if cursor.execute(_DIMENSION, [self._table]).fetchone() is None:
                column = sql.SQL("ALTER TABLE {table} ADD COLUMN vector vector({dimension})")
                cursor.execute(column.format(table=sql.Identifier(self._table), dimension=sql.Literal(dimension)))
                if self._approximate:
                    cursor.execute(self._texts.filled(_INDEX))
        self._look()

    def _nearest(self, vectors: Vectors, k: int, where: statements.Where | None) -> list[list[Hit]]:
        find, asked = self._asked(vectors, k, where)
        with self._texts.cursor() as cursor, cursor.connection.transaction():
            for setting in _APPROXIMATE if self._approximate else ():
                cursor.execute(setting)
            return [_hits(cursor.execute(find, values).fetchall()) for values in asked]

    async def _anearest(self, vectors: Vectors, k: int, where: statements.Where | None) -> list[list[Hit]]:
        if not self._texts.awaited.possible():
            return await asyncio.to_thread(self._nearest, vectors, k, where)
        find, asked = self._asked(vectors, k, where)
        async with self._texts.awaited.borrow() as connection, connection.transaction():
            for setting in _APPROXIMATE if self._approximate else ():
                await connection.execute(setting)
            return [_hits(await (await connection.execute(find, values)).fetchall()) for values in asked]

    async def _asparse(self, query: str, k: int, filter: Filter | None) -> list[Passage]:  # noqa: A002
        return await self._texts.asearch(query, k, filter)

    async def acount(self) -> int:
        """Return what `count` does, awaiting the server."""
        return await self._texts.acount()

    async def adelete(self, ids: str | Iterable[str]) -> int:
        """Do what `delete` does, awaiting the server."""
        return await self._texts.adelete(ids)

    async def _awhere(self, condition: Condition) -> statements.Where:
        return self._where(condition)

    def _asked(self, vectors: Vectors, k: int, where: statements.Where | None) -> tuple[Any, list[list[Any]]]:
        """Return the statement that finds, and its values for each vector."""
        condition, values = where or statements.where(None)
        return self._texts.filled(_FIND, where=condition), [[one, *values, one, k] for one in map(_written, vectors.tolist())]

    def _where(self, condition: Condition) -> statements.Where:
        return statements.where(condition)

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        return self._texts._find(query, k, condition)  # noqa: SLF001 - the condition is read already

    def _drop(self, ids: list[str]) -> int:
        return self._texts.delete(ids)


def _hits(rows: list[Any]) -> list[Hit]:
    return [(name, text, metadata, float(raw)) for name, text, metadata, raw in rows]


def _written(vector: list[float]) -> str:
    return json.dumps(vector)
