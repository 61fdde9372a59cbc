"""`Elasticsearch` and `OpenSearch`: passages in an index of either, by their common REST interface."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from dspex_nb.passages import Passage
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.wire import FIELDS, WireCollection
from dspex_nb.retrieval.words import words

_PAGE = 1000
_KEPT = {"type": "keyword", "index": False, "doc_values": False}  # comes back, is not searched
_SOURCE = list(FIELDS)


class BoolDialect(Dialect[dict[str, Any]]):
    """The bool queries of both."""

    def holds(self, tokens: list[str]) -> dict[str, Any]:
        """Return that the field has one of the terms."""
        return {"terms": {"facts": tokens}}

    def every(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return filters that all hold."""
        return {"bool": {"filter": parts}}

    def some(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Return that one should."""
        return {"bool": {"should": parts, "minimum_should_match": 1}}

    def opposite(self, part: dict[str, Any]) -> dict[str, Any]:
        """Return that it must not."""
        return {"bool": {"must_not": [part]}}


class Elasticsearch(WireCollection):
    """Passages in an Elasticsearch index (8.12 or later).

    Args:
        url: The server's address, e.g. `"http://localhost:9200"`.
        collection: The index's name.
        api_key: The encoded API key.
        timeout_s: Seconds that an answer may take.
    """

    name = "elasticsearch"
    metric = "unit score"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    dialect: ClassVar[Dialect[Any]] = BoolDialect()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"ApiKey {self._key}"}

    def _there(self) -> int | None:
        found = self._call("GET", f"/{self._name}/_mapping", missing={})
        return self._length(found[self._name]["mappings"]["properties"]["vector"]) if found else None

    def _length(self, vector: dict[str, Any]) -> int:
        return int(vector["dims"])

    def _vector_field(self, dimension: int) -> dict[str, Any]:
        return {"type": "dense_vector", "dims": dimension, "index": True, "similarity": "dot_product"}

    def _settings(self) -> dict[str, Any]:
        return {}

    def _create(self, dimension: int) -> None:
        fields = {
            "id": {"type": "keyword"},
            "text": _KEPT,
            "metadata": _KEPT,
            "facts": {"type": "keyword"},
            "words": {"type": "text", "analyzer": "whitespace"},
            "vector": self._vector_field(dimension),
        }
        self._call("PUT", f"/{self._name}", {"settings": self._settings(), "mappings": {"dynamic": False, "properties": fields}})

    def _write(self, rows: Block) -> None:
        lines = []
        for row in rows:
            fields = {name: getattr(row, name) for name in (*FIELDS, "facts", "vector")}
            lines += [{"index": {"_id": row.key}}, {**fields, "words": " ".join(words(row.text))}]
        self._bulk(lines)

    def _remove(self, ids: list[str]) -> None:
        self._bulk([{"delete": {"_id": key_of(one)}} for one in ids])

    def _bulk(self, lines: list[Any]) -> None:
        body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        found = self._call("POST", f"/{self._name}/_bulk?refresh=true", body)
        if found.get("errors"):
            wrong = next(one for item in found["items"] for one in item.values() if "error" in one)
            raise ValueError(f"the server refused a row: {wrong['error']}")

    def _held(self, ids: list[str]) -> Iterable[str]:
        asked = {"ids": [key_of(one) for one in ids]}
        found = self._call("POST", f"/{self._name}/_mget?_source_includes=id", asked)
        return [one["_source"]["id"] for one in found["docs"] if one.get("found")]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        after: list[Any] = []
        while True:
            page = {"size": _PAGE, "sort": [{"id": "asc"}], "_source": _SOURCE, **({"search_after": after} if after else {})}
            hits = self._call("POST", f"/{self._name}/_search", page)["hits"]["hits"]
            yield from (tuple(one["_source"][name] for name in FIELDS) for one in hits)
            if len(hits) < _PAGE:
                return
            after = hits[-1]["sort"]

    def _size(self) -> int:
        return int(self._call("GET", f"/{self._name}/_count")["count"])

    def _nearest_query(self, vector: list[float], k: int, where: Any) -> dict[str, Any]:
        asked = {"field": "vector", "query_vector": vector, "k": k, "num_candidates": min(10_000, max(100, 2 * k))}
        return {"knn": {**asked, **({"filter": where} if where is not None else {})}}

    def _search_of(self, vector: list[float], k: int, where: Any) -> tuple[str, Any]:
        return f"/{self._name}/_search", {
            **self._nearest_query(vector, min(k, 10_000), where),
            "size": min(k, 10_000),
            "_source": _SOURCE,
        }

    def _answer_of(self, found: Any) -> list[tuple[str, str, str, float]]:
        hits = found["hits"]["hits"]
        return [(*(one["_source"][name] for name in FIELDS), one["_score"]) for one in hits]

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        terms = " ".join(words(query))
        if not terms or self._dimension is None:
            return []
        asked = {"bool": {"must": [{"match": {"words": terms}}], "filter": [] if condition is None else [self._where(condition)]}}
        found = self._call("POST", f"/{self._name}/_search", {"query": asked, "size": min(k, 10_000), "_source": _SOURCE})
        return [Passage(text, name, score, json.loads(metadata)) for name, text, metadata, score in self._answer_of(found)]
