"""`merge`: several rankings become one: `union`, `rrf`, `weighted`, `concat`, or a function of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage

RRF_K = 60  # of the paper that proposed it (Cormack, Clarke, Büttcher 2009); every engine's default since
Rankings = Sequence[Sequence[Any]]
Weights = Mapping[str, float] | Sequence[float]


def merge(
    rankings: Mapping[str, Sequence[Any]] | Rankings,
    method: str | Callable[[list[list[Any]]], Any] = "rrf",
    k: int | None = None,
    *,
    weights: Weights | None = None,
) -> Any:
    """Return several rankings as one list.

    Passages are the same if id and text are; other items if they are equal. None among the rankings is left out.

    Args:
        rankings: Lists, best first; or a dict of them, whose names do not matter.
        method: `"union"`: each item once, with its best score, by score. `"rrf"`: by reciprocal rank fusion; a passage's score is
            the fused one. `"weighted"`: by the sum of scores, each ranking's brought to 0 to 1. `"concat"`: one list after the
            other, nothing left out. Or a function of the list of rankings.
        k: At most so many; all if None.
        weights: How much each ranking counts in `"rrf"` and `"weighted"`: a number each, or a dict by the rankings' names; 1
            where nothing is said.

    Raises:
        RetrieverError: An unknown method, rankings that are no lists, or weights that do not fit them.
    """
    names = list(rankings) if isinstance(rankings, Mapping) else list(range(len(rankings)))
    given = list(rankings.values() if isinstance(rankings, Mapping) else rankings)
    lists = [list(_ranking(one)) for one in given if one is not None]
    if weights is not None and method not in ("rrf", "weighted"):
        raise RetrieverError(f"merge {method!r} has no use for weights", hint='weights= are for "rrf" and "weighted"')
    if weights is not None:
        told = weights_of(weights, names)
        return MERGES[str(method)](lists, [weight for weight, one in zip(told, given, strict=True) if one is not None])[:k]
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


def rrf(rankings: Rankings, weights: Sequence[float] | None = None) -> list[Any]:
    """Return each item once by the sum of weight / (60 + rank); a passage's score is that sum."""
    return _summed(rankings, weights, lambda ranking: [1 / (RRF_K + rank) for rank in range(1, len(ranking) + 1)])


def weighted(rankings: Rankings, weights: Sequence[float] | None = None) -> list[Any]:
    """Return each item once by the sum of weight times score, where a ranking's best counts 1 and its last 0.

    A ranking without scores, or of equal ones, counts by its order.
    """
    return _summed(rankings, weights, _shares)


def _summed(rankings: Rankings, weights: Sequence[float] | None, points: Callable[[list[Any]], list[float]]) -> list[Any]:
    """Return each item once by the weighted sum of its points in each ranking."""
    scores: dict[Hashable, float] = {}
    items: dict[Hashable, Any] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        seen: dict[Hashable, Any] = {}
        for item in ranking:  # an item twice in one ranking counts once, where it is first
            seen.setdefault(identity(item), item)
        for (key, item), point in zip(seen.items(), points(list(seen.values())), strict=True):
            scores[key] = scores.get(key, 0.0) + weight * point
            items.setdefault(key, item)
    order = sorted(scores, key=lambda key: -scores[key])
    return [replace(items[key], score=scores[key]) if isinstance(items[key], Passage) else items[key] for key in order]


def _shares(ranking: list[Any]) -> list[float]:
    numbers = [float(one.score) if isinstance(one, Passage) else math.nan for one in ranking]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if not all(map(math.isfinite, numbers)) or low == high:
        return [1 - at / len(ranking) for at in range(len(ranking))]
    return [(number - low) / (high - low) for number in numbers]


def weights_of(given: Any, names: Sequence[Any]) -> list[float]:
    """Return one weight a ranking.

    Raises:
        RetrieverError: They are no numbers from 0, all 0, too few or too many, or name a ranking that there is none of.
    """
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                near = did_you_mean(str(name), [str(one) for one in names])
                raise RetrieverError(f"a weight for {name!r}, of which there is no ranking", hint=f"{near}there are {names!r}")
        told = [given.get(name, 1.0) for name in names]
    else:
        told = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    fitting = [one for one in told if isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < math.inf]
    if len(fitting) != len(names) or (names and not any(fitting)):
        raise RetrieverError(
            f"weights={given!r:.80}: expected a number from 0 for each of {len(names)} rankings, one of them above 0",
            hint=f"write e.g. weights={[2.0, *[1.0] * (len(names) - 1)]}",
        )
    return [float(one) for one in fitting]


def concat(rankings: Rankings) -> list[Any]:
    """Return one list after the other, nothing left out."""
    return list(_chained(rankings))


MERGES: dict[str, Callable[..., list[Any]]] = {"union": union, "rrf": rrf, "weighted": weighted, "concat": concat}


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
