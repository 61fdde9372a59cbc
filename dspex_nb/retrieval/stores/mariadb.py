"""`MariaDb`: passages in a table of MariaDB 11.7 or later: vectors, and words by its full text index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from dspex_nb.passages import Passage
from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.blocks import Row, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect, Statement
from dspex_nb.retrieval.words import words


class MariaDb(AwaitedCollection, SqlCollection):
    """Passages in a MariaDB table; vectors are compared one by one.

    Args:
        host: The server's name.
        port: Its port.
        user: Who asks.
        password: The user's password.
        database: The database that the table is in.
        unix_socket: A socket's path, in place of host and port.
        table: The table's name.
    """

    name = "mariadb"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    dialect: ClassVar[SqlDialect] = SqlDialect("JSON_OVERLAPS(facts, ?)")
    kept = "server"
    concurrent = True
    among = "row_key IN (SELECT k FROM JSON_TABLE(?, '$[*]' COLUMNS (k CHAR(36) PATH '$')) AS given)"
    making: ClassVar[tuple[str, ...]] = (
        """CREATE TABLE {table} (row_key CHAR(36) CHARACTER SET ascii PRIMARY KEY, id LONGTEXT, text LONGTEXT, metadata LONGTEXT,
        facts LONGTEXT CHARACTER SET ascii, words LONGTEXT, embedding VECTOR({dimension}) NOT NULL, FULLTEXT (words))
        CHARACTER SET utf8mb4 COLLATE utf8mb4_bin""",
    )
    putting: ClassVar[tuple[str, ...]] = ("REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, VEC_FromText(?))",)
    finding = """SELECT id, text, metadata, VEC_DISTANCE_COSINE(embedding, VEC_FromText(?)) AS raw
        FROM {table} WHERE {where} ORDER BY raw LIMIT ?"""
    sparse = """SELECT id, text, metadata, MATCH(words) AGAINST (?) AS score FROM {table}
        WHERE MATCH(words) AGAINST (?) AND {where} ORDER BY score DESC, id LIMIT ?"""

    def _open(
        self,
        *,
        host: str = "localhost",
        port: int = 3306,
        user: str = "root",
        password: str = "",
        database: str = "dspex",
        unix_socket: str | None = None,
        table: str = DEFAULT_NAME,
    ) -> None:
        import mariadb

        where = {"unix_socket": unix_socket} if unix_socket else {"host": host, "port": port}
        self._reached = {"user": user, "password": password, "database": database, "autocommit": True, **where}
        self._connected = mariadb.connect(**self._reached)
        self._database = database
        self._find_table(safe_name(table, "table"))

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._connected.close()

    def _has_table(self) -> bool:
        asked = "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
        return bool(self._run(asked, (self._database, f"{self._table}_about")))

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connected.cursor()
        try:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall()) if statement.startswith("SELECT") else []
        finally:
            cursor.close()

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        cursor = self._connected.cursor()
        try:
            cursor.execute("START TRANSACTION")
            for statement, rows in statements:
                cursor.executemany(statement, rows)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.close()

    def _values(self, row: Row) -> list[Sequence[Any]]:
        found = " ".join(words(row.text))
        return [(row.key, row.id, row.text, row.metadata, self._facts(row.facts), found, self._vector(row.vector))]

    def _ids(self, ids: list[str]) -> Any:
        return json.dumps([key_of(one) for one in ids])

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        if self._dimension is None:
            return []
        asked = self.to_match(query, k, None if condition is None else self._where(condition))
        if asked is None:
            return []
        with self._turn():
            return matched(self._run(*asked))

    def to_match(self, query: str, k: int, where: Statement | None) -> Statement | None:
        """Return the statement that finds by words, with its values; None for a query that has none."""
        asked = " ".join(words(query))
        condition, values = where or ("1 = 1", [])
        return (self._said(self.sparse, condition), [asked, asked, *values, k]) if asked else None

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.mariadb_awaited import AwaitedMariaDb

        return AwaitedMariaDb(self, self._reached)


def matched(rows: list[tuple[Any, ...]]) -> list[Passage]:
    """Return what a search by words found."""
    return [Passage(text, name, float(score), json.loads(metadata)) for name, text, metadata, score in rows]
