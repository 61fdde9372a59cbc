"""Hits: what a store found, and how they become passages with scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from dspex_nb.passages import (
    Passage,
    new,
    passage_id,
    set_id,
    set_metadata,
    set_raw_score,
    set_score,
    set_text,
)
from dspex_nb.retrieval.metadata import metadata_of
from dspex_nb.retrieval.scales import score_of

Hit: TypeAlias = tuple[str, str, Mapping[str, Any], float]  # what a store found: id, text, metadata, and its own number
# The same as a database gives it: metadata as `metadata_text` wrote it, and None for not-a-number.
Told: TypeAlias = tuple[str, str, Mapping[str, Any] | str]
Found: TypeAlias = tuple[str, str, Mapping[str, Any] | str, float | None]


def ranked(hits: Iterable[Found], cosine: Callable[[float], float]) -> list[Passage]:
    """Return hits as passages with their scores, highest first, equal ones by id.

    This loop is most of what a search costs on our side, and the fewer functions it goes through the better: after a store's
    own work none of them is in the processor's cache.
    """
    made, last, in_order = [], math.inf, True
    for name, text, told, number in hits:
        metadata = metadata_of(told) if isinstance(told, str) else told
        raw = number if type(number) is float else math.nan if number is None else float(number)
        score = (1 + cosine(raw)) / 2
        if not 0 <= score <= 1:
            score = score_of(cosine(raw))
        in_order = in_order and score < last
        last = score
        passage = new(Passage)
        set_text(passage, text)
        set_id(passage, name or passage_id(text, metadata))
        set_score(passage, score)
        set_metadata(passage, metadata)
        set_raw_score(passage, raw)
        made.append(passage)
    return made if in_order else sorted(made, key=_by_score)


def _by_score(one: Passage) -> tuple[float, str]:
    return (-one.score, one.id)
