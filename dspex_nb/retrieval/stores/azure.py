"""`AzureSearch`: passages in an index of Azure AI Search, by its REST interface."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from dspex_nb.passages import Passage
from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.facts import Dialect, Written
from dspex_nb.retrieval.filters import Condition
from dspex_nb.retrieval.wire import FIELDS, WireCollection
from dspex_nb.retrieval.words import words

_VERSION = "api-version=2024-07-01"
_PAGE = 1000
_SELECTED = ",".join(FIELDS)


class AzureSearch(WireCollection):
    """Passages in an index of Azure AI Search.

    Args:
        url: The service's address, e.g. `"https://mine.search.windows.net"`.
        collection: The index's name.
        api_key: An admin key.
        timeout_s: Seconds that an answer may take.
    """

    name = "azure"
    metric = "inverse distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    words_by: ClassVar[str] = "store"
    dialect: ClassVar[Dialect[Any]] = Written(
        lambda tokens: f"facts/any(fact: search.in(fact, '{','.join(tokens)}', ','))", ("and", "or", "not ")
    )

    def _headers(self) -> dict[str, str]:
        return {"api-key": self._key}

    def _path(self, rest: str = "") -> str:
        return f"/indexes('{self._name}'){rest}?{_VERSION}"

    def _there(self) -> int | None:
        found = self._call("GET", self._path(), missing={})
        return next((int(one["dimensions"]) for one in found.get("fields", []) if one["name"] == "vector"), None)

    def _create(self, dimension: int) -> None:
        kept = {"type": "Edm.String", "searchable": False, "filterable": False, "sortable": False, "facetable": False}
        fields = [
            {"name": "key", "type": "Edm.String", "key": True, "filterable": True, "sortable": True},
            *({"name": name, **kept} for name in FIELDS),
            {"name": "facts", "type": "Collection(Edm.String)", "filterable": True, "searchable": False},
            {"name": "words", "type": "Edm.String", "searchable": True, "analyzer": "whitespace"},
            {
                "name": "vector",
                "type": "Collection(Edm.Single)",
                "searchable": True,
                "dimensions": dimension,
                "vectorSearchProfile": "exact",
            },
        ]
        search = {
            "algorithms": [{"name": "every", "kind": "exhaustiveKnn", "exhaustiveKnnParameters": {"metric": "cosine"}}],
            "profiles": [{"name": "exact", "algorithm": "every"}],
        }
        self._call("PUT", self._path(), {"name": self._name, "fields": fields, "vectorSearch": search})

    def _write(self, rows: Block) -> None:
        names = ("key", *FIELDS, "facts", "vector")
        self._change([
            {"@search.action": "upload", **{name: getattr(row, name) for name in names}, "words": " ".join(words(row.text))}
            for row in rows
        ])  # fmt: skip

    def _remove(self, ids: list[str]) -> None:
        self._change([{"@search.action": "delete", "key": key_of(one)} for one in ids])

    def _change(self, actions: list[dict[str, Any]]) -> None:
        found = self._call("POST", self._path("/docs/search.index"), {"value": actions})
        wrong = [one for one in found["value"] if not one["status"]]
        if wrong:
            raise ValueError(f"the service refused a row: {wrong[0].get('errorMessage')}")

    def _held(self, ids: list[str]) -> Iterable[str]:
        where = f"search.in(key, '{','.join(key_of(one) for one in ids)}', ',')"
        return [row[0] for row in self._pages({"filter": where})]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return self._pages({})

    def _pages(self, asked: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
        skip = 0
        while True:
            page = {**asked, "search": "*", "select": _SELECTED, "orderby": "key", "top": _PAGE, "skip": skip}
            found = self._call("POST", self._path("/docs/search.post.search"), page)["value"]
            yield from (tuple(one[name] for name in FIELDS) for one in found)
            if len(found) < _PAGE:
                return
            skip += _PAGE

    def _size(self) -> int:
        found = self._call("POST", self._path("/docs/search.post.search"), {"search": "*", "count": True, "top": 0})
        return int(found["@odata.count"])

    def _search_of(self, vector: list[float], k: int, where: Any) -> tuple[str, Any]:
        asked = {"kind": "vector", "vector": vector, "fields": "vector", "k": k, "exhaustive": True}
        body = {"vectorQueries": [asked], "select": _SELECTED, "top": min(k, _PAGE), "vectorFilterMode": "preFilter"}
        return self._path("/docs/search.post.search"), {**body, **({"filter": where} if where is not None else {})}

    def _answer_of(self, found: Any) -> list[tuple[str, str, str, float]]:
        return [(*(one[name] for name in FIELDS), one["@search.score"]) for one in found["value"]]

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        terms = " ".join(words(query))
        if not terms or self._dimension is None:
            return []
        asked = {"search": terms, "searchFields": "words", "select": _SELECTED, "top": min(k, _PAGE)}
        body = {**asked, **({} if condition is None else {"filter": self._where(condition)})}
        found = self._answer_of(self._call("POST", self._path("/docs/search.post.search"), body))
        return [Passage(text, name, score, json.loads(metadata)) for name, text, metadata, score in found]
