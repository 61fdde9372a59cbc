"""`Chroma`: a collection of Chroma, in a folder, in memory or on a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.collection import DEFAULT_NAME, Row, safe_name
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.metadata import parted, with_metadata

if TYPE_CHECKING:
    from dspex_nb.retrieval.vectors import Vectors


class ChromaDialect(Dialect[dict[str, Any]]):
    """Chroma's dicts, which have no not but for single values."""

    def holds(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the list contains one of them."""
        return self.some([{"facts": {"$contains": one}} for one in tokens])

    def lacks(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the list contains none of them."""
        return self.every([{"facts": {"$not_contains": one}} for one in tokens])

    def every(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return all of them."""
        return parts[0] if len(parts) == 1 else {"$and": parts}

    def some(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return one of them."""
        return parts[0] if len(parts) == 1 else {"$or": parts}

    def opposite(self, part: dict[str, Any]) -> dict[str, Any]:
        """Never asked for: there are no orders of Chroma's own here."""
        raise NotImplementedError


class Chroma(AwaitedCollection):
    """Passages in a Chroma collection.

    A passage's metadata stands in its record's document, behind the text: Chroma gives a record's metadata and `uri` only
    together with its facts, which are a quarter of a search.

    Args:
        path: A folder; in memory if neither it nor `url` is given.
        url: A server's address, e.g. `"http://localhost:8000"`.
        collection: The collection's name.
        token: Sent to the server as a bearer token.
    """

    name = "chroma"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = ChromaDialect()
    batching = True

    def _open(
        self, *, path: str | Path | None = None, url: str | None = None, collection: str = DEFAULT_NAME, token: str | None = None
    ) -> None:
        self._name = safe_name(collection)
        self.kept = kept_at(path)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes, self.concurrent = "server", ("dense",), True
        self._server = _server(url, token) if url is not None else {}
        self._client = _client(path, self._server)
        there = {one if isinstance(one, str) else one.name for one in self._client.list_collections()}
        if self._name in there:
            self._collection = self._client.get_collection(self._name, embedding_function=None)
            self._dimension = int((self._collection.metadata or {})["dimension"])

    def _create(self, dimension: int) -> None:
        self._collection = self._client.create_collection(
            self._name, metadata={"dimension": dimension}, configuration={"hnsw": {"space": "ip"}}, embedding_function=None
        )

    def _write(self, rows: list[Row]) -> None:
        self._collection.upsert(**fields_of(rows))

    def _remove(self, ids: list[str]) -> None:
        self._collection.delete(ids=ids)

    def _held(self, ids: list[str]) -> Iterable[str]:
        there: list[str] = self._collection.get(ids=ids, include=[])["ids"]
        return there

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        found = self._collection.get(include=["documents"])
        return [(name, *parted(one)) for name, one in zip(found["ids"], found["documents"], strict=True)]

    def _size(self) -> int:
        return int(self._collection.count())

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        from chromadb.errors import InternalError

        try:
            return rows_of(self._collection.query(**asked(vector, k, where)))
        except InternalError:  # a server's collection that was made a moment ago and holds nothing yet
            return rows_of(self._collection.query(**asked(vector, k, where))) if self._size() else []

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.chroma_awaited import opened

        return await opened(self._name, self._server)

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)  # of lists Chroma looks at each number


def fields_of(rows: list[Row]) -> dict[str, Any]:
    """Return rows as Chroma's `upsert` takes them."""
    return {
        "ids": [row.id for row in rows],
        "documents": [with_metadata(row.text, row.metadata) for row in rows],
        "embeddings": [row.vector for row in rows],
        "metadatas": [{"facts": row.facts} for row in rows],
    }


def asked(vector: Any, k: int, where: Any) -> dict[str, Any]:
    """Return a search as Chroma's `query` takes it."""
    return {"query_embeddings": [vector], "n_results": k, "where": where, "include": ["documents", "distances"]}


def rows_of(found: Any) -> list[tuple[str, str, str, float]]:
    """Return id, text, metadata and distance of what a search found."""
    rows = zip(found["ids"][0], found["documents"][0], found["distances"][0], strict=True)
    return [(name, *parted(document), number) for name, document, number in rows]


def quiet() -> Any:
    """Return Chroma's settings without its telemetry."""
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _server(url: str, token: str | None) -> dict[str, Any]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    return {"host": parts.hostname or "", "port": parts.port or 8000, "ssl": parts.scheme == "https", "headers": headers}


def _client(path: str | Path | None, server: dict[str, Any]) -> Any:
    import chromadb

    if server:
        return chromadb.HttpClient(**server, settings=quiet())
    return chromadb.EphemeralClient(quiet()) if path is None else chromadb.PersistentClient(str(path), settings=quiet())
