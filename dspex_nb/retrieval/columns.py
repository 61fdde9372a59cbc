"""`Columns`: ids, texts and metadata of passages as three lists, which many databases take as they are."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.passages import Passage, found_passage


@dataclass(frozen=True, slots=True)
class Columns:
    """What an index is given to add. An object for each passage would cost more than some databases take to store it.

    Attributes:
        ids: Each one's id.
        texts: Its text.
        metadatas: Its metadata as JSON values; they may be the caller's own dicts, so what keeps them copies them.
        flat: Whether all metadata was seen to hold no lists and no dicts.
    """

    ids: list[str]
    texts: list[str]
    metadatas: list[dict[str, Any]]
    flat: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Columns:
        if part.start == 0 and part.stop >= len(self.ids):
            return self  # nearly always: three lists less
        return Columns(self.ids[part], self.texts[part], self.metadatas[part], self.flat)

    def at(self, places: list[int]) -> Columns:
        """Return what is at these places."""
        ids, texts = ([column[at] for at in places] for column in (self.ids, self.texts))
        return Columns(ids, texts, [self.metadatas[at] for at in places], self.flat)

    def own(self) -> Columns:
        """Return the same with metadata that no one else has."""
        return replace(self, metadatas=list(map(dict.copy, self.metadatas)))

    def last_places(self) -> list[int] | None:
        """Return where each id stands last, in order of the first; None if all ids are different."""
        if len(set(self.ids)) == len(self.ids):
            return None
        return list({name: at for at, name in enumerate(self.ids)}.values())

    def passages(self) -> list[Passage]:
        """Return a passage for each, with metadata of its own."""
        with uncollected():
            columns = zip(self.ids, self.texts, self.metadatas, strict=True)
            return [found_passage(name, text, told.copy(), 0.0, None) for name, text, told in columns]


@contextmanager
def uncollected() -> Iterator[None]:
    """Rest the garbage collector: of many objects made at once, none garbage, it would look at all again and again.

    For 100,000 passages that was a third of the time, and the rest is a fraction of a second.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
