"""`retriever`: an index by name, and the table of the names there are."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import MissingDependencyError, RetrieverError, did_you_mean
from dspex_nb.retrieval.base import PLACES, Index
from dspex_nb.retrieval.stores.langchain import LangChain
from dspex_nb.retrieval.tail import TAIL, maker_of


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of index: where its class is, and the packages that it needs."""

    name: str
    module: str
    cls: str
    extra: str = ""
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """The first package that it needs and that is not there, or an empty string."""
        return next((one for one in self.packages if not _found(one)), "")

    @property
    def installed(self) -> bool:
        """Whether what it needs is there."""
        return not self.missing


_FILTERING = {"native": "filters", "by ids": "filters by ids", "where known": "filters where its class is known"}
_BESIDE = "sparse (our BM25)"


def _stores(*rows: tuple[str, str, str]) -> tuple[Kind, ...]:
    """Return the kinds of stores: name, class and packages; file and extra are called like the store."""
    return tuple(
        Kind(name, f"stores.{name.replace('-', '_')}", cls, name if packages else "", tuple(packages.split()))
        for name, cls, packages in rows
    )


KINDS = {
    kind.name: kind
    for kind in (
        Kind("bm25", "bm25", "BM25"),
        Kind("trigram", "trigram", "Trigram"),
        Kind("postgres", "postgres", "Postgres", "postgres", ("psycopg",)),
        Kind("colbertv2", "colbertv2", "ColBERTv2"),
        Kind("late-interaction", "late_interaction", "LateInteraction", "embedder", ("onnxruntime",)),
        *_stores(
            ("memory", "Memory", ""),
            ("sqlite", "Sqlite", ""),
            ("faiss", "Faiss", "faiss"),
            ("sqlite-vec", "SqliteVec", "sqlite_vec apsw"),
            ("chroma", "Chroma", "chromadb"),
            ("qdrant", "Qdrant", "qdrant_client"),
            ("milvus", "Milvus", "pymilvus"),
            ("lancedb", "LanceDb", "lancedb"),
            ("duckdb", "DuckDb", "duckdb pyarrow"),
            ("libsql", "LibSql", "libsql"),
            ("turso", "Turso", "turso"),
            ("hnswlib", "Hnswlib", "hnswlib"),
            ("usearch", "Usearch", "usearch"),
            ("annoy", "Annoy", "annoy"),
            ("voyager", "Voyager", "voyager"),
            ("ngt", "Ngt", "ngtpy"),
            ("nmslib", "Nmslib", "nmslib"),
            ("scann", "Scann", "scann"),
            ("sklearn", "Sklearn", "sklearn"),
            ("pynndescent", "PyNNDescent", "pynndescent"),
            ("pgvector", "PgVector", "psycopg"),
            ("redis", "Redis", "redis"),
            ("mariadb", "MariaDb", "mariadb"),
            ("falkordb", "FalkorDb", "falkordb"),
            ("ladybug", "Ladybug", "ladybug"),
            ("zvec", "Zvec", "zvec"),
            ("cozo", "Cozo", "pycozo cozo_embedded"),
            ("qdrant-edge", "QdrantEdge", "qdrant_edge"),
            ("surrealdb", "SurrealDb", "surrealdb"),
            ("elasticsearch", "Elasticsearch", ""),
            ("opensearch", "OpenSearch", ""),
            ("pinecone", "Pinecone", ""),
            ("azure", "AzureSearch", ""),
            ("langchain", "LangChain", "langchain_core"),
            ("llamaindex", "LlamaIndex", "llama_index.core"),
        ),
        *(Kind(name, "tail", "", name, (module.partition(".")[0],)) for name, (module, _) in TAIL.items()),
    )
}


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # the package around it is missing
        return False


def retriever(name: str, /, **config: Any) -> Index:
    """Return an index of the kind `name`, made with `config`.

    Raises:
        RetrieverError: No such kind, an option that it does not take, or none where it needs one.
        MissingDependencyError: The package that it needs is not installed.
    """
    cls = _class(name)
    parameters = inspect.signature(cls).parameters
    known = tuple(parameters)
    for option in config:
        if option not in known and "options" not in known:
            near = did_you_mean(option, known)
            raise RetrieverError(f"the retriever {name!r} has no option {option!r}", hint=f"{near}it takes {', '.join(known)}")
    for option, told in parameters.items():
        if told.default is told.empty and told.kind is told.KEYWORD_ONLY and option not in config:
            raise RetrieverError(f"the retriever {name!r} needs {option}=", hint=f"it takes {', '.join(known)}")
    made: Index = cls(**config)
    return made


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of the options that a kind of index is made with."""
    return tuple(inspect.signature(_class(name)).parameters)


def _class(name: str) -> Any:
    kind = kind_of(name)
    return _loaded(kind) if kind.cls else maker_of(name)


def kind_of(name: Any) -> Kind:
    """Return the kind called `name`.

    Raises:
        RetrieverError: There is none.
        MissingDependencyError: The package that it needs is not installed.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        near = did_you_mean(str(name), KINDS)
        raise RetrieverError(f"there is no retriever {name!r}", hint=f"{near}there are: {', '.join(KINDS)}")
    if not kind.installed:
        raise MissingDependencyError(
            f"the retriever {name!r} needs the package {kind.missing!r}", hint=f"pip install 'dspex_nb[{kind.extra}]'"
        )
    return kind


def features_of(kind: Kind, made: Any = None) -> tuple[str, ...]:
    """Return what a kind of index can do, in words, or `made`, one of it: on a server it may do other things than in a folder."""
    cls = _loaded(kind) if made is None else made
    return (
        *(_BESIDE if one == "sparse" and cls.words_by == "bm25" else one for one in cls.modes),
        *([_FILTERING[cls.filtering]] if cls.filtering in _FILTERING else []),
        PLACES[cls.kept],
        *(("async",) if cls.concurrent else ()),
        *(("batch",) if cls.batching else ()),
    )


def _loaded(kind: Kind) -> Any:
    """Return a kind's class, that of LangChain's bridge for the tail; no store's file imports its client."""
    if not kind.cls:
        return LangChain
    return getattr(importlib.import_module(f"dspex_nb.retrieval.{kind.module}"), kind.cls)


def table() -> list[dict[str, Any]]:
    """Return one row a kind: `name`, `extra`, `features`, `installed`, `label`."""
    from dspex_nb.retrieval.proofs import label_of

    return [
        {
            "name": kind.name,
            "extra": kind.extra,
            "features": ", ".join(features_of(kind)),
            "installed": kind.installed,
            "label": label_of(kind.name),
        }
        for kind in KINDS.values()
    ]
