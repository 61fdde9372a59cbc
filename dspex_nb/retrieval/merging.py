"""`merge`: several rankings become one: `union`, `rrf`, `concat`, or a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage

RRF_K = 60  # of the paper that proposed it (Cormack, Clarke, Büttcher 2009); every engine's default since
Rankings = Sequence[Sequence[Any]]


def merge(
    rankings: Mapping[str, Sequence[Any]] | Rankings,
    method: str | Callable[[list[list[Any]]], Any] = "rrf",
    k: int | None = None,
) -> Any:
    """Return several rankings as one list.

    Passages are the same if id and text are; other items if they are equal. None among the rankings is left out.

    Args:
        rankings: Lists, best first; or a dict of them, whose names do not matter.
        method: `"union"`: each item once, with its best score, by score. `"rrf"`: by reciprocal rank fusion; a passage's score is
            the fused one. `"concat"`: one list after the other, nothing left out. Or a function of the list of rankings.
        k: At most so many; all if None.

    Raises:
        RetrieverError: An unknown method, or rankings that are no lists.
    """
    lists = [list(_ranking(one)) for one in (rankings.values() if isinstance(rankings, Mapping) else rankings) if one is not None]
    if callable(method):
        merged = method(lists)
        return merged if k is None else merged[:k]
    if method not in MERGES:
        near = did_you_mean(str(method), MERGES)
        raise RetrieverError(
            f"unknown merge {method!r}", hint=f"{near}it is one of {', '.join(MERGES)}, or a function of the rankings"
        )
    return MERGES[method](lists)[:k]


def union(rankings: Rankings) -> list[Any]:
    """Return each item once with its best score, highest first; items without scores in order of appearance."""
    best: dict[Hashable, Any] = {}
    for item in _chained(rankings):
        key = identity(item)
        if key not in best or (isinstance(item, Passage) and item.score > best[key].score):
            best[key] = item
    return sorted(best.values(), key=lambda item: -item.score if isinstance(item, Passage) else 0.0)


def rrf(rankings: Rankings) -> list[Any]:
    """Return each item once by the sum of 1 / (60 + rank); a passage's score is that sum."""
    scores: dict[Hashable, float] = {}
    items: dict[Hashable, Any] = {}
    for ranking in rankings:
        seen = dict.fromkeys(identity(item) for item in ranking)  # an item twice in one ranking counts once, where it is first
        for rank, key in enumerate(seen, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_K + rank)
        for item in ranking:
            items.setdefault(identity(item), item)
    order = sorted(scores, key=lambda key: -scores[key])
    return [replace(items[key], score=scores[key]) if isinstance(items[key], Passage) else items[key] for key in order]


def concat(rankings: Rankings) -> list[Any]:
    """Return one list after the other, nothing left out."""
    return list(_chained(rankings))


MERGES: dict[str, Callable[[Rankings], list[Any]]] = {"union": union, "rrf": rrf, "concat": concat}


def identity(item: Any) -> Hashable:
    """Return what makes two items the same: two indexes may use one id for different texts, so the text counts too."""
    if isinstance(item, Passage):
        return (item.id, item.text)
    try:
        hash(item)
    except TypeError:
        return repr(item)
    return (type(item), item)


def _chained(rankings: Rankings) -> Iterable[Any]:
    return (item for ranking in rankings for item in ranking)


def _ranking(given: Any) -> Sequence[Any]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise RetrieverError(f"merge takes lists, found a {type(given).__name__}", hint="each branch must give a list")
    return given
