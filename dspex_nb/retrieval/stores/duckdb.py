"""`DuckDb`: passages in a table of DuckDB, vectors compared one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import facts_of
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.metadata import metadata_of
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect, Statement


class DuckDb(SqlCollection):
    """Passages in a DuckDB file.

    Facts for filters are in a table of their own, which takes up new passages at the first search with a filter. Both go by the
    passage's number; a passage that replaces another has a new one, the highest, so the facts lack what is above their highest.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "duckdb"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[SqlDialect] = SqlDialect("list_has_any(facts, ?)", list)
    among = "id IN (SELECT unnest(?::VARCHAR[]))"
    making: ClassVar[tuple[str, ...]] = (
        "CREATE TABLE {table} (number BIGINT, id VARCHAR PRIMARY KEY, text VARCHAR, metadata VARCHAR, vector FLOAT[{dimension}])",
        "CREATE TABLE {table}_facts (number BIGINT, facts VARCHAR[])",
    )
    putting: ClassVar[tuple[str, ...]] = ("INSERT INTO {table} SELECT * FROM given",)
    replacing: ClassVar[tuple[str, ...]] = (  # only where some are there: of all new ones it takes twice as long
        "DELETE FROM {table}_facts WHERE number IN (SELECT number FROM {table} SEMI JOIN given USING (id))",
        "INSERT OR REPLACE INTO {table} SELECT * FROM given",
    )
    removing: ClassVar[tuple[str, ...]] = (
        "DELETE FROM {table}_facts WHERE number IN (SELECT number FROM {table} WHERE {among})",
        "DELETE FROM {table} WHERE {among}",
    )
    batch_size = 122_880  # one of DuckDB's groups of rows: of smaller inserts it makes groups that take longer to read
    finding = """SELECT id, text, metadata, array_inner_product(vector, ?::FLOAT[{dimension}]) AS raw
        FROM {table} {where} ORDER BY raw DESC LIMIT ?"""
    filtered = "WHERE number IN (SELECT number FROM {table}_facts WHERE {where})"

    def _open(self, *, path: str | Path | None = None, table: str = DEFAULT_NAME) -> None:
        import duckdb

        self.kept = kept_at(path)
        self._connected = duckdb.connect(str(path) if path is not None else ":memory:")
        self._find_table(safe_name(table, "table"))

    def close(self) -> None:
        """Close the file."""
        self._connected.close()

    def _has_table(self) -> bool:
        return bool(self._run("SELECT 1 FROM information_schema.tables WHERE table_name = ?", (self._table,)))

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connected.execute(statement, list(values)).fetchall()
        return rows

    def _write(self, rows: Block) -> None:
        """Write rows through Arrow: as parameters of a statement 20,000 took five times as long."""
        import numpy as np
        import pyarrow as pa

        start = self._last() + 1
        columns = {"id": rows.ids, "text": rows.texts, "metadata": rows.metadata}
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.array.reshape(-1)), self._dimension)
        numbers = np.arange(start, start + len(rows))
        with self._given_as({"number": numbers, **columns, "vector": vectors}), self._changing():
            for statement in self.replacing if start > 1 and self._are_there() else self.putting:
                self._run(self._said(statement))

    def _are_there(self) -> bool:
        """Say whether ids of the table `given` are there."""
        return bool(self._run(self._said("SELECT count(*) FROM {table} SEMI JOIN given USING (id)"))[0][0])

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        with self._changing():
            for statement, rows in statements:
                for values in rows:
                    self._run(statement, values)

    @contextmanager
    def _given_as(self, columns: dict[str, Any]) -> Iterator[None]:
        """Have these columns as the table `given`."""
        import pyarrow as pa

        self._connected.register("given", pa.table(columns))
        try:
            yield
        finally:
            self._connected.unregister("given")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._connected.begin()
        try:
            yield
        except BaseException:
            self._connected.rollback()
            raise
        self._connected.commit()

    def _last(self, beside: str = "") -> int:
        (last,) = self._run(self._said(f"SELECT max(number) FROM {{table}}{beside}"))[0]  # noqa: S608 - a name of ours
        return int(last or 0)

    def _where(self, condition: Condition) -> Statement:
        last = self._last("_facts")
        if last < self._last():
            new = self._run(self._said("SELECT number, id, metadata FROM {table} WHERE number > ? ORDER BY number"), [last])
            facts = [facts_of(name, metadata_of(metadata)) for _, name, metadata in new]
            numbers = [number for number, _, _ in new]
            with self._given_as({"number": numbers, "facts": facts}), self._changing():
                self._run(self._said("INSERT INTO {table}_facts SELECT * FROM given"))
        found, values = super()._where(condition)
        return self._said(self.filtered, found), values

    @cached_property
    def _finding(self) -> str:
        return self._said(self.finding)  # without a condition: to look at `1 = 1` takes DuckDB 40 microseconds

    def _found(self, vector: Any, k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        if where is not None:
            return super()._found(vector, k, where)
        rows: list[tuple[str, str, str, float]] = self._connected.execute(self._finding, [vector, k]).fetchall()
        return rows

    def _wanted(self, vector: Any) -> Any:
        return vector  # DuckDB takes an array as quickly as a list, and that is not made

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        return super()._said(statement, where, dimension or self._dimension or 0)

    def _vector(self, vector: Any) -> Any:
        return vector

    def _ids(self, ids: list[str]) -> Any:
        return ids
