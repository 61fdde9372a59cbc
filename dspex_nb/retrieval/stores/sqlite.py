"""`Sqlite`: passages in one SQLite file by Python's own module: words by FTS5, vectors compared one by one."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import facts_of
from dspex_nb.retrieval.filters import Compare, Condition
from dspex_nb.retrieval.metadata import metadata_of
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect, Statement
from dspex_nb.retrieval.words import words

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_LARGEST = 2**63
_FRACTIONS = 2**53  # libSQL's client hands whole numbers over as fractions, which are exact up to here
_CUT = 262_144  # bytes
_SETTINGS = (
    "PRAGMA page_size = 8192",  # of a new file
    "PRAGMA cache_size = -65536",  # KiB: else the pages of a large addition are written over and over
    "PRAGMA journal_mode = WAL",
)
_BLOCK = 10_000  # rows in memory at once
_NAMED = 500  # ids in one statement
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
# Turso reads the value as JSON whatever the condition before it says, so no text may be there.
_ORDER = """EXISTS (SELECT 1 FROM json_each({{table}}.metadata) AS m WHERE m.key = ? AND (
    m.type IN ({types}) AND m.atom {sign} {value} OR m.type = 'array' AND EXISTS (
        SELECT 1 FROM json_each(CASE m.type WHEN 'array' THEN m.value ELSE '[]' END) AS v
        WHERE v.type IN ({types}) AND v.atom {sign} {value})))"""
HOLDS = "EXISTS (SELECT 1 FROM json_each({table}_facts.facts) AS f WHERE f.value IN (SELECT value FROM json_each(?)))"


def order(asked: Compare) -> Statement | None:
    """Return an order in SQLite's words; None where its numbers are too small for it."""
    if isinstance(asked.value, int) and not -_LARGEST <= asked.value < _LARGEST:
        return None  # no number of SQLite's
    types, sign = "'text'" if isinstance(asked.value, str) else "'integer', 'real'", _SIGNS[asked.operator]
    if isinstance(asked.value, int) and abs(asked.value) > _FRACTIONS:
        return _ORDER.format(types=types, sign=sign, value=f"CAST('{asked.value:d}' AS INTEGER)"), [asked.key]
    return _ORDER.format(types=types, sign=sign, value="?"), [asked.key, asked.value, asked.value]


