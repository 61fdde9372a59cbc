"""`OpenSearch`: Elasticsearch's interface, with vectors said in its own words."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval.stores.elasticsearch import Elasticsearch


class OpenSearch(Elasticsearch):
    """Passages in an OpenSearch index (2.9 or later).

    Args:
        url: The server's address, e.g. `"https://localhost:9200"`.
        collection: The index's name.
        api_key: `user:password` as base64, for basic authentication.
        timeout_s: Seconds that an answer may take.
    """

    name = "opensearch"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Basic {self._key}"}

    def _length(self, vector: dict[str, Any]) -> int:
        return int(vector["dimension"])

    def _vector_field(self, dimension: int) -> dict[str, Any]:
        method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
        return {"type": "knn_vector", "dimension": dimension, "method": method}

    def _settings(self) -> dict[str, Any]:
        return {"index.knn": True}

    def _nearest_query(self, vector: list[float], k: int, where: Any) -> dict[str, Any]:
        asked = {"vector": vector, "k": k, **({"filter": where} if where is not None else {})}
        return {"query": {"knn": {"vector": asked}}}
