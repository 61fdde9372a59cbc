"""`Turso`: passages in a file of Turso, SQLite written anew in Rust."""

from __future__ import annotations

from typing import Any

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
    together = 20  # its client takes long over each statement

    def _connection(self, path: str) -> Any:
        import turso

        return turso.connect(path, isolation_level=None)
