"""`Pinecone`: passages in an index of Pinecone's service, by its REST interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import urlencode

from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.wire import FIELDS, WireCollection

_VERSION = "2025-04"
_PAGE = 100
_MOST = 10_000


class InDialect(Dialect[dict[str, Any]]):
    """Pinecone's dicts, which have `$nin` and no other not."""

    def holds(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the list has one of them."""
        return {"facts": {"$in": tokens}}

    def lacks(self, tokens: list[str]) -> dict[str, Any]:
        """Return that it has none of them."""
        return {"facts": {"$nin": tokens}}

    def every(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return all of them."""
        return {"$and": parts}

    def some(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return one of them."""
        return {"$or": parts}

    def opposite(self, part: dict[str, Any]) -> dict[str, Any]:
        """Never asked for: there are no orders of Pinecone's own here."""
        raise NotImplementedError


class Pinecone(WireCollection):
    """Passages in a namespace of a Pinecone index, which you make first, with the metric cosine or dotproduct.

    Orders in filters are refused: Pinecone has no way to go through all metadata.

    Args:
        url: The index's own address, e.g. `"https://topics-abc123.svc.aped-4627-b74a.pinecone.io"`.
        collection: The namespace.
        api_key: The project's key.
        timeout_s: Seconds that an answer may take.
    """

    name = "pinecone"
    dialect: ClassVar[Dialect[Any]] = InDialect()
    batch_size = 100
    going_through = False

    def _headers(self) -> dict[str, str]:
        return {"Api-Key": self._key, "X-Pinecone-API-Version": _VERSION}

    def _there(self) -> int | None:
        found = self._call("POST", "/describe_index_stats", {})
        self._length = int(found["dimension"])
        return self._length if self._name in found.get("namespaces", {}) else None

    def _create(self, dimension: int) -> None:
        if dimension != self._length:
            raise ValueError(f"vectors of {dimension} numbers; the index was made for {self._length}")

    def _write(self, rows: Block) -> None:
        vectors = [
            {
                "id": row.key,
                "values": row.vector,
                "metadata": {"id": row.id, "text": row.text, "metadata": row.metadata, "facts": row.facts},
            }
            for row in rows
        ]
        self._call("POST", "/vectors/upsert", {"vectors": vectors, "namespace": self._name})

    def _remove(self, ids: list[str]) -> None:
        self._call("POST", "/vectors/delete", {"ids": [key_of(one) for one in ids], "namespace": self._name})

    def _held(self, ids: list[str]) -> Iterable[str]:
        found: list[str] = []
        for start in range(0, len(ids), _PAGE):  # the ids are in the address, whose length is limited
            page = [("ids", key_of(one)) for one in ids[start : start + _PAGE]]
            there = self._call("GET", f"/vectors/fetch?{urlencode([*page, ('namespace', self._name)])}")["vectors"]
            found += [one["metadata"]["id"] for one in there.values()]
        return found

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        token = ""
        while True:
            asked = {"namespace": self._name, "limit": str(_PAGE), **({"paginationToken": token} if token else {})}
            page = self._call("GET", f"/vectors/list?{urlencode(asked)}")
            keys = [("ids", one["id"]) for one in page.get("vectors", [])]
            if keys:
                found = self._call("GET", f"/vectors/fetch?{urlencode([*keys, ('namespace', self._name)])}")["vectors"]
                yield from (tuple(one["metadata"][name] for name in FIELDS) for one in found.values())
            token = page.get("pagination", {}).get("next", "")
            if not token:
                return

    def _size(self) -> int:
        found = self._call("POST", "/describe_index_stats", {}).get("namespaces", {})
        return int(found.get(self._name, {}).get("vectorCount", 0))

    def _search_of(self, vector: list[float], k: int, where: Any) -> tuple[str, Any]:
        asked = {"vector": vector, "topK": min(k, _MOST), "namespace": self._name, "includeMetadata": True}
        return "/query", {**asked, **({"filter": where} if where is not None else {})}

    def _answer_of(self, found: Any) -> list[tuple[str, str, str, float]]:
        return [(*(one["metadata"][name] for name in FIELDS), one["score"]) for one in found["matches"]]
