"""`LanceDb`: a table of LanceDB in a folder."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect, Written, facts_of, has_orders, quoted
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.hits import Found
from dspex_nb.retrieval.later import LaterFacts
from dspex_nb.retrieval.loops import OfLoops
from dspex_nb.retrieval.metadata import metadata_of

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_FIELDS = ["id", "text", "metadata"]
_FOUND = [*_FIELDS, "_distance"]
_LOOKED = 8  # times as many rows as are added, whose ids are looked at
_TRIES = 3  # of an awaited search with a filter beside others' writing; then it takes its turn


class AwaitedTable:
    """A table, as one event loop searches it."""

    def __init__(self, database: Any, table: Any) -> None:
        self._database, self._table = database, table

    async def found(self, vector: Any, k: int, where: Any) -> list[tuple[str, str, str, float]]:
        """Return id, text, metadata and distance of the nearest rows."""
        asked = self._table.query().nearest_to(vector).distance_type("dot").select(_FOUND).limit(k)
        return _rows_of(await (asked if where is None else asked.where(where)).to_list())

    async def close(self) -> None:
        """Close the table."""
        self._table.close()
        self._database.close()


class LanceDb(LaterFacts):
    """Passages in a LanceDB table; vectors are compared one by one until you index the table yourself.

    Facts for filters are a column that new rows lack until the first search with a filter. Searches in a folder are awaited: the
    engine's own threads do the work. What is added and deleted takes turns, in a thread.

    Args:
        path: The folder; `"memory://"` for none.
        table: The table's name.
    """

    name = "lancedb"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(lambda tokens: f"array_has_any(facts, [{quoted(tokens)}])")
    batch_size = 100_000
    concurrent = True

    def _open(self, *, path: str | Path = "memory://", table: str = DEFAULT_NAME) -> None:
        import lancedb

        self.kept, self._path = kept_at(path), str(path)
        self.concurrent = self.kept == "folder"  # another client sees nothing of what is in memory
        self._awaited_tables: OfLoops[AwaitedTable] = OfLoops(self._aopen)
        self._writes = 0  # how often rows were written
        self._name = safe_name(table, "table")
        self._database = lancedb.connect(str(path))
        try:
            self._table = self._database.open_table(self._name)
        except ValueError:
            return
        self._dimension = self._table.schema.field("vector").type.list_size

    def close(self) -> None:
        """Close what awaited searches opened."""
        self._awaited_tables.close()

    def _create(self, dimension: int) -> None:
        import pyarrow as pa

        texts = [pa.field(name, pa.string()) for name in _FIELDS]
        vector = pa.field("vector", pa.list_(pa.float32(), dimension))
        self._table = self._database.create_table(self._name, schema=pa.schema([*texts, vector]))

    def _write_bare(self, rows: Block) -> None:
        import pyarrow as pa

        columns = {"id": rows.ids, "text": rows.texts, "metadata": rows.metadata}
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.array.reshape(-1)), self._dimension)
        schema = self._table.schema
        facts = {"facts": pa.nulls(len(rows), schema.field("facts").type)} if "facts" in schema.names else {}
        given = pa.table({**columns, **facts, "vector": vectors}).select(schema.names)
        self._writes += 1
        if self._are_new(given["id"]):
            self._table.add(given)
        else:
            self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(given)

    def _are_new(self, ids: Any) -> bool:
        """Say whether none of these ids is known to be there: adding many rows takes a tenth of merging them."""
        import pyarrow.compute as pc

        there = self._table.count_rows()
        if not there:
            return True
        if there > _LOOKED * len(ids):
            return False  # to merge a few takes less time than to look
        held = self._table.search().select(["id"]).limit(there).to_arrow()["id"]
        return not pc.any(pc.is_in(held, value_set=ids)).as_py()

    def _take_up_facts(self) -> None:
        """Give facts to the rows that have none: the column is new, or they are. Their other columns are not written again."""
        import pyarrow as pa

        facts = pa.field("facts", pa.list_(pa.string()))
        if "facts" not in self._table.schema.names:
            self._table.add_columns(facts)
        while there := self._table.count_rows("facts IS NULL"):
            asked = self._table.search().where("facts IS NULL").select(["id", "metadata"]).limit(min(there, self.batch_size))
            new = [(row["id"], facts_of(row["id"], metadata_of(row["metadata"]))) for row in asked.to_list()]
            ids, made = zip(*new, strict=True)
            given = pa.table({"id": list(ids), "facts": list(made)}, schema=pa.schema([("id", pa.string()), facts]))
            self._table.merge_insert("id").when_matched_update_all().execute(given)

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
        asked = self._table.search(vector).distance_type("dot").select(_FOUND).limit(k)
        if where is not None:
            asked = asked.where(where, prefilter=True)
        return _rows_of(asked.to_list())

    async def _anearest(self, vectors: Vectors, k: int, where: Condition | None) -> Sequence[Iterable[Found]]:
        table = await self._awaited_tables.client()
        if where is None:
            return await asyncio.gather(*(table.found(one, k, None) for one in vectors))
        for _ in range(_TRIES):
            writes, asked = self._writes, await self._asked(where)
            found = await asyncio.gather(*(table.found(one, k, asked) for one in vectors))
            if self._writes == writes:
                return found
        return await asyncio.to_thread(self._in_turn, vectors, k, where)

    async def _awhere(self, condition: Condition) -> Condition:
        return condition  # said when it is asked: what is written meanwhile has no facts yet, and would be found in no form

    async def _asked(self, condition: Condition) -> Any:
        if self.complete and not has_orders(condition, self.dialect):
            return self._where(condition)
        return await asyncio.to_thread(self._where_in_turn, condition)

    def _where_in_turn(self, condition: Condition) -> Any:
        with self._turn():
            return self._where(condition)

    def _in_turn(self, vectors: Vectors, k: int, condition: Condition) -> Sequence[Iterable[Found]]:
        with self._turn():
            return self._nearest(vectors, k, self._where(condition))

    async def _aopen(self) -> AwaitedTable:
        import lancedb

        database = await lancedb.connect_async(self._path, read_consistency_interval=dt.timedelta(0))  # what is added is seen
        return AwaitedTable(database, await database.open_table(self._name))

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)

    def _wanted(self, vector: Any) -> Any:
        return vector

    def _named(self, ids: list[str]) -> str:
        quotes = "', '".join(one.replace("'", "''") for one in ids)
        return f"id IN ('{quotes}')"


def _rows_of(found: Any) -> list[tuple[str, str, str, float]]:
    return [(row["id"], row["text"], row["metadata"], row["_distance"]) for row in found]
