"""`Passage`: a piece of text that a retriever found, with where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text with its id, how well it matched, and its metadata; `str(passage)` is its text.

    Attributes:
        text: The text.
        id: Names the passage in its index; made from text and metadata where none is given.
        score: How well it matched: higher is better. By vectors it is (1 + cosine) / 2, from 0 to 1, whatever the store; scores
            by words do not compare between retrievers.
        metadata: JSON values by name. `title` and `source` are what citations show.
        raw_score: The number that a vector store itself gave, where it gave one: a distance or a product.
    """

    text: str
    id: str = ""
    score: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    raw_score: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", passage_id(self.text, self.metadata))

    @property
    def title(self) -> str:
        """The metadata's `title`, or an empty string."""
        return str(self.metadata.get("title") or "")

    @property
    def source(self) -> str:
        """The metadata's `source`: a URL, a path or a name; an empty string if it has none."""
        return str(self.metadata.get("source") or "")

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.text, self.id, self.score, dict(self.metadata), self.raw_score))

    def as_dict(self) -> dict[str, Any]:
        """Return the passage as JSON values; `Passage(**found)` is equal to it."""
        found = {"text": self.text, "id": self.id, "score": self.score, "metadata": dict(self.metadata)}
        return found if self.raw_score is None else {**found, "raw_score": self.raw_score}


new: Any = object.__new__
"""With the setters beside it: a passage without the way through its class, which takes twice as long."""
set_text, set_id, set_score, set_metadata, set_raw_score = (
    vars(Passage)[name].__set__ for name in ("text", "id", "score", "metadata", "raw_score")
)


def found_passage(given_id: str, text: str, metadata: Mapping[str, Any], score: float, raw_score: float | None) -> Passage:
    """Return `Passage(text, given_id, score, metadata, raw_score)`, in half the time: one for each text that is added."""
    if not given_id:
        return Passage(text, "", score, metadata, raw_score)
    made: Passage = new(Passage)
    set_text(made, text)
    set_id(made, given_id)
    set_score(made, score)
    set_metadata(made, metadata)
    set_raw_score(made, raw_score)
    return made


def passage_id(text: str, metadata: Mapping[str, Any]) -> str:
    """Return the id of a passage without one: the same text and metadata give the same id, in any index and process."""
    return passage_digest("", text, metadata)[:16]


def passage_digest(given_id: str, text: str, metadata: Mapping[str, Any]) -> str:
    """Return the sha256 of a passage's content, as hex digits."""
    written = json.dumps([given_id, text, metadata], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()
