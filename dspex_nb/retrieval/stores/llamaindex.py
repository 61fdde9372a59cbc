"""`LlamaIndex`: any vector store of LlamaIndex; we embed, and keep filters by ids where we keep the passages."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import FilterError, RetrieverError, did_you_mean
from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.filters import Condition, matches
from dspex_nb.retrieval.hits import Hit
from dspex_nb.retrieval.scales import SCALES
from dspex_nb.retrieval.stores.uuids import TAKE_ONLY, uuid_of
from dspex_nb.retrieval.vectors import VectorIndex

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_BY_IDS = frozenset({"SimpleVectorStore"})  # classes seen to keep `node_ids`
_COSINE = frozenset({"SimpleVectorStore", "QdrantVectorStore"})  # classes whose similarities were seen to be cosines


class LlamaIndex(VectorIndex):
    """Passages in a vector store of LlamaIndex. Passages that others put there are found where the store keeps texts.

    Args:
        store: The vector store.
        scale: What its similarities are, where its class is not known here: `"cosine"`, `"cosine distance"`, `"distance"`,
            `"squared distance"`, `"unit score"`, or, as Chroma's, `"exp of cosine distance"` or `"exp of squared distance"`.
        uuids: Whether it takes no ids but UUIDs, so that each of ours has one; where not said, known by its class.
        dimension: The length of the vectors that the store holds already.
    """

    name = "llamaindex"
    filtering = "where known"
    kept = "store"

    def _open(self, *, store: Any, scale: str | None = None, uuids: bool | None = None, dimension: int | None = None) -> None:
        if not (callable(getattr(store, "query", None)) and hasattr(store, "stores_text")):
            raise RetrieverError(
                f"store={type(store).__name__}: expected a vector store of LlamaIndex", hint="pass the object itself"
            )
        cls = type(store).__name__
        scale = scale or ("cosine" if cls in _COSINE else None)
        if scale not in SCALES:
            near = did_you_mean(str(scale), SCALES) if scale else ""
            raise RetrieverError(
                f"what the similarities of {cls} mean is not known here: scale={scale!r}",
                hint=f"{near}say it: scale= one of {', '.join(map(repr, SCALES))}",
            )
        self._uuids = cls in TAKE_ONLY if uuids is None else uuids
        self._held, self._cosine, self._dimension = store, SCALES[scale], dimension
        self._texts: dict[str, Passage] = {}
        self._ours: dict[str, str] = {}  # our ids by the store's, where it has others

    @property
    def version(self) -> str:
        """A hash of the passages that were added here."""
        digests = sorted(passage_digest(one.id, one.text, one.metadata) for one in list(self._texts.values()))
        return hashlib.sha256(json.dumps([self.name, digests]).encode()).hexdigest()

    def count(self) -> int:
        """Return how many passages were added here: LlamaIndex has no call that counts what a store holds."""
        return len(self._texts)

    def __repr__(self) -> str:
        return f"<llamaindex retriever over {type(self._held).__name__}>"

    def _store(self, given: Columns, vectors: Vectors) -> None:
        from llama_index.core.schema import TextNode

        self._dimension = vectors.shape[1]
        passages = given.passages()
        nodes: list[Any] = [
            TextNode(id_=self._theirs(one.id), text=one.text, metadata=dict(one.metadata), embedding=vector)
            for one, vector in zip(passages, vectors.tolist(), strict=True)
        ]
        with self._lock:
            self._drop([one.id for one in passages])
            self._held.add(nodes)
            self._texts.update((one.id, one) for one in passages)
            if self._uuids:
                self._ours.update((uuid_of(one.id), one.id) for one in passages)

    def _drop(self, ids: list[str]) -> int:
        with self._lock:
            there = [one for one in ids if one in self._texts]
            if there:
                self._held.delete_nodes(list(map(self._theirs, there)))
            for one in there:
                del self._texts[one]
        return len(there)

    def _theirs(self, given_id: str) -> str:
        return uuid_of(given_id) if self._uuids else given_id

    def _where(self, condition: Condition) -> list[str]:
        if type(self._held).__name__ not in _BY_IDS:
            raise FilterError(
                f"whether {type(self._held).__name__} keeps filters as meant here is not known",
                hint="search without a filter, or use the store's own retriever: dx.retrievers() lists them",
            )
        return [one.id for one in list(self._texts.values()) if matches(condition, one.metadata)]

    def _nearest(self, vectors: Vectors, k: int, where: list[str] | None) -> list[list[Hit]]:
        from llama_index.core.vector_stores.types import VectorStoreQuery

        if where == []:
            return [[] for _ in vectors]
        with self._lock:
            answers = [
                self._held.query(VectorStoreQuery(query_embedding=one, similarity_top_k=k, node_ids=where))
                for one in vectors.tolist()
            ]
            return [self._hits(one) for one in answers]

    def _hits(self, answer: Any) -> list[Hit]:
        nodes = {one.node_id: one for one in answer.nodes or ()}
        found = []
        for name, raw in zip(answer.ids or (), answer.similarities or (), strict=True):
            passage = self._texts.get(self._ours.get(name, name))
            if passage is None and name in nodes:
                passage = Passage(nodes[name].get_content(), name, 0.0, nodes[name].metadata)
            if passage is not None:
                found.append((passage.id, passage.text, passage.metadata, float(raw)))
        return found
