"""`Postgres`: passages in a table of a PostgreSQL server, found by its full text search."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from dspex_nb.errors import DataError, RetrieverError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.retrieval import postgres_statements as statements
from dspex_nb.retrieval.base import Filter, Index, Mode, counted, deeper, listed, names_of, texts_of
from dspex_nb.retrieval.filters import Condition, read_filter
from dspex_nb.retrieval.merging import rrf
from dspex_nb.retrieval.postgres_awaited import AwaitedConnections
from dspex_nb.retrieval.postgres_connections import Connections

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_WRITTEN_OPERATORS = re.compile(r'"|(?:^|\s)-\w')
_HALVES = re.compile("[\ud800-\udfff]")
_BATCH = 1000


class Postgres(Index):
    """Find passages by the stems of their words, on a server, kept from one kernel to the next.

    The table is made and owned by the index. A query is a text; one with `"a phrase"` or `-without` is read as PostgreSQL's
    `websearch_to_tsquery` reads it, any other finds the passages that hold at least one of its words, those with most first.

    Args:
        index: Passages to add; those that are there already stay as they are.
        dsn: A URL or `key=value` text; what it leaves out comes from `PGHOST`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`.
        table: The table's name: small letters, digits, underscores.
        language: The text search configuration, e.g. `english`, `german` or `simple`.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
        timeout_s: Seconds that a statement may take.

    Raises:
        RetrieverError: No connection, a name that is not safe, an unknown language, or a table that is not ours.
    """

    name = "postgres"
    kept = "server"
    concurrent = True

    def __init__(
        self,
        index: Any = None,
        *,
        dsn: str = "",
        table: str = "dspex_passages",
        language: str = "english",
        k: int = 5,
        text_field: str | None = None,
        timeout_s: float = 30,
    ) -> None:
        if not isinstance(table, str) or not _NAME.fullmatch(table):
            raise RetrieverError(
                f"table={table!r} is not a safe name", hint='use small letters, digits and underscores, e.g. table="topics"'
            )
        self._table, self._language = table, language
        self._connections = Connections(dsn, timeout_s)
        self._make_table()
        super().__init__(index, k=k, text_field=text_field)

    @property
    def version(self) -> str:
        """A hash of the table's rows and its language, asked of the server."""
        with self.cursor() as cursor:
            row = cursor.execute(self.filled(statements.VERSION)).fetchone()
        written = json.dumps([self.name, self._language, row])
        return hashlib.sha256(written.encode()).hexdigest()

    def count(self) -> int:
        """Return how many passages the table holds."""
        with self.cursor() as cursor:
            row = cursor.execute(self.filled(statements.COUNT)).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the connections; the table stays, and the next search opens new ones."""
        self._connections.close()

    def drop(self) -> None:
        """Remove the table and what it holds; the index cannot be used afterwards."""
        with self.cursor() as cursor:
            cursor.execute(self.filled("DROP TABLE IF EXISTS {table}"))
        self.close()

    def __repr__(self) -> str:
        return f"<postgres retriever, table {self._table!r} at {self._connections.where}>"

    def _put(self, passages: list[Passage]) -> None:
        rows = [
            stored(one) for one in sorted(passages, key=lambda one: one.id)
        ]  # in one order, so that writers never wait in a circle
        with self.cursor() as cursor, cursor.connection.transaction():
            for start in range(0, len(rows), _BATCH):
                ids, texts, metadatas = zip(*rows[start : start + _BATCH], strict=True)
                cursor.execute(self.filled(statements.PUT), [list(ids), list(texts), list(metadatas)])

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        where, values = statements.where(condition)
        with self.cursor() as cursor:
            parts, whole = cursor.execute(*self._asked(query)).fetchone() or (None, None)
            if whole is None:  # nothing but stop words
                return []
            found = cursor.execute(self.filled(statements.FIND, where=where), [parts, whole, whole, *values, k])
            return _passages(found.fetchall())

    async def _afind(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        where, values = statements.where(condition)
        async with self.awaited.borrow() as connection:
            parts, whole = await (await connection.execute(*self._asked(query))).fetchone() or (None, None)
            if whole is None:
                return []
            found = await connection.execute(self.filled(statements.FIND, where=where), [parts, whole, whole, *values, k])
            return _passages(await found.fetchall())

    def _asked(self, query: str) -> tuple[Any, list[Any]]:
        """Return the statement that reads a query, and its values."""
        from psycopg import sql

        query = query.replace("\0", " ")
        written = _WRITTEN_OPERATORS.search(query)
        parse = sql.SQL("websearch_to_tsquery" if written else "plainto_tsquery")
        return sql.SQL(statements.ASK).format(parse=parse), [self._language, [query] if written else query.split()]

    async def asearch(self, query: Any, k: int | None = None, filter: Filter | None = None, mode: Mode = None) -> list[Passage]:  # noqa: A002
        """Return what `search` does, awaiting the server."""
        if not self.awaited.possible():
            return await super().asearch(query, k, filter, mode)
        self._mode(mode)
        queries, wanted, condition = texts_of(query), self.k if k is None else counted(k), read_filter(filter)
        if not wanted or not queries:
            return []
        depth = wanted if len(queries) == 1 else deeper(wanted)
        found = await asyncio.gather(*(self._afind(one, depth, condition) for one in queries))
        return found[0] if len(queries) == 1 else rrf(found)[:wanted]

    async def abatch(
        self,
        queries: Iterable[Any],
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002
        mode: Mode = None,
    ) -> list[list[Passage]]:
        """Return what `batch` does, awaiting the server."""
        return list(await asyncio.gather(*(self.asearch(one, k, filter, mode) for one in listed(queries))))

    async def acount(self) -> int:
        """Return what `count` does, awaiting the server."""
        if not self.awaited.possible():
            return await super().acount()
        async with self.awaited.borrow() as connection:
            row = await (await connection.execute(self.filled(statements.COUNT))).fetchone()
        return int(row[0]) if row else 0

    async def adelete(self, ids: str | Iterable[str]) -> int:
        """Do what `delete` does, awaiting the server."""
        if not self.awaited.possible():
            return await super().adelete(ids)
        names = names_of(ids)
        if not names:
            return 0
        async with self.awaited.borrow() as connection:
            return max(0, (await connection.execute(self.filled(statements.DELETE), [names])).rowcount)

    def _drop(self, ids: list[str]) -> int:
        with self.cursor() as cursor:
            return max(0, cursor.execute(self.filled(statements.DELETE), [ids]).rowcount)

    @property
    def awaited(self) -> AwaitedConnections:
        """Connections for searches that are awaited."""
        return self._connections.awaited

    @contextmanager
    def cursor(self) -> Iterator[psycopg.Cursor[Any]]:
        """Lend a cursor of one of the index's connections."""
        with self._connections.borrow() as connection, connection.cursor() as cursor:
            yield cursor

    def filled(self, statement: LiteralString, **parts: sql.Composable) -> sql.Composed:
        """Return a statement with the table's name, quoted, and other parts filled in."""
        from psycopg import sql

        return sql.SQL(statement).format(table=sql.Identifier(self._table), **parts)

    def _make_table(self) -> None:
        from psycopg import sql

        with self.cursor() as cursor, cursor.connection.transaction():
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._table])  # two may make it at once
            self._check_language(cursor)
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')", [self._table] * 2)
            there, comment = cursor.fetchone() or (False, None)
            if there:
                self._check_owned(comment or "")
                return
            comment = statements.OWNED + self._language
            cursor.execute(self.filled(statements.CREATE, language=sql.Literal(self._language), comment=sql.Literal(comment)))

    def _check_language(self, cursor: psycopg.Cursor[Any]) -> None:
        known = [row[0] for row in cursor.execute("SELECT cfgname FROM pg_ts_config ORDER BY cfgname")]
        if self._language not in known:
            near = did_you_mean(str(self._language), known)
            raise RetrieverError(
                f"this PostgreSQL has no text search language {self._language!r}", hint=f"{near}it has {', '.join(known)}"
            )

    def _check_owned(self, comment: str) -> None:
        if not comment.startswith(statements.OWNED):
            raise RetrieverError(
                f"the table {self._table!r} at {self._connections.where} was not made by a retriever",
                hint="choose another name: table=",
            )
        language = comment.removeprefix(statements.OWNED)
        if language != self._language:
            raise RetrieverError(
                f"the table {self._table!r} was made with language={language!r}, not {self._language!r}",
                hint=f"write language={language!r}, or choose another name: table=",
            )


def _passages(rows: list[Any]) -> list[Passage]:
    return [Passage(text, name, float(score), metadata) for name, text, metadata, score in rows]


def stored(passage: Passage) -> tuple[str, str, str]:
    """Return id, text and metadata as PostgreSQL takes them.

    Raises:
        DataError: A character that it cannot keep.
    """
    metadata = json.dumps(passage.metadata, ensure_ascii=False)
    for part, text in (("text", passage.text), ("id", passage.id), ("metadata", metadata.replace("\\u0000", "\0"))):
        if "\0" in text or _HALVES.search(text):
            raise DataError(
                f"the {part} of the passage {passage.id!r:.60} holds a NUL or half a surrogate pair: PostgreSQL keeps neither",
                hint="remove it first, e.g. text.replace('\\x00', '')",
            )
    return passage.id, passage.text, metadata
