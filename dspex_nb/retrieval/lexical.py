"""`LexicalIndex`: passages in memory found by terms they share with the query; a subclass says which terms and what weight."""

from __future__ import annotations

import hashlib
import json
import threading
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex_nb.passages import Passage, passage_digest
from dspex_nb.retrieval.base import Index
from dspex_nb.retrieval.filters import Condition, matches
from dspex_nb.retrieval.postings import Postings, best_first

if TYPE_CHECKING:
    from dspex_nb.retrieval.postings import Numbers


class LexicalIndex(Index):
    """An index in memory. Threads may share it: searches and changes take turns."""

    def __init__(self, index: Any = None, *, k: int = 5, text_field: str | None = None) -> None:
        self._lock = threading.RLock()
        self._passages: dict[str, Passage] = {}
        self._postings = Postings()
        self._sum = 0  # of the passages' digests: the same content has the same sum in whatever order it came
        super().__init__(index, k=k, text_field=text_field)

    @property
    def version(self) -> str:
        """A hash of the passages and the settings."""
        with self._lock:
            written = json.dumps([self.name, self._settings(), len(self._passages), self._sum], sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()

    def count(self) -> int:
        """Return how many passages the index holds."""
        return len(self._passages)

    def __repr__(self) -> str:
        return f"<{self.name} retriever, {self.count():,} passages in memory>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = self.__dict__.copy()
            state["_passages"] = self._passages.copy()
        return {name: value for name, value in state.items() if name not in ("_lock", "_postings")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._postings = self._built(self._passages.values())

    @abstractmethod
    def _terms(self, text: str) -> list[str]:
        """Return the terms of a text."""

    @abstractmethod
    def _scores(self, terms: list[str], postings: Postings) -> Numbers:
        """Return each slot's score for the terms of a query; 0 where nothing is shared."""

    def _settings(self) -> dict[str, Any]:
        """Return what changes results besides the content."""
        return {}

    def _weight(self, terms: list[str]) -> float:  # noqa: ARG002 - for subclasses
        """Return a number kept with each passage."""
        return 1.0

    def _put(self, passages: list[Passage]) -> None:
        analysed = [(one, self._terms(one.text), int(passage_digest(one.id, one.text, one.metadata), 16)) for one in passages]
        with self._lock:
            self._forget([one.id for one in passages])
            for one, terms, digest in analysed:
                self._passages[one.id] = one
                self._postings.put(one.id, terms, self._weight(terms))
                self._sum = (self._sum + digest) % 2**256
            self._tidy()

    def _drop(self, ids: list[str]) -> int:
        with self._lock:
            dropped = self._forget(ids)
            self._tidy()
        return dropped

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        terms = self._terms(query)
        with self._lock:
            scores = self._scores(terms, self._postings)
            found: list[Passage] = []
            for slot in best_first(scores):
                score = float(scores[slot])
                if len(found) >= k and score < found[k - 1].score:
                    break  # of those with equal scores all are looked at: which stay must not depend on the order of adding
                name = self._postings.ids[slot]
                if name is not None and matches(condition, self._passages[name].metadata):
                    found.append(replace(self._passages[name], score=score))
        return sorted(found, key=lambda one: (-one.score, one.id))[:k]

    def _forget(self, ids: Iterable[str]) -> int:
        known = [self._passages.pop(name) for name in ids if name in self._passages]
        for one in known:
            self._postings.drop(one.id)
            self._sum = (self._sum - int(passage_digest(one.id, one.text, one.metadata), 16)) % 2**256
        return len(known)

    def _tidy(self) -> None:
        if self._postings.wasteful:
            self._postings = self._built(self._passages.values())

    def _built(self, passages: Iterable[Passage]) -> Postings:
        postings = Postings()
        for one in passages:
            terms = self._terms(one.text)
            postings.put(one.id, terms, self._weight(terms))
        return postings