class SqliteTable(SqlCollection):
    """Base of stores that keep passages in tables of SQLite's kind.

    Vectors have a table of their own, so that going through them reads nothing else. What only some searches need, facts for
    filters and words, is in tables beside it that take up new passages at the first such search. All go by the passage's number;
    a passage that replaces another has a new one, the highest, so a table beside lacks what is above its own highest.
    """

    dialect: ClassVar[SqlDialect] = SqlDialect(HOLDS, order=order)
    making: ClassVar[tuple[str, ...]] = (
        "CREATE TABLE {table} (number INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT, metadata TEXT)",
        "CREATE TABLE {table}_vectors (number INTEGER PRIMARY KEY, vector BLOB)",
        "CREATE TABLE {table}_facts (number INTEGER PRIMARY KEY, facts TEXT)",
    )
    putting: ClassVar[tuple[str, ...]] = ("INSERT OR IGNORE INTO {table} (number, id, text, metadata) VALUES (?, ?, ?, ?)",)
    cutting = """WITH RECURSIVE places (at) AS (SELECT 0 UNION ALL SELECT at + 1 FROM places WHERE at + 1 < ?)
        INSERT INTO {table}_vectors (number, vector) SELECT at + ?, substr(?, at * ? + 1, ?) FROM places"""
    removing: ClassVar[tuple[str, ...]] = (
        "DELETE FROM {table}_vectors WHERE number = (SELECT number FROM {table} WHERE id = ?)",
        "DELETE FROM {table}_facts WHERE number = (SELECT number FROM {table} WHERE id = ?)",
        "DELETE FROM {table} WHERE id = ?",
    )
    finding = """SELECT id, text, metadata, raw FROM (
        SELECT {table}_vectors.number AS number, {distance}(vector, ?) AS raw FROM {table}_vectors {where} ORDER BY raw LIMIT ?
        ) AS nearest JOIN {table} ON {table}.number = nearest.number"""
    filtered = """JOIN {{table}} ON {{table}}.number = {{table}}_vectors.number
        JOIN {{table}}_facts ON {{table}}_facts.number = {{table}}.number WHERE {condition}"""
    distance: ClassVar[str] = ""  # the function of two vectors
    together: ClassVar[int] = 1  # rows that one statement inserts
    batch_size = 100_000

    @abstractmethod
    def _connection(self, path: str) -> Any:
        """Return a connection that threads may hand on."""

    def _open(self, *, path: str | Path | None = None, table: str = DEFAULT_NAME) -> None:
        """Open the file `path`, in memory if there is none, and its table `table`."""
        self.kept = kept_at(path)
        self._connected = self._connection(str(path) if path is not None else ":memory:")
        for setting in _SETTINGS:
            self._connected.execute(setting)
        self._find_table(safe_name(table, "table"))

    def close(self) -> None:
        """Close the file."""
        self._connected.close()

    def _has_table(self) -> bool:
        return bool(self._run("SELECT 1 FROM sqlite_master WHERE name = ?", (self._table,)))

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found = self._connected.execute(statement, tuple(values))
        return list(found.fetchall()) if statement.startswith("SELECT") else []

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        with self._changing() as cursor:
            for statement, rows in statements:
                cursor.executemany(statement, rows)

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        with closing(self._connected.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _write(self, rows: Block) -> None:
        (putting,) = map(self._said, self.putting)
        told = (rows.ids, rows.texts, rows.metadata)
        with self._changing() as cursor:
            start, before = self._last(cursor) + 1, _changes(cursor)
            numbers = range(start, start + len(rows))
            self._insert(cursor, putting, numbers, *told)
            if _changes(cursor) - before < len(rows):  # some were there, and were left out
                for statement in self.removing:
                    cursor.executemany(self._said(statement), [(one,) for one in rows.ids])
                self._insert(cursor, putting, numbers, *told)
            self._insert_vectors(cursor, start, rows)

    def _insert_vectors(self, cursor: Any, start: int, rows: Block) -> None:
        """Insert vectors by having them cut out of one value: a statement for each takes three times as long."""
        length = rows.array.shape[1] * rows.array.itemsize
        step = max(1, _CUT // length)
        for at in range(0, len(rows), step):
            part = rows.array[at : at + step]
            cursor.execute(self._said(self.cutting), (len(part), start + at, part.tobytes(), length, length))

    def _insert(self, cursor: Any, statement: str, *columns: Iterable[Any]) -> None:
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True)
        if self.together > 1:
            head, one = statement.split("VALUES")
            several = f"{head}VALUES{', '.join([one] * self.together)}"
            found = list(rows)
            whole = len(found) - len(found) % self.together
            starts = range(0, whole, self.together)
            if whole:
                cursor.executemany(several, [tuple(chain.from_iterable(found[at : at + self.together])) for at in starts])
            rows = found[whole:]
        cursor.executemany(statement, rows)

    def _remove(self, ids: list[str]) -> None:
        self._run_all([(self._said(statement), [(one,) for one in ids]) for statement in self.removing])

    def _held(self, ids: list[str]) -> Iterable[str]:
        for start in range(0, len(ids), _NAMED):  # as a list in JSON, Turso would go through the table for each
            part = ids[start : start + _NAMED]
            asked = self._said(f"SELECT id FROM {{table}} WHERE id IN ({', '.join('?' * len(part))})")  # noqa: S608 - question marks
            yield from (found for (found,) in self._run(asked, part))

    def _take_up(self, beside: str, made: Callable[[str, str, str], str]) -> None:
        """Put into a table beside what it makes of the id, text and metadata of passages that it lacks."""
        new = self._said("SELECT number, id, text, metadata FROM {table} WHERE number > ? ORDER BY number LIMIT ?")
        putting = self._said(f"INSERT INTO {{table}}_{beside} (rowid, {beside}) VALUES (?, ?)")  # noqa: S608 - a name of ours
        with closing(self._connected.cursor()) as cursor:
            if self._last(cursor, f"_{beside}") == self._last(cursor):
                return
        with self._changing() as cursor:
            last = self._last(cursor, f"_{beside}")
            while rows := cursor.execute(new, (last, _BLOCK)).fetchall():
                cursor.executemany(putting, [(number, made(*rest)) for number, *rest in rows])
                last = rows[-1][0]

    def _last(self, cursor: Any, beside: str = "") -> int:
        asked = self._said(f"SELECT rowid FROM {{table}}{beside} ORDER BY rowid DESC LIMIT 1")  # noqa: S608 - a name of ours
        (last,) = cursor.execute(asked).fetchone() or (0,)
        return int(last)

    def _where(self, condition: Condition) -> Any:
        self._take_up("facts", lambda name, _, metadata: self._facts(facts_of(name, metadata_of(metadata))))
        return super()._where(condition)

    def _found(self, vector: Any, k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        condition, values = self._filtered(where)
        return self._run(self._said(self.finding, condition), [vector, *values, k])

    def _filtered(self, where: Statement | None) -> Statement:
        return ("", []) if where is None else (self.filtered.format(condition=where[0]), where[1])

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        statement = statement.replace("{distance}", self.distance)
        return super()._said(statement, where.replace("{table}", self._table), dimension)

    def _given(self, vectors: Vectors) -> list[Any]:
        written, length = vectors.tobytes(), vectors.shape[1] * vectors.itemsize
        return [written[start : start + length] for start in range(0, len(written), length)]

    def _wanted(self, vector: Any) -> Any:
        return vector.tobytes()


class Words(SqliteTable):
    """Base of those whose SQLite has FTS5."""

    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    making: ClassVar[tuple[str, ...]] = (*SqliteTable.making, "CREATE VIRTUAL TABLE {table}_words USING fts5(words)")
    removing: ClassVar[tuple[str, ...]] = (
        "DELETE FROM {table}_words WHERE rowid = (SELECT number FROM {table} WHERE id = ?)",
        *SqliteTable.removing,
    )
    sparse = """SELECT id, text, metadata, -bm25({table}_words) AS score FROM {table}_words
        JOIN {table} ON {table}.number = {table}_words.rowid WHERE {table}_words MATCH ? AND {where}
        ORDER BY score DESC, id LIMIT ?"""
    satisfied = "EXISTS (SELECT 1 FROM {{table}}_facts WHERE {{table}}_facts.number = {{table}}.number AND {condition})"

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        asked = " OR ".join(f'"{word}"' for word in words(query))  # words hold no quotation marks
        if not asked or self._dimension is None:
            return []
        with self._turn():
            self._take_up("words", lambda _, text, __: " ".join(words(text)))
            where, values = self._where(condition) if condition is not None else ("1 = 1", [])
            where = where if condition is None else self.satisfied.format(condition=where)
            rows = self._run(self._said(self.sparse, where), [asked, *values, k])
        return [Passage(text, name, float(score), metadata_of(metadata)) for name, text, metadata, score in rows]


class Sqlite(Words):
    """Passages in one file, without any package: vectors are read in blocks and compared by NumPy.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "sqlite"
    comparing = "SELECT {table}_vectors.number, vector FROM {table}_vectors {where}"
    finding = "SELECT number, id, text, metadata FROM {table} WHERE number IN (SELECT value FROM json_each(?))"

    def _connection(self, path: str) -> Any:
        import sqlite3

        return sqlite3.connect(path, check_same_thread=False, isolation_level=None)

    def _found(self, vector: Any, k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        import numpy as np

        condition, values = self._filtered(where)
        wanted = np.frombuffer(vector, np.float32)
        numbers: list[int] = []
        cosines = []
        with closing(self._connected.cursor()) as cursor:
            cursor.execute(self._said(self.comparing, condition), values)
            while block := cursor.fetchmany(_BLOCK):
                numbers += [number for number, _ in block]
                cosines.append(np.frombuffer(b"".join(one for _, one in block), np.float32).reshape(-1, len(wanted)) @ wanted)
        if not numbers:
            return []
        found = np.concatenate(cosines)
        best = found.argpartition(-k)[-k:] if k < len(found) else range(len(found))
        raws = {numbers[at]: float(found[at]) for at in best}
        rows = self._run(self._said(self.finding), [json.dumps(list(raws))])
        return [(name, text, metadata, raws[number]) for number, name, text, metadata in rows]


def _changes(cursor: Any) -> int:
    """Return how many rows this connection has inserted, changed or deleted."""
    return int(cursor.execute("SELECT total_changes()").fetchone()[0])
