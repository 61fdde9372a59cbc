"""`LangChain`: any vector store of LangChain, with its own embeddings; filters where its class is known, else refused."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import FilterError, RetrieverError, did_you_mean
from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.base import Index, Way, deeper, texts_of
from dspex_nb.retrieval.filters import Compare, Condition, Every, Some, matches
from dspex_nb.retrieval.merging import rrf
from dspex_nb.retrieval.queries import is_vector
from dspex_nb.retrieval.scales import SCALES, scaled
from dspex_nb.retrieval.stores.uuids import OWN, TAKE_ONLY, uuid_of, with_own
from dspex_nb.transport import redact


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a class of vector stores.

    Attributes:
        scale: What its numbers are; None where that depends on how the store was made.
        filter: Gives the argument `filter=` that means a condition exactly, or raises FilterError.
        documents: Gives all documents of a store; None where it cannot.
        added: Keys that the class itself adds to the metadata it gives.
    """

    scale: str | None
    filter: Callable[[Condition], Any] | None = None
    documents: Callable[[Any], Iterator[Any]] | None = None
    added: tuple[str, ...] = ()


def _by_function(condition: Condition) -> Any:
    return lambda document: matches(condition, document.metadata)


def _for_chroma(condition: Condition) -> dict[str, Any]:
    """Return Chroma's dict; it compares texts with texts and numbers with numbers, and has no word for a missing key.

    A value is asked for by itself and, with another word, as an element of a list.
    """
    if isinstance(condition, Every | Some):
        word = "$and" if isinstance(condition, Every) else "$or"
        return {word: [_for_chroma(part) for part in condition.parts]}
    if isinstance(condition, Compare) and condition.operator in ("$eq", "$in"):
        values = condition.value if condition.operator == "$in" else (condition.value,)
        if values and all(isinstance(one, str) for one in values):
            return {"$or": [{condition.key: {word: one}} for one in values for word in ("$eq", "$contains")]}
    raise FilterError(
        "through LangChain, Chroma keeps only texts in $eq and $in, joined by $and and $or, exactly as meant here",
        hint='use dx.retriever("chroma", …), which keeps every filter',
    )


def _in_memory(store: Any) -> Iterator[Any]:
    from langchain_core.documents import Document

    for name, one in list(store.store.items()):
        yield Document(id=name, page_content=one["text"], metadata=one["metadata"])


KNOWN = {
    "InMemoryVectorStore": Known("cosine", _by_function, _in_memory),
    "Chroma": Known(None, _for_chroma),
    "QdrantVectorStore": Known(None, added=("_id", "_collection_name")),
}
_BY_VECTOR = ("similarity_search_with_score_by_vector", "similarity_search_by_vector_with_relevance_scores")


