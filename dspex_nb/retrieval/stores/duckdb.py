"""`DuckDb`: passages in a table of DuckDB, vectors compared one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.collection import DEFAULT_NAME, Row, safe_name
from dspex_nb.retrieval.sql import SqlCollection, SqlDialect

if TYPE_CHECKING:
    from dspex_nb.retrieval.vectors import Vectors


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
    putting: ClassVar[tuple[str, ...]] = ("INSERT OR REPLACE INTO {table} SELECT * FROM given",)
    batch_size = 122_880  # one of DuckDB's groups of rows: of smaller inserts it makes groups that take longer to read
    finding = """SELECT id, text, metadata, array_inner_product(vector, ?::FLOAT[{dimension}]) AS raw
        FROM {table} WHERE {where} ORDER BY raw DESC LIMIT ?"""

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

    def _write(self, rows: list[Row]) -> None:
        """Write rows through Arrow: as parameters of a statement 20,000 took five times as long."""
        import numpy as np
        import pyarrow as pa

        texts = [pa.field(name, pa.string()) for name in ("id", "text", "metadata")]
        facts = pa.field("facts", pa.list_(pa.string()))
        schema = pa.schema([*texts, facts])
        columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
        numbers = np.concatenate([row.vector for row in rows])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), self._dimension)
        self._connected.register("given", pa.table(columns, schema=schema).append_column("vector", vectors))
        try:
            self._run_all([(self._said(statement), [()]) for statement in self.putting])
        finally:
            self._connected.unregister("given")

    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        self._connected.begin()
        try:
            for statement, rows in statements:
                for values in rows:
                    self._connected.execute(statement, list(values))
        except BaseException:
            self._connected.rollback()
            raise
        self._connected.commit()

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        return super()._said(statement, where, dimension or self._dimension or 0)

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)

    def _vector(self, vector: Any) -> Any:
        return vector.tolist()

    def _ids(self, ids: list[str]) -> Any:
        return ids
