"""`LanceDb`: a table of LanceDB in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, Collection, safe_name
from dspex_nb.retrieval.facts import Dialect, Written, id_fact, quoted

if TYPE_CHECKING:
    from dspex_nb.retrieval.vectors import Vectors

_FIELDS = ["id", "text", "metadata"]


class LanceDb(Collection):
    """Passages in a LanceDB table; vectors are compared one by one until you index the table yourself.

    Args:
        path: The folder; `"memory://"` for none.
        table: The table's name.
    """

    name = "lancedb"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(lambda tokens: f"array_has_any(facts, [{quoted(tokens)}])")
    batch_size = 100_000

    def _open(self, *, path: str | Path = "memory://", table: str = DEFAULT_NAME) -> None:
        import lancedb

        self.kept = kept_at(path)
        self._name = safe_name(table, "table")
        self._database = lancedb.connect(str(path))
        try:
            self._table = self._database.open_table(self._name)
        except ValueError:
            return
        self._dimension = self._table.schema.field("vector").type.list_size

    def _create(self, dimension: int) -> None:
        import pyarrow as pa

        texts = [pa.field(name, pa.string()) for name in _FIELDS]
        facts, vector = pa.field("facts", pa.list_(pa.string())), pa.field("vector", pa.list_(pa.float32(), dimension))
        self._table = self._database.create_table(self._name, schema=pa.schema([*texts, facts, vector]))

    def _write(self, rows: Block) -> None:
        import numpy as np
        import pyarrow as pa

        columns = {name: [getattr(row, name) for row in rows] for name in (*_FIELDS, "facts")}
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([row.vector for row in rows])), self._dimension)
        given = pa.table({**columns, "vector": vectors}, schema=self._table.schema)
        if not self._table.count_rows():  # merging takes ten times as long
            self._table.add(given)
            return
        self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(given)

    def _remove(self, ids: list[str]) -> None:
        self._table.delete(self._named(ids))

    def _held(self, ids: list[str]) -> Iterable[str]:
        return [row["id"] for row in self._table.search().where(self._named(ids)).select(["id"]).limit(len(ids)).to_list()]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        found = self._table.search().select(_FIELDS).limit(self._table.count_rows() or 1).to_list()
        return [(row["id"], row["text"], row["metadata"]) for row in found]

    def _size(self) -> int:
        return int(self._table.count_rows())

    def _found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        asked = self._table.search(vector).distance_type("dot").select([*_FIELDS, "_distance"]).limit(k)
        if where is not None:
            asked = asked.where(where, prefilter=True)
        return [(row["id"], row["text"], row["metadata"], row["_distance"]) for row in asked.to_list()]

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)

    def _named(self, ids: list[str]) -> str:
        return self.dialect.holds([id_fact(one) for one in ids])  # type: ignore[no-any-return]
