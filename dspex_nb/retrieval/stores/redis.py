"""`Redis`: passages in hashes of a Redis server with its search module (Redis 8, Redis Stack, or a compatible one)."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from typing import Any, ClassVar

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.blocks import Block, Row, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect, Written
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.words import words
from dspex_nb.transport import shown_address

_RETURN = ("RETURN", 4, "id", "text", "metadata", "raw")
FIELDS = ("id", "text", "metadata")


class Redis(AwaitedCollection):
    """Passages in a Redis server. `version` goes through all of them.

    Args:
        url: The server's address, e.g. `"redis://localhost:6379"`.
        collection: The index's name; its keys begin with it.
        password: The server's password, where the address does not say it.
        approximate: True for an HNSW graph: faster for many, and a few may be missed.
        timeout_s: Seconds that an answer may take.
    """

    name = "redis"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    dialect: ClassVar[Dialect[Any]] = Written(lambda tokens: f"@facts:{{{'|'.join(tokens)}}}", ("", "|", "-"))
    kept = "server"
    safe = True
    concurrent = True

    def _open(
        self,
        *,
        url: str = "redis://localhost:6379",
        collection: str = DEFAULT_NAME,
        password: str | None = None,
        approximate: bool = False,
        timeout_s: float = 30,
    ) -> None:
        import redis

        self._name, self._url, self._approximate = safe_name(collection), url, approximate
        self._reached = {"url": url, "protocol": 2, "socket_timeout": timeout_s, **({"password": password} if password else {})}
        self._secrets.append(url)
        self._client = redis.Redis.from_url(**self._reached)
        if self._name.encode() in self._client.execute_command("FT._LIST"):
            found = self._client.get(f"{self._name}:dimension")
            self._dimension = int(found) if found else None

    def __repr__(self) -> str:
        return f"<redis retriever, index {self._name!r} at {shown_address(self._url)}>"

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._client.close()

    def drop(self) -> None:
        """Remove the index and its passages."""
        self._client.execute_command("FT.DROPINDEX", self._name, "DD")
        self._client.delete(f"{self._name}:dimension")

    def _create(self, dimension: int) -> None:
        if self._client.get(f"{self._name}:dimension"):
            raise RetrieverError(f"the index {self._name!r} was made meanwhile", hint="make the retriever again")
        kind = "HNSW" if self._approximate else "FLAT"
        vector = ("VECTOR", kind, 6, "TYPE", "FLOAT32", "DIM", dimension, "DISTANCE_METRIC", "IP")
        schema = ("facts", "TAG", "SEPARATOR", ",", "words", "TEXT", "NOSTEM", "vector", *vector)
        # No scan: there is nothing yet, and while it runs in the background what is added counts twice in scores by words.
        making = ("FT.CREATE", self._name, "ON", "HASH", "PREFIX", 1, self.key(""), "STOPWORDS", 0, "SKIPINITIALSCAN", "SCHEMA")
        self._client.execute_command(*making, *schema)
        self._client.set(f"{self._name}:dimension", dimension)

    def _write(self, rows: Block) -> None:
        with self._client.pipeline() as pipeline:
            for row in rows:
                pipeline.hset(self.key(row.key), mapping=fields_of(row))
            pipeline.execute()

    def _remove(self, ids: list[str]) -> None:
        self._client.unlink(*(self.key(key_of(one)) for one in ids))

    def _held(self, ids: list[str]) -> Iterable[str]:
        with self._client.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.exists(self.key(key_of(one)))
            return [one for one, there in zip(ids, pipeline.execute(), strict=True) if there]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        keys = list(self._client.scan_iter(match=f"{self._name}:row:*", count=1000))
        with self._client.pipeline(transaction=False) as pipeline:
            for key in set(keys):
                pipeline.hmget(key, FIELDS)
            return decoded(pipeline.execute())

    def _size(self) -> int:
        return int(self._client.execute_command("FT.SEARCH", self._name, "*", "LIMIT", 0, 0)[0])

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        return rows_of(self._client.execute_command(*self.to_find(vector, k, where)))

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        if self._dimension is None:
            return []
        asked = self.to_match(query, k, None if condition is None else self._where(condition))
        return [] if asked is None else matched(self._client.execute_command(*asked))

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.redis_awaited import opened

        return opened(self, self._name, self._reached)

    def to_find(self, vector: list[float], k: int, where: Any) -> list[Any]:
        """Return the command that finds the nearest."""
        query = f"({where or '*'})=>[KNN {int(k)} @vector $vector AS raw]"
        given = ("PARAMS", 2, "vector", array("f", vector).tobytes(), "SORTBY", "raw", "LIMIT", 0, k, "DIALECT", 2)
        return ["FT.SEARCH", self._name, query, *_RETURN, *given]

    def to_match(self, query: str, k: int, where: Any) -> list[Any] | None:
        """Return the command that finds by words; None for a query that has none."""
        terms = "|".join(dict.fromkeys(words(query)))
        said = f"@words:({terms})" + ("" if where is None else f" {where}")
        returned = ("WITHSCORES", "SCORER", "BM25STD", "RETURN", 3, *FIELDS, "LIMIT", 0, k, "DIALECT", 2)
        return ["FT.SEARCH", self._name, said, *returned] if terms else None

    def key(self, key: str) -> str:
        """Return where a row is."""
        return f"{self._name}:row:{key}"


def fields_of(row: Row) -> dict[str, Any]:
    """Return a row as a hash of Redis."""
    fields = {"id": row.id, "text": row.text, "metadata": row.metadata, "facts": ",".join(row.facts)}
    return {**fields, "words": " ".join(words(row.text)), "vector": array("f", row.vector).tobytes()}


def rows_of(found: list[Any]) -> list[tuple[str, str, str, float]]:
    """Return id, text, metadata and distance of what a search by vectors found."""
    rows = [_named(fields) for fields in found[2::2]]
    return [(one["id"], one["text"], one["metadata"], float(one["raw"])) for one in rows]


def matched(found: list[Any]) -> list[Passage]:
    """Return what a search by words found."""
    rows = [(_named(fields), float(score)) for score, fields in zip(found[2::3], found[3::3], strict=True)]
    return [Passage(one["text"], one["id"], score, json.loads(one["metadata"])) for one, score in rows]


def decoded(rows: list[Any]) -> list[tuple[str, str, str]]:
    """Return id, text and metadata of the hashes that are still there."""
    return [tuple(value.decode() for value in row) for row in rows if row[0] is not None]


def _named(fields: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}
