"""`SqliteVec`: passages in one SQLite file, vectors compared by the extension sqlite-vec."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval.stores.sqlite import Words


class SqliteVec(Words):
    """Passages in one file, with the extension sqlite-vec.

    apsw brings a SQLite of its own: Python's module is often built without extensions.

    Args:
        path: The file; in memory if None.
        table: The table's name.
    """

    name = "sqlite-vec"
    metric = "cosine distance"
    distance = "vec_distance_cosine"

    def _connection(self, path: str) -> Any:
        import apsw
        import sqlite_vec

        made = apsw.Connection(path)
        made.enable_load_extension(True)  # noqa: FBT003 - apsw's own
        made.load_extension(sqlite_vec.loadable_path())
        made.enable_load_extension(False)  # noqa: FBT003
        made.setbusytimeout(10_000)
        return made
