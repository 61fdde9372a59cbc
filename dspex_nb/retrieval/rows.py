"""`Rows`: passages and their vectors in memory, in numbered slots, and as two files in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.filters import Condition, matches

if TYPE_CHECKING:
    import numpy as np

    from dspex_nb.retrieval.arrays import Vectors

_FIRST = 64
_REMEMBERED = 16  # filters: notebooks and pipelines ask the same again and again


class Rows:
    """Slots that are filled in order; a deleted one stays empty until the rows are packed."""

    def __init__(self, dimension: int) -> None:
        import numpy as np

        self.dimension = dimension
        self.passages: list[Passage | None] = []
        self.slot_of: dict[str, int] = {}
        self._vectors: Vectors = np.zeros((_FIRST, dimension), dtype=np.float32)
        self._filtered: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.slot_of)

    @property
    def slots(self) -> int:
        """How many slots were filled, empty ones included."""
        return len(self.passages)

    @property
    def empty(self) -> int:
        """How many slots are empty."""
        return len(self.passages) - len(self.slot_of)

    @property
    def vectors(self) -> Vectors:
        """All slots' vectors; an empty one's are what they were."""
        return self._vectors[: len(self.passages)]

    def __iter__(self) -> Iterator[Passage]:
        return (one for one in self.passages if one is not None)

    def put(self, passages: list[Passage], vectors: Vectors) -> int:
        """Fill new slots and return the first one's number; the old slots of the same ids are emptied."""
        import numpy as np

        self.drop(one.id for one in passages)
        start = len(self.passages)
        needed = start + len(passages)
        if needed > len(self._vectors):
            grown = np.zeros((max(needed, 2 * len(self._vectors)), self.dimension), dtype=np.float32)
            grown[:start] = self._vectors[:start]
            self._vectors = grown
        self._vectors[start:needed] = vectors
        self.passages.extend(passages)
        self.slot_of.update((one.id, start + at) for at, one in enumerate(passages))
        self._filtered.clear()
        return start

    def drop(self, ids: Iterable[str]) -> int:
        """Empty the slots of these ids and return how many there were."""
        slots = [self.slot_of.pop(name) for name in ids if name in self.slot_of]
        for slot in slots:
            self.passages[slot] = None
        self._filtered.clear()
        return len(slots)

    def pack(self) -> None:
        """Close the gaps: slots get new numbers."""
        kept = self.alive()
        self._vectors = self._vectors[kept]
        self.passages = [self.passages[slot] for slot in kept]
        self.slot_of = {one.id: slot for slot, one in enumerate(self.passages) if one is not None}
        self._filtered.clear()

    def alive(self) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the numbers of the slots that are not empty."""
        import numpy as np

        return np.fromiter(self.slot_of.values(), dtype=np.intp, count=len(self.slot_of))

    def satisfying(self, condition: Condition) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the slots whose passages satisfy a condition, every one of them."""
        import numpy as np

        asked = repr(condition)  # not the condition itself: 0 and False are equal there
        found = self._filtered.get(asked)
        if found is None:
            slots = [slot for slot, one in enumerate(self.passages) if one is not None and matches(condition, one.metadata)]
            found = np.array(slots, dtype=np.intp)
            if len(self._filtered) >= _REMEMBERED:
                self._filtered.pop(next(iter(self._filtered)))
            self._filtered[asked] = found
        return found

    def save(self, folder: Path, name: str) -> None:
        """Write the passages and vectors into a folder; a save that breaks off leaves the one before."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        alive = self.alive()
        lines = [json.dumps({"index": name, "dimension": self.dimension, "passages": len(alive)})]
        lines += [
            json.dumps([one.id, one.text, dict(one.metadata)])
            for one in (self.passages[slot] for slot in alive)
            if one is not None
        ]
        new = folder / "new"
        new.mkdir(exist_ok=True)
        (new / "passages.jsonl").write_text("\n".join(lines), encoding="utf-8")
        np.save(new / "vectors.npy", self._vectors[alive], allow_pickle=False)
        packed = folder / f"saved-{os.urandom(6).hex()}"
        new.rename(packed)
        pointer = folder / "current.new"
        pointer.write_text(packed.name, encoding="utf-8")
        pointer.replace(folder / "current")  # one step: a reader finds the old content or the new
        for old in folder.glob("saved-*"):
            if old != packed:
                for file in old.iterdir():
                    file.unlink()
                old.rmdir()

    @classmethod
    def load(cls, folder: Path) -> Rows | None:
        """Return what a folder holds, or None if nothing was saved there.

        Raises:
            RetrieverError: Files that were not written by `save`.
        """
        import numpy as np

        if not (folder / "current").exists():
            return None
        try:
            there = folder / Path((folder / "current").read_text(encoding="utf-8")).name
            head, *lines = (there / "passages.jsonl").read_text(encoding="utf-8").split("\n")
            passages = [Passage(text, name, 0.0, metadata) for name, text, metadata in map(json.loads, lines)]
            vectors = np.load(there / "vectors.npy", allow_pickle=False)
            rows = cls(json.loads(head)["dimension"])
            rows.put(passages, vectors)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RetrieverError(f"{folder.name} holds no index: {type(error).__name__}", hint="choose another path=") from None
        return rows
