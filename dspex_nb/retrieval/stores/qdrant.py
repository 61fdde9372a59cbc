"""`Qdrant`: a collection of Qdrant, on a server, or in the client's own local mode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.metadata import parted, with_metadata

_FIELDS = ["id", "passage"]
PAGE: dict[str, Any] = {"limit": 1000, "with_payload": _FIELDS, "with_vectors": False}
"""How all points are gone through."""


class QdrantDialect(Dialect[Any]):
    """Qdrant's filters."""

    def holds(self, tokens: list[str]) -> Any:
        """Return that the payload's list has one of them."""
        from qdrant_client import models

        return models.FieldCondition(key="facts", match=models.MatchAny(any=tokens))

    def every(self, parts: list[Any]) -> Any:
        """Return that all must hold."""
        from qdrant_client import models

        return models.Filter(must=parts)

    def some(self, parts: list[Any]) -> Any:
        """Return that one should hold."""
        from qdrant_client import models

        return models.Filter(should=parts)

    def opposite(self, part: Any) -> Any:
        """Return that it must not hold."""
        from qdrant_client import models

        return models.Filter(must_not=[part])


class Qdrant(AwaitedCollection):
    """Passages in a Qdrant collection. Without `url` the client compares vectors itself: for trying out.

    A passage's metadata stands behind its text: the client copies each field of a payload by itself.

    Args:
        path: A folder for the local mode; in memory if neither it nor `url` is given.
        url: A server's address, e.g. `"http://localhost:6333"`.
        collection: The collection's name.
        api_key: The server's key.
    """

    name = "qdrant"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = QdrantDialect()

    def _open(
        self,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        collection: str = DEFAULT_NAME,
        api_key: str | None = None,
    ) -> None:
        from qdrant_client import QdrantClient

        self._name = safe_name(collection)
        self._reached: dict[str, Any] = {"url": url, "api_key": api_key}
        if url is None:
            self._reached = {"path": str(path)} if path is not None else {"location": ":memory:"}
        self.kept = kept_at(path)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes = "server", ("dense",)
        self._client = QdrantClient(**self._reached)
        self.concurrent = url is not None  # the local mode has nothing to wait for
        if self._client.collection_exists(self._name):
            self._dimension = self._client.get_collection(self._name).config.params.vectors.size

    def close(self) -> None:
        """Close the connections, or the folder."""
        super().close()
        self._client.close()

    def _create(self, dimension: int) -> None:
        from qdrant_client import models

        vectors = models.VectorParams(size=dimension, distance=models.Distance.DOT)
        self._client.create_collection(self._name, vectors_config=vectors)
        if "url" in self._reached:
            self._client.create_payload_index(self._name, "facts", models.PayloadSchemaType.KEYWORD)

    def _write(self, rows: Block) -> None:
        self._client.upsert(self._name, points_of(rows), wait=True)

    def _remove(self, ids: list[str]) -> None:
        self._client.delete(self._name, named(ids), wait=True)

    def _held(self, ids: list[str]) -> Iterable[str]:
        return ids_of(self._client.retrieve(self._name, [key_of(one) for one in ids], with_payload=["id"]))

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        offset: Any = None
        while True:
            points, offset = self._client.scroll(self._name, offset=offset, **PAGE)
            yield from passages_of(points)
            if offset is None:
                return

    def _size(self) -> int:
        return int(self._client.count(self._name, exact=True).count)

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        return rows_of(self._client.query_points(self._name, **asked(vector, k, where)).points)

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.qdrant_awaited import opened

        return opened(self._name, self._reached)


def points_of(rows: Block) -> Any:
    """Return rows as Qdrant's `upsert` takes them."""
    from qdrant_client import models

    payloads = [{"id": row.id, "passage": with_metadata(row.text, row.metadata), "facts": row.facts} for row in rows]
    return models.Batch(ids=[row.key for row in rows], vectors=[row.vector for row in rows], payloads=payloads)


def named(ids: list[str]) -> Any:
    """Return ids as Qdrant's `delete` takes them."""
    from qdrant_client import models

    return models.PointIdsList(points=[key_of(one) for one in ids])


def asked(vector: list[float], k: int, where: Any) -> dict[str, Any]:
    """Return a search as Qdrant's `query_points` takes it."""
    said = {"query": vector, "limit": k, "with_payload": _FIELDS}
    return said if where is None else {**said, "query_filter": _filter(where)}


def ids_of(points: Any) -> list[str]:
    """Return the ids of points."""
    return [one.payload["id"] for one in points if one.payload]


def passages_of(points: Any) -> list[tuple[str, str, str]]:
    """Return id, text and metadata of points."""
    return [(one.payload["id"], *parted(one.payload["passage"])) for one in points if one.payload]


def rows_of(points: Any) -> list[tuple[str, str, str, float]]:
    """Return id, text, metadata and product of what a search found."""
    found = [(one.payload, one.score) for one in points]
    return [(told["id"], *parted(told["passage"]), score) for told, score in found]


def _filter(where: Any) -> Any:
    from qdrant_client import models

    return where if isinstance(where, models.Filter) else models.Filter(must=[where])
