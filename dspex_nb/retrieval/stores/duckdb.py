"""`DuckDb`: passages in a table of DuckDB, vectors compared one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect


class DuckDb(SqlCollection):
    """Passages in a DuckDB file.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "duckdb"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[SqlDialect] = SqlDialect("list_has_any(facts, ?)", list)
    among = "list_contains(?::VARCHAR[], id)"
    making: ClassVar[tuple[str, ...]] = (
        """CREATE TABLE {table} (id VARCHAR PRIMARY KEY, text VARCHAR, metadata VARCHAR, facts VARCHAR[],
        vector FLOAT[{dimension}])""",
    )
    putting: ClassVar[tuple[str, ...]] = (
        """INSERT OR REPLACE INTO {table}
        SELECT unnest(?), unnest(?), unnest(?), unnest(?::VARCHAR[][]), unnest(?::FLOAT[{dimension}][])""",
    )
    finding = """SELECT id, text, metadata, array_inner_product(vector, ?::FLOAT[{dimension}]) AS raw
        FROM {table} WHERE {where} ORDER BY raw DESC LIMIT ?"""

    def _open(self, *, path: str | Path | None = None, table: str = DEFAULT_NAME) -> None:
        import duckdb

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

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        self._connected.begin()
        try:
            for statement, rows in statements:
                # One statement for all rows: a row a statement takes a thousand times as long.
                values = [list(column) for column in zip(*rows, strict=True)] if "unnest" in statement else rows[0]
                self._connected.execute(statement, values)
        except BaseException:
            self._connected.rollback()
            raise
        self._connected.commit()

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        return super()._said(statement, where, dimension or self._dimension or 0)

    def _facts(self, facts: list[str]) -> Any:
        return facts

    def _vector(self, vector: list[float]) -> Any:
        return vector

    def _ids(self, ids: list[str]) -> Any:
        return ids
