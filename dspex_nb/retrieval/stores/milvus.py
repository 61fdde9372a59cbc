"""`Milvus`: a collection of Milvus, on a server, or in a file by Milvus Lite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, Collection, safe_name
from dspex_nb.retrieval.facts import Dialect, Written, quoted

_LONGEST = 65_535  # bytes of a text
_MOST_FACTS = 4096
_FIELDS = ["id", "text", "metadata"]


class Milvus(Collection):
    """Passages in a Milvus collection.

    Args:
        url: A server's address, e.g. `"http://localhost:19530"`.
        path: A file for Milvus Lite, where there is no server; its name ends in `.db`.
        collection: The collection's name.
        token: `"user:password"` or an API key.
    """

    name = "milvus"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(
        lambda tokens: f"ARRAY_CONTAINS_ANY(facts, [{quoted(tokens, chr(34))}])", ("and", "or", "not ")
    )

    def _open(
        self, *, url: str | None = None, path: str | Path | None = None, collection: str = DEFAULT_NAME, token: str = ""
    ) -> None:
        from pymilvus import MilvusClient

        self._name = safe_name(collection)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes = "server", ("dense",)
        self._client = MilvusClient(uri=url or str(path or "./milvus.db"), token=token)
        if self._client.has_collection(self._name):
            fields = self._client.describe_collection(self._name)["fields"]
            self._dimension = int(next(one for one in fields if one["name"] == "vector")["params"]["dim"])
            self._client.load_collection(self._name)

    def close(self) -> None:
        """Close the connection, or the file."""
        self._client.close()

    def _create(self, dimension: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=40)
        for name in _FIELDS:
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("facts", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=_MOST_FACTS, max_length=24)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection(self._name, schema=schema, index_params=index, consistency_level="Strong")

    def _write(self, rows: Block) -> None:
        names = ("key", *_FIELDS, "facts", "vector")
        self._client.upsert(self._name, [{name: getattr(row, name) for name in names} for row in rows])

    def _remove(self, ids: list[str]) -> None:
        self._client.delete(self._name, ids=[key_of(one) for one in ids])

    def _held(self, ids: list[str]) -> Iterable[str]:
        return [row["id"] for row in self._client.get(self._name, ids=[key_of(one) for one in ids], output_fields=["id"])]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        pages = self._client.query_iterator(self._name, batch_size=1000, output_fields=_FIELDS)
        while page := pages.next():
            yield from ((row["id"], row["text"], row["metadata"]) for row in page)
        pages.close()

    def _size(self) -> int:
        return int(self._client.query(self._name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        found = self._client.search(self._name, [vector], limit=k, filter=where or "", output_fields=_FIELDS)
        return [(*(one["entity"][name] for name in _FIELDS), one["distance"]) for one in found[0]]
