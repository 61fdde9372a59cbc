"""`Turso`: passages in a file of Turso, SQLite written anew in Rust."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.stores.sqlite import SqliteTable


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
    putting_vectors = "INSERT INTO {table}_vectors (number, vector) VALUES (?, ?)"
    together = 100  # its client takes long over each statement

    def _connection(self, path: str) -> Any:
        import turso

        return turso.connect(path, isolation_level=None)

    def _insert_vectors(self, cursor: Any, start: int, rows: Block) -> None:
        """Insert them as rows: Turso would copy the one value for each that is cut out of it."""
        self._insert(cursor, self._said(self.putting_vectors), range(start, start + len(rows)), rows.vectors)
