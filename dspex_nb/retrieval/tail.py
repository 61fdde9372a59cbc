"""`TAIL`: services reached through their vendors' LangChain classes; `maker_of` makes a retriever over one of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.stores.langchain import LangChain
from dspex_nb.retrieval.vectors import callable_of

# Name → module and class. Each has an extra of that name, which installs the vendor's package.
TAIL = {
    "astradb": ("langchain_astradb", "AstraDBVectorStore"),
    "cassandra": ("langchain_community.vectorstores", "Cassandra"),
    "cockroachdb": ("langchain_cockroachdb", "CockroachDBVectorStore"),
    "couchbase": ("langchain_couchbase", "CouchbaseSearchVectorStore"),
    "db2": ("langchain_db2", "DB2VS"),
    "hana": ("langchain_hana", "HanaDB"),
    "mongodb": ("langchain_mongodb", "MongoDBAtlasVectorSearch"),
    "neo4j": ("langchain_neo4j", "Neo4jVector"),
    "oracle": ("langchain_oracledb", "OracleVS"),
    "s3-vectors": ("langchain_aws", "AmazonS3Vectors"),
    "singlestore": ("langchain_singlestore", "SingleStoreVectorStore"),
    "sqlserver": ("langchain_sqlserver", "SQLServer_VectorStore"),
    "turbopuffer": ("langchain_turbopuffer", "TurbopufferVectorStore"),
    "typesense": ("langchain_typesense", "TypesenseVectorStore"),
    "vertex": ("langchain_google_vertexai", "VectorSearchVectorStore"),
    "weaviate": ("langchain_weaviate", "WeaviateVectorStore"),
}


def class_of(name: str) -> Any:
    """Return the vendor's class for a name of the tail."""
    module, cls = TAIL[name]
    return getattr(importlib.import_module(module), cls)


def maker_of(name: str) -> Callable[..., LangChain]:
    """Return what makes a retriever over a service of the tail."""

    def make(
        index: Any = None,
        *,
        scale: str,
        embedder: Any = None,
        store: Any = None,
        k: int = 5,
        text_field: str | None = None,
        **options: Any,
    ) -> LangChain:
        made = store if store is not None else _store_of(name, embedder, options)
        return LangChain(index, store=made, scale=scale, k=k, text_field=text_field)

    make.__name__ = name
    return make


def _store_of(name: str, embedder: Any, options: dict[str, Any]) -> Any:
    """Return the vendor's store, made with its own options and our embedder as its embeddings."""
    from langchain_core.embeddings import Embeddings

    given = callable_of(embedder)
    if given is None:
        raise RetrieverError(
            f"the retriever {name!r} has no embedder", hint="give one, embedder=…, or a store that you made: store=…"
        )

    embedded = given

    class Ours(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[float(number) for number in row] for row in embedded(texts)]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    cls = class_of(name)
    takes = next((one for one in inspect.signature(cls).parameters if one.startswith("embedding")), "embedding")
    return cls(**{takes: Ours(), **options})
