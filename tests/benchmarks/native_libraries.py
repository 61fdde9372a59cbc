"""Each library of neighbours as its user would use it: vectors in, and `find` gives id, text, metadata and number.

The library knows slots; what stands in them is left to its user, who has it in three lists. `find` takes the user's own index, and
the library's index in our retriever just as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Library:
    """How a library's index is made of vectors, and how a query asks it for slots and numbers."""

    build: Callable[[Any, Any], Any]
    ask: Callable[[Any, Any, int], Any]
    attribute: str = "_index"

    def fill(self, folder, rows):
        return self.build(rows[3], folder)

    def find(self, index, rows, k):
        ids, texts, metadatas, _ = rows
        ask = self.ask

        def found(query):
            slots, numbers = ask(index, query, k)
            return [(ids[at], texts[at], metadatas[at], number) for at, number in zip(slots, numbers, strict=True)]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(getattr(retriever, self.attribute), rows, k)


def ask_matrix(matrix, query, k):
    scores = matrix @ query
    best = np.argpartition(scores, -k)[-k:]
    best = best[np.argsort(-scores[best])]
    return best.tolist(), scores[best].tolist()


def build_faiss(vectors, folder):
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def ask_faiss(index, query, k):
    numbers, slots = index.search(query[None], k)
    return slots[0].tolist(), numbers[0].tolist()


def build_hnswlib(vectors, folder):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
    index.add_items(vectors)
    index.set_ef(64)
    return index


def ask_hnswlib(index, query, k):
    slots, numbers = index.knn_query(query, k=k)
    return slots[0].tolist(), numbers[0].tolist()


def build_usearch(vectors, folder):
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)
    return index


def ask_usearch(index, query, k):
    found = index.search(query, k)
    return found.keys.tolist(), found.distances.tolist()


def build_voyager(vectors, folder):
    from voyager import Index, Space

    index = Index(Space.InnerProduct, num_dimensions=vectors.shape[1])
    index.add_items(vectors)
    return index


def ask_voyager(index, query, k):
    slots, numbers = index.query(query, k=k, query_ef=64)
    return slots.tolist(), numbers.tolist()


def build_scann(vectors, folder):
    import scann

    return scann.scann_ops_pybind.builder(vectors, 10, "dot_product").score_brute_force().build()


def ask_scann(index, query, k):
    slots, numbers = index.search(query, final_num_neighbors=k)
    return slots.tolist(), numbers.tolist()


def build_annoy(vectors, folder):
    from annoy import AnnoyIndex

    index = AnnoyIndex(vectors.shape[1], "dot")
    index.set_seed(0)
    for slot, vector in enumerate(vectors):
        index.add_item(slot, vector)
    index.build(50)
    return index


def ask_annoy(index, query, k):
    return index.get_nns_by_vector(query, k, search_k=20 * 50 * k, include_distances=True)


def build_ngt(vectors, folder):
    import ngtpy

    place = str(folder / "ngt").encode()
    ngtpy.create(place, vectors.shape[1], distance_type="Cosine", object_type="Float")
    index = ngtpy.Index(place)
    index.batch_insert(vectors)
    return index


def ask_ngt(index, query, k):
    return zip(*index.search(query, k, epsilon=0.2), strict=True)


def build_nmslib(vectors, folder):
    import nmslib

    index = nmslib.init(method="hnsw", space="cosinesimil")
    index.addDataPointBatch(vectors)
    index.createIndex({})
    index.setQueryTimeParams({"efSearch": 100})
    return index


def ask_nmslib(index, query, k):
    slots, numbers = index.knnQuery(query, k=k)
    return slots.tolist(), numbers.tolist()


def build_sklearn(vectors, folder):
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(metric="cosine").fit(vectors)


def ask_sklearn(index, query, k):
    numbers, slots = index.kneighbors(query[None], k)
    return slots[0].tolist(), numbers[0].tolist()


def build_pynndescent(vectors, folder):
    from pynndescent import NNDescent

    return NNDescent(vectors, metric="cosine", n_neighbors=30, random_state=0)


def ask_pynndescent(index, query, k):
    slots, numbers = index.query(query[None], k=k)
    return slots[0].tolist(), numbers[0].tolist()


LIBRARIES = {
    "memory": Library(lambda vectors, _: vectors.copy(), ask_matrix, "_matrix"),
    "faiss": Library(build_faiss, ask_faiss),
    "hnswlib": Library(build_hnswlib, ask_hnswlib),
    "usearch": Library(build_usearch, ask_usearch),
    "voyager": Library(build_voyager, ask_voyager),
    "scann": Library(build_scann, ask_scann),
    "annoy": Library(build_annoy, ask_annoy),
    "ngt": Library(build_ngt, ask_ngt),
    "nmslib": Library(build_nmslib, ask_nmslib),
    "sklearn": Library(build_sklearn, ask_sklearn),
    "pynndescent": Library(build_pynndescent, ask_pynndescent),
}
