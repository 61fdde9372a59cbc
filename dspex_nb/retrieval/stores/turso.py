"""`Turso`: passages in a file of Turso, SQLite written anew in Rust."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.sql import SqlDialect
from dspex_nb.retrieval.stores.sqlite import HOLDS, SqliteTable, order


class Turso(SqliteTable):
    """Passages in a Turso file.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "turso"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    metric = "cosine distance"
    distance = "vector_distance_cos"
    # An empty text in a list is greater than others for Turso, so orders of texts go by the ids that satisfy them.
    dialect: ClassVar[SqlDialect] = SqlDialect(HOLDS, order=lambda asked: None if isinstance(asked.value, str) else order(asked))
    putting_vectors = "INSERT INTO {table}_vectors (number, vector) VALUES (?, ?)"
    together = 100  # its client takes long over each statement

    def _connection(self, path: str) -> Any:
        import turso

        return turso.connect(path, isolation_level=None)

    def _insert_vectors(self, cursor: Any, start: int, rows: Block) -> None:
        """Insert them as rows: Turso would copy the one value for each that is cut out of it."""
        self._insert(cursor, self._said(self.putting_vectors), range(start, start + len(rows)), rows.vectors)
