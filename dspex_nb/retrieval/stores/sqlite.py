"""`Sqlite`: passages in one SQLite file by Python's own module: words by FTS5, vectors compared one by one."""

from __future__ import annotations

import json
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.passages import Passage
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.filters import Compare, Condition
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect, Statement
from dspex_nb.retrieval.words import words

_BLOCK = 10_000  # vectors in memory at once
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_ORDER = """EXISTS (SELECT 1 FROM json_each({{table}}.metadata) AS m WHERE m.key = ? AND (
    m.type IN ({types}) AND m.atom {sign} ? OR m.type = 'array' AND EXISTS (
        SELECT 1 FROM json_each(m.value) AS v WHERE v.type IN ({types}) AND v.atom {sign} ?)))"""
_HOLDS = "EXISTS (SELECT 1 FROM json_each({table}.facts) AS f WHERE f.value IN (SELECT value FROM json_each(?)))"


def _order(asked: Compare) -> Statement:
    types = "'text'" if isinstance(asked.value, str) else "'integer', 'real'"
    return _ORDER.format(types=types, sign=_SIGNS[asked.operator]), [asked.key, asked.value, asked.value]


class SqliteTable(SqlCollection):
    """Base of stores that keep passages in a table of SQLite's kind."""

    dialect: ClassVar[SqlDialect] = SqlDialect(_HOLDS, order=_order)
    among = "id IN (SELECT value FROM json_each(?))"
    making: ClassVar[tuple[str, ...]] = (
        "CREATE TABLE {table} (id TEXT PRIMARY KEY, text TEXT, metadata TEXT, facts TEXT, vector BLOB)",
    )
    putting: ClassVar[tuple[str, ...]] = (
        """INSERT INTO {table} (id, text, metadata, facts, vector) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
        SET text = excluded.text, metadata = excluded.metadata, facts = excluded.facts, vector = excluded.vector""",
    )

    @abstractmethod
    def _connection(self, path: str) -> Any:
        """Return a connection that threads may hand on."""

    def _open(self, *, path: str | Path | None = None, table: str = DEFAULT_NAME) -> None:
        """Open the file `path`, in memory if there is none, and its table `table`."""
        self._connected = self._connection(str(path) if path is not None else ":memory:")
        self._find_table(safe_name(table, "table"))

    def close(self) -> None:
        """Close the file."""
        self._connected.close()

    def _has_table(self) -> bool:
        return bool(self._run("SELECT 1 FROM sqlite_master WHERE name = ?", (self._table,)))

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(self._connected.cursor()) as cursor:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall()) if statement.startswith("SELECT") else []

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        with closing(self._connected.cursor()) as cursor:
            cursor.execute("BEGIN")
            try:
                for statement, rows in statements:
                    cursor.executemany(statement, rows)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        return super()._said(statement, where.replace("{table}", self._table), dimension)

    def _vector(self, vector: list[float]) -> Any:
        return array("f", vector).tobytes()


class Words(SqliteTable):
    """Base of those whose SQLite has FTS5."""

    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    making: ClassVar[tuple[str, ...]] = (*SqliteTable.making, "CREATE VIRTUAL TABLE {table}_words USING fts5(words)")
    # By row number: FTS5 has no index of another column.
    putting: ClassVar[tuple[str, ...]] = (
        *SqliteTable.putting,
        "DELETE FROM {table}_words WHERE rowid = (SELECT rowid FROM {table} WHERE id = ?)",
        "INSERT INTO {table}_words (words, rowid) SELECT ?, rowid FROM {table} WHERE id = ?",
    )
    removing: ClassVar[tuple[str, ...]] = (
        "DELETE FROM {table}_words WHERE rowid IN (SELECT rowid FROM {table} WHERE {among})",
        "DELETE FROM {table} WHERE {among}",
    )
    sparse = """SELECT id, text, metadata, -bm25({table}_words) AS score FROM {table}_words
        JOIN {table} ON {table}.rowid = {table}_words.rowid WHERE {table}_words MATCH ? AND {where}
        ORDER BY score DESC, id LIMIT ?"""

    def _values(self, row: Any) -> list[Sequence[Any]]:
        return [*super()._values(row), (row.id,), (" ".join(words(row.text)), row.id)]

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        asked = " OR ".join(f'"{word}"' for word in words(query))  # words hold no quotation marks
        if not asked or self._dimension is None:
            return []
        where, values = self._where(condition) if condition is not None else ("1 = 1", [])
        with self._turn():
            rows = self._run(self._said(self.sparse, where), [asked, *values, k])
        return [Passage(text, name, float(score), json.loads(metadata)) for name, text, metadata, score in rows]


class Sqlite(Words):
    """Passages in one file, without any package: vectors are read in blocks and compared by NumPy.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "sqlite"
    comparing = "SELECT rowid, vector FROM {table} WHERE {where}"
    finding = "SELECT rowid, id, text, metadata FROM {table} WHERE rowid IN (SELECT value FROM json_each(?))"

    def _connection(self, path: str) -> Any:
        import sqlite3

        made = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        made.execute("PRAGMA journal_mode = WAL")
        return made

    def _found(self, vector: list[float], k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        import numpy as np

        asked, (condition, values) = np.array(vector, np.float32), where or ("1 = 1", [])
        numbers: list[int] = []
        cosines = []
        with closing(self._connected.cursor()) as cursor:
            cursor.execute(self._said(self.comparing, where=condition), values)
            while block := cursor.fetchmany(_BLOCK):
                numbers += [number for number, _ in block]
                cosines.append(np.frombuffer(b"".join(one for _, one in block), np.float32).reshape(-1, len(asked)) @ asked)
        if not numbers:
            return []
        found = np.concatenate(cosines)
        best = found.argpartition(-k)[-k:] if k < len(found) else range(len(found))
        raws = {numbers[at]: float(found[at]) for at in best}
        rows = self._run(self._said(self.finding), [json.dumps(list(raws))])
        return [(name, text, metadata, raws[number]) for number, name, text, metadata in rows]
