"""What our interface costs over a store's own client, in one run: searches, and 100,000 vectors indexed and searched.

    .venv/bin/python tests/benchmarks/bench_retrieval.py            # the embedded stores that are installed
    .venv/bin/python tests/benchmarks/bench_retrieval.py 20000      # fewer vectors

Native and ours take turns, so that other load falls on both; the median of the differences counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dspex_nb.retrieval import KINDS, retriever

LENGTH, K, SEARCHES = 64, 10, 300


def native_memory(index, query):
    matrix = index._matrix
    return lambda: np.argpartition(-(query[None] @ matrix.T), K - 1, axis=1)[:, :K]


def native_faiss(index, query):
    return lambda: index._index.search(query[None], K)


def native_hnswlib(index, query):
    return lambda: index._index.knn_query(query[None], k=K)


def native_usearch(index, query):
    return lambda: index._index.search(query[None], K)


def native_voyager(index, query):
    return lambda: index._index.query(query[None], k=K, query_ef=64)


def native_scann(index, query):
    return lambda: index._index.search_batched(query[None], final_num_neighbors=K)


def native_sql(index, query):
    statement = index._said(index.finding, where="1 = 1")
    return lambda: index._run(statement, [index._vector(query.tolist()), K])


def native_lancedb(index, query):
    fields = ["id", "text", "metadata", "_distance"]
    return lambda: index._table.search(query.tolist()).distance_type("dot").select(fields).limit(K).to_list()


def native_chroma(index, query):
    include = ["documents", "metadatas", "distances"]
    return lambda: index._collection.query(query_embeddings=[query.tolist()], n_results=K, include=include)


STORES = {
    "memory": native_memory,
    "faiss": native_faiss,
    "hnswlib": native_hnswlib,
    "usearch": native_usearch,
    "voyager": native_voyager,
    "scann": native_scann,
    "sqlite-vec": native_sql,
    "duckdb": native_sql,
    "lancedb": native_lancedb,
    "chroma": native_chroma,
}
PLACES = {"lancedb": "lance", "chroma": "chroma", "duckdb": "duck.db", "sqlite-vec": "lite.db"}


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(name, vectors, folder):
    config = {"path": Path(folder) / PLACES[name]} if name in PLACES else {}
    index = retriever(name, k=K, **config)
    ids = [f"id{n}" for n in range(len(vectors))]
    adding = timed(lambda: index.add(ids, ids=ids, vectors=vectors))
    query = vectors[7] / np.linalg.norm(vectors[7])
    building = timed(lambda: index.search(query))
    native = STORES[name](index, query)
    native()
    pairs = [(timed(native), timed(lambda: index.search(query))) for _ in range(SEARCHES if adding < 60 else 50)]
    own = statistics.median(one for one, _ in pairs)
    extra = statistics.median(ours - one for one, ours in pairs)
    assert index.search(query)[0].id == "id7"
    index.close()
    ok = "ok" if extra <= max(50e-6, 0.05 * own) else "over"
    print(
        f"{name:12} add {adding + building:7.2f} s   native {own * 1e6:9.0f} µs   ours {extra * 1e6:+7.0f} µs ({extra / own:+.1%})  {ok}"
    )


def main(count):
    vectors = np.random.default_rng(1).standard_normal((count, LENGTH)).astype(np.float32)
    print(f"{count:,} vectors of {LENGTH} numbers, k={K}; within 50 µs or 5 % of the native search: ok")
    for name in STORES:
        if not KINDS[name].installed:
            print(f"{name:12} not installed: pip install 'dspex_nb[{KINDS[name].extra}]'")
            continue
        with tempfile.TemporaryDirectory() as folder:
            measure(name, vectors, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
