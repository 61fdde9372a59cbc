"""`Milvus`: a collection of Milvus, on a server, or in a file by Milvus Lite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect, Written, quoted

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_LONGEST = 65_535  # bytes of a text
_MOST_FACTS = 4096
FIELDS = ["passage"]
_NO_FACT = " "  # before what is in the array beside facts, none of which begins with it


class Milvus(AwaitedCollection):
    """Passages in a Milvus collection.

    A passage's id, metadata and text stand in one array: of a text in a field of its own the client looks at each character, in
    plain Python, which takes longer than all that the database does.

    Args:
        url: A server's address, e.g. `"http://localhost:19530"`.
        path: A file for Milvus Lite, where there is no server; its name ends in `.db`.
        collection: The collection's name.
        token: `"user:password"` or an API key.
    """

    name = "milvus"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(
        lambda tokens: f"ARRAY_CONTAINS_ANY(passage, [{quoted(tokens, chr(34))}])", ("and", "or", "not ")
    )

    def _open(
        self, *, url: str | None = None, path: str | Path | None = None, collection: str = DEFAULT_NAME, token: str = ""
    ) -> None:
        from pymilvus import MilvusClient

        self._name = safe_name(collection)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes, self.concurrent = "server", ("dense",), True
        self._reached = {"uri": url or str(path or "./milvus.db"), "token": token}
        self._client = MilvusClient(**self._reached)
        if self._client.has_collection(self._name):
            fields = self._client.describe_collection(self._name)["fields"]
            by_name = {one["name"]: one for one in fields}
            if not {"key", "vector", *FIELDS} <= set(by_name):
                raise RetrieverError(
                    f"the collection {self._name!r} was made by something else, or by an earlier version",
                    hint="take another path= or collection=, and add the texts again",
                )
            self._dimension = int(by_name["vector"]["params"]["dim"])
            self._client.load_collection(self._name)

    def close(self) -> None:
        """Close the connections, or the file."""
        super().close()
        self._client.close()

    def _create(self, dimension: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=40)
        texts = {"element_type": DataType.VARCHAR, "max_capacity": _MOST_FACTS, "max_length": _LONGEST}
        schema.add_field("passage", DataType.ARRAY, **texts)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection(self._name, schema=schema, index_params=index, consistency_level="Strong")

    def _write(self, rows: Block) -> None:
        self._client.upsert(self._name, fields_of(rows))

    def _remove(self, ids: list[str]) -> None:
        self._client.delete(self._name, ids=[key_of(one) for one in ids])

    def _held(self, ids: list[str]) -> Iterable[str]:
        return ids_of(self._client.get(self._name, ids=[key_of(one) for one in ids], output_fields=FIELDS))

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        pages = self._client.query_iterator(self._name, batch_size=1000, output_fields=FIELDS)
        while page := pages.next():
            yield from map(told_of, page)
        pages.close()

    def _size(self) -> int:
        return int(self._client.query(self._name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def _found(self, vector: Any, k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        return rows_of(self._client.search(self._name, [vector], limit=k, filter=where or "", output_fields=FIELDS))

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.milvus_awaited import opened

        return await opened(self._name, self._reached)

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)

    def _wanted(self, vector: Any) -> Any:
        return vector


def fields_of(rows: Block) -> list[dict[str, Any]]:
    """Return rows as Milvus' `upsert` takes them."""
    told = zip(rows.ids, rows.metadata, rows.texts, rows.facts, strict=True)
    passages = [
        [f"{_NO_FACT}{name}", f"{_NO_FACT}{metadata}", f"{_NO_FACT}{text}", *facts] for name, metadata, text, facts in told
    ]
    columns = zip(rows.keys, passages, rows.vectors, strict=True)
    return [{"key": key, "passage": passage, "vector": vector} for key, passage, vector in columns]


def told_of(fields: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return id, text and metadata of a row's fields."""
    name, metadata, text, *_ = fields["passage"]
    return name[1:], text[1:], metadata[1:]


def ids_of(found: Any) -> list[str]:
    """Return the ids of rows."""
    return [told_of(row)[0] for row in found]


def rows_of(found: Any) -> list[tuple[str, str, str, float]]:
    """Return id, text, metadata and product of what a search found."""
    return [(*told_of(one["entity"]), one["distance"]) for one in found[0]]