class LangChain(Index):
    """Passages in a vector store of LangChain.

    Args:
        index: What is added at the start.
        store: The vector store, with its embeddings.
        scale: What its numbers are, where its class is not known here: `"cosine"`, `"cosine distance"`, `"distance"`,
            `"squared distance"` or `"unit score"`.
        uuids: Whether it takes no ids but UUIDs, so that ours are kept in its metadata; where not said, known by its class.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
    """

    name = "langchain"
    modes: tuple[str, ...] = ("dense",)
    filtering = "where known"
    kept = "store"

    def __init__(
        self, index: Any = None, *, store: Any, scale: str | None = None, uuids: bool | None = None, k: int = 5,
        text_field: str | None = None,
    ) -> None:  # fmt: skip
        if not callable(getattr(store, "similarity_search_with_score", None)):
            raise RetrieverError(
                f"store={type(store).__name__}: expected a VectorStore of LangChain", hint="pass the object, e.g. store=Chroma(…)"
            )
        self._store = store
        self._known = KNOWN.get(type(store).__name__)
        scale = scale or (self._known.scale if self._known else None)
        if scale not in SCALES:
            near = did_you_mean(str(scale), SCALES) if scale else ""
            raise RetrieverError(
                f"what the numbers of {type(store).__name__} mean is not known here: scale={scale!r}",
                hint=f"{near}say it: scale= one of {', '.join(map(repr, SCALES))}",
            )
        self._scale = scale
        self._uuids = type(store).__name__ in TAKE_ONLY if uuids is None else uuids
        super().__init__(index, k=k, text_field=text_field)

    @property
    def version(self) -> str:
        """A hash of the documents where they can be listed; else new each time, so that nothing found is kept as current."""
        if self._known is None or self._known.documents is None:
            return uuid.uuid4().hex
        digests = [passage_digest(str(one.id), one.page_content, one.metadata) for one in self._known.documents(self._store)]
        return hashlib.sha256(json.dumps(sorted(digests)).encode()).hexdigest()

    def count(self) -> int:
        """Return how many passages there are.

        Raises:
            RetrieverError: LangChain has no call for it, and the class is not known here.
        """
        if self._known is None or self._known.documents is None:
            raise RetrieverError(
                "LangChain's vector stores do not say how many passages they hold", hint="ask the store's client"
            )
        return sum(1 for _ in self._known.documents(self._store))

    def __repr__(self) -> str:
        return f"<langchain retriever over {type(self._store).__name__}>"

    def _put(self, passages: list[Passage]) -> None:
        texts, ids = [one.text for one in passages], [one.id for one in passages]
        told = [with_own(one.metadata, one.id) if self._uuids else dict(one.metadata) for one in passages]
        try:
            self._store.add_texts(texts, told, ids=self._theirs(ids))
        except Exception as error:  # noqa: BLE001 - any store's own errors
            raise self._failed("adding to", error) from None

    def _find(self, query: Any, k: int, condition: Condition | None) -> list[Passage]:
        search = self._by_vector() if isinstance(query, list) else self._store.similarity_search_with_score
        given = {} if condition is None else {"filter": self._filter(condition)}
        try:
            found = search(query, k=k, **given)
        except Exception as error:  # noqa: BLE001 - any store's own errors
            raise self._failed("searching in", error) from None
        made = [
            Passage(one.page_content, self._id_of(one), scaled(self._scale, raw), self._metadata_of(one), float(raw))
            for one, raw in found
        ]
        return sorted(made, key=lambda one: (-one.score, one.id))

    def _search(self, query: Any, k: int, condition: Condition | None, mode: Way) -> list[Passage]:
        del mode
        queries: list[Any] = [[float(one) for one in query]] if is_vector(query) else texts_of(query)
        if not k or not queries:
            return []
        rankings = [self._find(one, k if len(queries) == 1 else deeper(k), condition) for one in queries]
        return rankings[0] if len(queries) == 1 else rrf(rankings)[:k]

    def _by_vector(self) -> Callable[..., Any]:
        """Return the store's search by a vector that tells scores; LangChain has no common name for it."""
        found = next((one for name in _BY_VECTOR if callable(one := getattr(self._store, name, None))), None)
        if found is None:
            raise RetrieverError(
                f"{type(self._store).__name__} has no search by a vector that tells scores",
                hint="search for a text: the store embeds it itself",
            )
        return found  # type: ignore[no-any-return]

    def _drop(self, ids: list[str]) -> int:
        try:
            there = [self._id_of(one) for one in self._store.get_by_ids(self._theirs(ids))]
        except NotImplementedError:  # many classes cannot look up ids, so all count as there
            there = ids
        except Exception as error:  # noqa: BLE001 - any store's own errors
            raise self._failed("deleting from", error) from None
        try:
            if there:
                self._store.delete(self._theirs(there))
        except Exception as error:  # noqa: BLE001
            raise self._failed("deleting from", error) from None
        return len(there)

    def _theirs(self, ids: list[str]) -> list[str]:
        """Return ids as the store has them."""
        return list(map(uuid_of, ids)) if self._uuids else ids

    def _id_of(self, document: Any) -> str:
        """Return a document's id: ours, the store's, or what its class puts into the metadata instead; empty if it says none."""
        metadata = document.metadata
        return str((metadata.get(OWN) if self._uuids else None) or document.id or metadata.get("_id") or "")

    def _metadata_of(self, document: Any) -> dict[str, Any]:
        """Return a document's metadata as it was given."""
        added = (*(self._known.added if self._known else ()), *((OWN,) if self._uuids else ()))
        return {key: value for key, value in document.metadata.items() if key not in added}

    def _failed(self, doing: str, error: Exception) -> RetrieverError:
        """Return a store's error as ours, its words without what is shaped like a secret."""
        if isinstance(error, NotImplementedError):
            return RetrieverError(f"{type(self._store).__name__} has no way of {doing} it", hint="use the store's own client")
        return RetrieverError(
            f"{doing} {type(self._store).__name__} failed: {type(error).__name__}: {redact(str(error))}",
            hint="see what the store says",
        )

    def _filter(self, condition: Condition) -> Any:
        if self._known is None or self._known.filter is None:
            raise FilterError(
                f"how {type(self._store).__name__} reads filters is not known here, and eight of LangChain's classes ignore them",
                hint="search without a filter, or use the store's own retriever: dx.retrievers() lists them",
            )
        return self._known.filter(condition)
