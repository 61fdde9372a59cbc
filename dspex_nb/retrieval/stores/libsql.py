"""`LibSql`: passages in a file of libSQL, the fork of SQLite with vectors of its own."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval.stores.sqlite import Words


class LibSql(Words):
    """Passages in a libSQL file.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "libsql"
    metric = "cosine distance"
    distance = "vector_distance_cos"
    together = 100  # its client takes long over each statement

    def _connection(self, path: str) -> Any:
        import libsql

        return libsql.connect(path, isolation_level=None, _check_same_thread=False)
