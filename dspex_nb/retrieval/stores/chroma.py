"""`Chroma`: a collection of Chroma, in a folder, in memory or on a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.fields import by_values, facts_beside, field_of, wanted
from dspex_nb.retrieval.filters import Compare, Condition, matches
from dspex_nb.retrieval.metadata import parted, with_metadata

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_KINDS = (str, bool, int)
_LAYOUT = 2


class ChromaDialect(Dialect[dict[str, Any]]):
    """Chroma's dicts, which have no not but for single comparisons.

    A text, a whole number or a boolean is a field of the record under its own key. Chroma compares a fraction as if it were a
    whole number, and knows no null, so these, lists' elements, and values of keys that it may not like are facts in a list.
    It says only `$eq` and `$in`.
    """

    def own(self, asked: Compare, *, opposite: bool) -> dict[str, Any]:
        """Return what the fields and the list say of values."""
        values, tokens = wanted(asked, _KINDS)
        parts = [{asked.key: {"$nin" if opposite else "$in": one}} for one in values]
        return self.every([*parts, self.lacks(tokens)]) if opposite else self.some([*parts, self.holds(tokens)])

    def holds(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the list contains one of them."""
        return self.some([{"_facts": {"$contains": one}} for one in tokens])

    def lacks(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the list contains none of them."""
        return self.every([{"_facts": {"$not_contains": one}} for one in tokens])

    def every(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return all of them."""
        return parts[0] if len(parts) == 1 else {"$and": parts}

    def some(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return one of them."""
        return parts[0] if len(parts) == 1 else {"$or": parts}

    def opposite(self, part: dict[str, Any]) -> dict[str, Any]:
        """Never asked for: `own` says opposites itself."""
        raise NotImplementedError


class Chroma(AwaitedCollection):
    """Passages in a Chroma collection.

    Text and metadata stand together in one field: Chroma makes an index of trigrams of each record's document, which takes longer
    than all the rest, so records have none.

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
    batch_size = 5000  # Chroma takes at most 5,461

    def _open(
        self, *, path: str | Path | None = None, url: str | None = None, collection: str = DEFAULT_NAME, token: str | None = None
    ) -> None:
        from chromadb.errors import InternalError

        self._unready = InternalError  # not imported at each search
        self._name = safe_name(collection)
        self.kept = kept_at(path)
        if url is not None:  # others may write there, so our words beside it would not be theirs
            self.kept, self.modes, self.concurrent = "server", ("dense",), True
        self._server = _server(url, token) if url is not None else {}
        self._client = _client(path, self._server)
        there = {one if isinstance(one, str) else one.name for one in self._client.list_collections()}
        if self._name in there:
            self._collection = self._client.get_collection(self._name, embedding_function=None)
            about = self._collection.metadata or {}
            if about.get("layout") != _LAYOUT:
                raise RetrieverError(
                    f"the collection {self._name!r} was made by something else, or by an earlier version",
                    hint="take another path= or collection=, and add the texts again",
                )
            self._dimension = int(about["dimension"])

    def _create(self, dimension: int) -> None:
        self._collection = self._client.create_collection(
            self._name,
            metadata={"dimension": dimension, "layout": _LAYOUT},
            configuration={"hnsw": {"space": "ip"}},
            embedding_function=None,
        )

    def _write(self, rows: Block) -> None:
        there = self._collection.get(ids=rows.ids, include=["metadatas"])
        self._collection.upsert(**fields_of(rows, there))

    def _remove(self, ids: list[str]) -> None:
        self._collection.delete(ids=ids)

    def _held(self, ids: list[str]) -> Iterable[str]:
        there: list[str] = self._collection.get(ids=ids, include=[])["ids"]
        return there

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        found = self._collection.get(include=["metadatas"])
        return told_of(found["ids"], found["metadatas"])

    def _size(self) -> int:
        return int(self._collection.count())

    def _where(self, condition: Condition) -> dict[str, Any]:
        if by_values(condition):
            return {"where": super()._where(condition)}
        return {"ids": self._satisfying(condition)}  # which Chroma takes for a whole query only

    async def _awhere(self, condition: Condition) -> Any:
        if not self.concurrent or by_values(condition):
            return await super()._awhere(condition)
        return {"ids": [name for name, metadata in await self._atold() if matches(condition, metadata)]}

    def _found(self, vector: Any, k: int, where: dict[str, Any] | None) -> Iterable[tuple[str, str, str, float]]:
        try:
            return rows_of(self._collection.query(**asked(vector, k, where)))
        except self._unready:  # a server's collection that was made a moment ago and holds nothing yet
            return rows_of(self._collection.query(**asked(vector, k, where))) if self._size() else []

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.chroma_awaited import opened

        return await opened(self._name, self._server)

    def _given(self, vectors: Vectors) -> list[Any]:
        return list(vectors)  # of lists Chroma looks at each number

    def _wanted(self, vector: Any) -> Any:
        return vector


def fields_of(rows: Block, there: Any) -> dict[str, Any]:
    """Return rows as Chroma's `upsert` takes them; `there` is what `get` found under their ids."""
    passages = map(with_metadata, rows.texts, rows.metadata)
    fields = [{**_fields(told), "_passage": passage} for told, passage in zip(rows.told, passages, strict=True)]
    old = dict(zip(there["ids"], there["metadatas"], strict=True))
    if old:  # Chroma keeps the fields of a record that are not named, and removes those that are None
        fields = [dict.fromkeys(old.get(name, ())) | one for name, one in zip(rows.ids, fields, strict=True)]
    return {"ids": rows.ids, "embeddings": rows.vectors, "metadatas": fields}


def _fields(told: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as fields for filters, and a list of facts of what cannot be one."""
    facts = facts_beside(told, _KINDS)
    found = {key: value for key, value in told.items() if field_of(key, value, _KINDS) is not None}
    return {**found, "_facts": facts} if facts else found


def asked(vector: Any, k: int, where: dict[str, Any] | None) -> dict[str, Any]:
    """Return a search as Chroma's `query` takes it."""
    return {"query_embeddings": [vector], "n_results": k, "include": ["metadatas", "distances"], **(where or {})}


def told_of(ids: list[str], metadatas: list[Any]) -> list[tuple[str, str, str]]:
    """Return id, text and metadata of records."""
    return [(name, *parted(one["_passage"])) for name, one in zip(ids, metadatas, strict=True)]


def rows_of(found: Any) -> list[tuple[str, str, str, float]]:
    """Return id, text, metadata and distance of what a search found."""
    columns = zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True)
    return [(name, *parted(one["_passage"]), number) for name, one, number in columns]


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
