"""`SurrealDb`: a table of SurrealDB, embedded or on a server; vectors are compared one by one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, Collection, safe_name
from dspex_nb.retrieval.facts import Dialect, Written, quoted

_FIELDS = ("pid", "text", "metadata")


class SurrealDb(Collection):
    """Passages in a SurrealDB table.

    Args:
        path: A folder for the embedded engine, in memory if neither it nor `url` is given: `pip install 'surrealdb[embedded]'`
            brings it; its licence, BSL 1.1, is no open source one.
        url: A server's address, e.g. `"ws://localhost:8000/rpc"`.
        user: Who asks, on a server.
        password: The user's password.
        namespace: The namespace that the table is in.
        database: The database that it is in.
        table: The table's name.
    """

    name = "surrealdb"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(lambda tokens: f"facts CONTAINSANY [{quoted(tokens)}]", ("AND", "OR", "!"))
    batch_size = 500

    def _open(
        self,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        user: str = "",
        password: str = "",
        namespace: str = "dspex",
        database: str = "dspex",
        table: str = DEFAULT_NAME,
    ) -> None:
        from surrealdb import Surreal

        self._table = safe_name(table, "table")
        self.kept = kept_at(path)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes = "server", ("dense",)
        self._client = Surreal(url or (f"surrealkv://{path}" if path is not None else "mem://"))
        if user:
            self._client.signin({"username": user, "password": password})
        self._client.use(namespace, database)
        self._run(f"DEFINE TABLE IF NOT EXISTS {self._table} SCHEMALESS")
        self._run(f"DEFINE TABLE IF NOT EXISTS {self._table}_about SCHEMALESS")
        about = self._run("SELECT dimension FROM type::table($about)", about=f"{self._table}_about")
        self._dimension = int(about[0]["dimension"]) if about else None

    def close(self) -> None:
        """Close the connection, or the folder."""
        self._client.close()

    def _run(self, statement: str, **values: Any) -> Any:
        found = self._client.query(statement, {"table": self._table, **values})
        return found.execute()[-1] if hasattr(found, "execute") else found  # from version 3 on a result for each statement

    def _record(self, key: str) -> Any:
        """Return a row's record as a value: how a query says one differs between versions 2 and 3."""
        from surrealdb import RecordID

        return RecordID(self._table, key)

    def _create(self, dimension: int) -> None:
        self._run(
            "CREATE type::table($about) CONTENT { dimension: $dimension }", about=f"{self._table}_about", dimension=dimension
        )

    def _write(self, rows: Block) -> None:
        given = [
            {
                "key": self._record(row.key),
                "row": {"pid": row.id, "text": row.text, "metadata": row.metadata, "facts": row.facts, "vector": row.vector},
            }
            for row in rows
        ]
        self._run("FOR $one IN $rows { UPSERT $one.key CONTENT $one.row; };", rows=given)

    def _remove(self, ids: list[str]) -> None:
        self._run("FOR $key IN $keys { DELETE $key; };", keys=[self._record(key_of(one)) for one in ids])

    def _held(self, ids: list[str]) -> Iterable[str]:
        found = self._run("SELECT VALUE pid FROM $keys", keys=[self._record(key_of(one)) for one in ids])
        return [one for one in found if one]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return _tuples(self._run("SELECT pid, text, metadata FROM type::table($table)"))

    def _size(self) -> int:
        found = self._run("SELECT count() FROM type::table($table) GROUP ALL")
        return int(found[0]["count"]) if found else 0

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        condition = "" if where is None else f"WHERE {where}"
        found = self._run(
            f"SELECT pid, text, metadata, vector::dot(vector, $vector) AS raw FROM type::table($table) {condition} "  # noqa: S608 - tokens
            "ORDER BY raw DESC LIMIT $k",
            vector=vector,
            k=k,
        )
        return [(*row, one["raw"]) for row, one in zip(_tuples(found), found, strict=True)]


def _tuples(found: Any) -> list[tuple[str, str, str]]:
    return [tuple(one[name] for name in _FIELDS) for one in found]
