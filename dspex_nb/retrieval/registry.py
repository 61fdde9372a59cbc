"""`retriever`: an index by name, and the table of the names there are."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import MissingDependencyError, RetrieverError, did_you_mean
from dspex_nb.retrieval.base import Retriever


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of index: where its class is, what it needs, and what it can do."""

    name: str
    module: str
    cls: str
    features: tuple[str, ...]
    extra: str = ""
    package: str = ""

    @property
    def installed(self) -> bool:
        """Whether what it needs is there."""
        return not self.package or importlib.util.find_spec(self.package) is not None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("bm25", "bm25", "BM25", ("words", "filters", "in memory")),
        Kind("trigram", "trigram", "Trigram", ("word forms and typos", "filters", "in memory")),
        Kind("postgres", "postgres", "Postgres", ("words and their stems", "filters", "kept on a server"), "postgres", "psycopg"),
        Kind("colbertv2", "colbertv2", "ColBERTv2", ("late interaction", "a server of its own")),
        Kind(
            "late-interaction",
            "late_interaction",
            "LateInteraction",
            ("late interaction", "filters", "in memory"),
            "embedder",
            "onnxruntime",
        ),
    )
}
# Stores that the retrieval issue brings: a name known elsewhere deserves a better answer than "unknown".
LATER = frozenset({
    "annoy", "azure", "cassandra", "chroma", "clickhouse", "dense", "duckdb", "elasticsearch",
    "embeddings", "faiss", "falkordb", "hnswlib", "hybrid", "lancedb", "mariadb", "meilisearch", "milvus", "mongodb", "neo4j",
    "opensearch",
    "pgvector", "pinecone", "qdrant", "redis", "scann", "sqlite-vec", "surrealdb", "tidb", "typesense", "usearch", "valkey",
    "vertex", "vespa", "weaviate",
})  # fmt: skip


def retriever(name: str, /, **config: Any) -> Retriever:
    """Return an index of the kind `name`, made with `config`.

    Raises:
        RetrieverError: No such kind, or an option that it does not take.
        MissingDependencyError: The package that it needs is not installed.
    """
    cls = _class(name)
    known = options_of(name)
    for option in config:
        if option not in known:
            near = did_you_mean(option, known)
            raise RetrieverError(f"the retriever {name!r} has no option {option!r}", hint=f"{near}it takes {', '.join(known)}")
    made: Retriever = cls(**config)
    return made


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of the options that a kind of index is made with."""
    return tuple(inspect.signature(_class(name)).parameters)


def _class(name: str) -> Any:
    kind = kind_of(name)
    return getattr(importlib.import_module(f"dspex_nb.retrieval.{kind.module}"), kind.cls)


def kind_of(name: Any) -> Kind:
    """Return the kind called `name`.

    Raises:
        RetrieverError: There is none.
        MissingDependencyError: The package that it needs is not installed.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(KINDS)
        if isinstance(name, str) and name.lower() in LATER:
            raise RetrieverError(
                f"the retriever {name!r} is not in this version of dspex_nb: vector stores come later", hint=f"there are: {known}"
            )
        near = did_you_mean(str(name), KINDS)
        raise RetrieverError(f"there is no retriever {name!r}", hint=f"{near}there are: {known}")
    if not kind.installed:
        raise MissingDependencyError(
            f"the retriever {name!r} needs the package {kind.package!r}", hint=f"pip install 'dspex_nb[{kind.extra}]'"
        )
    return kind


def table() -> list[dict[str, Any]]:
    """Return one row a kind: `name`, `extra`, `features`, `installed`."""
    return [
        {"name": kind.name, "extra": kind.extra, "features": ", ".join(kind.features), "installed": kind.installed}
        for kind in KINDS.values()
    ]
