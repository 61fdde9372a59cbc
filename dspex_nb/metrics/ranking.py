"""Retrieval: one ranking of found items against the items that are relevant.

An item is a text, an id or a passage; a passage is relevant where its id or its text is. An item found twice counts at its
first place. Relevant items may be a mapping to their gains, of which `ndcg` makes use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def recall_at_k(ranked: Any, relevant: Any, k: int | None = None) -> float:
    """Return the share of the relevant items that are among the first `k` found; None means all found.

    Range 0 to 1, 0 where nothing is relevant; higher is better.
    Source: Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", 8.4.
    """
    gains, wanted = _gains(ranked, relevant, k)
    return sum(gain > 0 for gain in gains) / len(wanted) if wanted else 0.0


def mrr(ranked: Any, relevant: Any, k: int | None = None) -> float:
    """Return 1 over the rank of the first relevant item among the first `k`, 0 without one; over a set, their mean is the MRR.

    Range 0 to 1; higher is better.
    Source: Voorhees 1999, "The TREC-8 Question Answering Track Report".
    """
    gains, _ = _gains(ranked, relevant, k)
    return next((1 / rank for rank, gain in enumerate(gains, start=1) if gain > 0), 0.0)


def ndcg(ranked: Any, relevant: Any, k: int | None = None) -> float:
    """Return the discounted gain of the first `k` found over that of the best order.

    Gains are 1 for each relevant item, or as the mapping says, taken as they are; the discount is log2 of the rank plus 1.

    Range 0 to 1, 0 where nothing is relevant; higher is better.
    Source: Järvelin and Kekäläinen 2002 (doi:10.1145/582415.582418); `sklearn.metrics.ndcg_score`.
    """
    gains, wanted = _gains(ranked, relevant, k)
    best = _discounted(sorted(wanted, reverse=True)[:k])
    return _discounted(gains) / best if best else 0.0


def _discounted(gains: Iterable[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _gains(ranked: Any, relevant: Any, k: int | None) -> tuple[list[float], list[float]]:
    """Return the gain at each of the first `k` ranks, and the gains of all relevant items."""
    weights = list(relevant.items()) if isinstance(relevant, Mapping) else [(item, 1.0) for item in _several(relevant)]
    number_of: dict[str, int] = {}
    values: list[float] = []
    for item, gain in weights:
        names = _names(item)
        if gain > 0 and not any(name in number_of for name in names):
            number_of.update(dict.fromkeys(names, len(values)))
            values.append(float(gain))
    gains: list[float] = []
    seen: set[int] = set()
    for item in list(_several(ranked))[:k]:
        number = next((number_of[name] for name in _names(item) if name in number_of), None)
        gains.append(0.0 if number is None or number in seen else values[number])
        seen.update(() if number is None else (number,))
    return gains, values


def _several(items: Any) -> Iterable[Any]:
    """Return the items of a list; a text or a passage alone is one."""
    if isinstance(items, str | Mapping) or hasattr(items, "text") or not isinstance(items, Iterable):
        return [] if items is None else [items]
    return items


def _names(item: Any) -> tuple[str, ...]:
    """Return what an item may be called by: a passage by its id and its text."""
    if isinstance(item, Mapping):
        found = (item.get("id"), item.get("text") or item.get("long_text"))
    else:
        found = (getattr(item, "id", None), getattr(item, "text", None))
    return tuple(str(name) for name in found if name) or (str(item),)
