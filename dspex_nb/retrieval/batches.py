"""`batches`: passages in parts, where somebody is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from dspex_nb.events import Progress
from dspex_nb.passages import Passage
from dspex_nb.retrieval.columns import Columns

BATCH = 500  # passages added at once: an interrupt loses no more than one batch
Given = TypeVar("Given", list[Passage], Columns)
Listener: TypeAlias = Callable[[Progress], object] | None


def batches(passages: Given, listener: Listener) -> Iterator[tuple[int, Given]]:
    """Yield where each batch begins and its passages, and tell the listener when it is done; all are one batch without one."""
    total = len(passages)
    size = BATCH if listener else max(1, total)
    for start in range(0, total, size):
        yield start, passages[start : start + size]
        if listener:
            listener(Progress(run_id="", done=min(start + size, total), total=total))
