"""`Block`: the passages that a database is given in one call, as columns or as a `Row` each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_nb.retrieval.columns import Columns, uncollected
from dspex_nb.retrieval.facts import facts_of
from dspex_nb.retrieval.metadata import metadata_texts

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_KEYS = uuid.UUID("6f0d1c1e-1d3a-4f0e-9b52-6d1f2f0a7c11").bytes
_VARIANTS = "89ab"


class Row(NamedTuple):
    """A passage as a database keeps it.

    Attributes:
        id: The passage's id.
        text: Its text.
        metadata: Its metadata as JSON: what comes back.
        told: Its metadata.
        vector: Its vector, of unit length, as `Collection._given` has it.
    """

    id: str
    text: str
    metadata: str
    told: dict[str, Any]
    vector: Any

    @property
    def facts(self) -> list[str]:
        """Its metadata as tokens: what filters ask for."""
        return facts_of(self.id, self.told)

    @property
    def key(self) -> str:
        """A UUID made from the id, for stores that take no other names."""
        return key_of(self.id)


class Block:
    """Passages with their vectors. Columns are quicker than rows, where a client takes them; each is made when it is asked for.

    Attributes:
        ids: Each passage's id.
        texts: Its text.
        told: Its metadata.
        array: The vectors, of unit length, a row each.
    """

    def __init__(self, given: Columns, array: Vectors, vectors_of: Callable[[Vectors], list[Any]]) -> None:
        self.ids, self.texts, self.told, self.array = given.ids, given.texts, given.metadatas, array
        self._flat, self._vectors_of = given.flat, vectors_of

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Row]:
        return map(Row, self.ids, self.texts, self.metadata, self.told, self.vectors)

    @cached_property
    def metadata(self) -> list[str]:
        """Each one's metadata as JSON."""
        return metadata_texts(self.told, flat=self._flat)

    @property
    def facts(self) -> list[list[str]]:
        """Each one's metadata as tokens."""
        with uncollected():
            return list(map(facts_of, self.ids, self.told))

    @property
    def keys(self) -> list[str]:
        """A UUID made from each id."""
        return list(map(key_of, self.ids))

    @property
    def vectors(self) -> list[Any]:
        """The vectors as `Collection._given` has them."""
        return self._vectors_of(self.array)


def key_of(given_id: str) -> str:
    """Return the UUID of an id: what `uuid.uuid5` gives, in a quarter of its time."""
    digits = sha1(_KEYS + given_id.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANTS[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
