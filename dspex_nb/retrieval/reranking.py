"""`rerank`: passages in a better order for a query, by diversity, by words, by a judge, or by a function of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Query
from dspex_nb.retrieval.documents import passages_of
from dspex_nb.retrieval.likeness import Vector, cosine, unit_vector, word_vectors

Judge = Callable[[str, list[Passage]], Sequence[float]]
_LATER = ("cross-encoder", "colbert", "cohere", "jina", "listwise")


def rerank(
    passages: Iterable[Any] | None,
    query: Query,
    method: str | Callable[[str, list[Passage]], Any] = "mmr",
    k: int | None = None,
    **options: Any,
) -> list[Passage]:
    """Return the passages in a better order, with the method's score.

    Args:
        passages: Passages, or plain texts.
        query: What they are to answer; a list counts as several wordings of it.
        method: `"mmr"`: maximal marginal relevance, each next one both relevant and unlike those before; `lambda_mult=` from
            0 (unlike) to 1 (relevant), `embeddings=` and `query_embedding=` in place of words. `"bm25"` (also `"lexical"`) and
            `"trigram"`: by what they share with the query. `"lm"`: by `judge=`, a function of query and passages that gives a
            number for each. Or a function of query and passages that gives the passages.
        k: At most so many; all if None.
        **options: The method's own.

    Raises:
        RetrieverError: An unknown method or option, or a judge whose answer does not fit.
    """
    found = as_passages(passages)
    if callable(method):
        ordered = as_passages(method(_one(query), found, **options))
    elif method in METHODS:
        make, known = METHODS[method]
        for name in options:
            if name not in known:
                hint = f"{did_you_mean(name, known)}it takes {', '.join(known) or 'no options'}"
                raise RetrieverError(f"rerank {method!r} has no option {name!r}", hint=hint)
        ordered = make(found, query, len(found) if k is None else k, **options) if found else []
    else:
        raise unknown_method(method)
    return ordered if k is None else ordered[:k]


def unknown_method(method: Any) -> RetrieverError:
    """Return the error for a rerank method that there is none of."""
    later = " in this version: cross-encoders and rerank services come later" if str(method).lower().startswith(_LATER) else ""
    near = did_you_mean(str(method), METHODS)
    return RetrieverError(
        f"there is no rerank method {method!r}{later}",
        hint=f"{near}it is one of {', '.join(METHODS)}, or a function of query and passages",
    )


def as_passages(given: Iterable[Any] | None) -> list[Passage]:
    """Return passages as they are and texts, dicts and documents as passages; None is none."""
    if isinstance(given, str | Mapping):
        raise RetrieverError(f"expected a list of passages, found a {type(given).__name__}", hint="pass what a retriever found")
    return [one if isinstance(one, Passage) else passages_of([one])[0] for one in given or ()]


def mmr(
    passages: list[Passage],
    query: Query,
    k: int,
    *,
    lambda_mult: float = 0.7,
    embeddings: Sequence[Iterable[float]] | Mapping[str, Iterable[float]] | None = None,
    query_embedding: Iterable[float] | None = None,
) -> list[Passage]:
    """Return at most `k` passages, each next one the best sum of relevance and unlikeness to those before.

    Without any likeness to the query the order of the passages stands for their relevance.
    """
    if not 0 <= lambda_mult <= 1:
        raise RetrieverError(
            f"lambda_mult={lambda_mult!r}: expected 0 (unlike each other) to 1 (relevant)", hint="write e.g. lambda_mult=0.7"
        )
    vectors, wanted = _vectors(passages, query, embeddings, query_embedding)
    relevance = [max((cosine(one, vector) for one in wanted), default=0.0) for vector in vectors]
    if not any(relevance):
        relevance = [1 - at / len(passages) for at in range(len(passages))]
    alike = [0.0] * len(passages)  # to the nearest of those chosen
    left = list(range(len(passages)))
    chosen: list[Passage] = []
    while left and len(chosen) < k:
        values = {at: lambda_mult * relevance[at] - (1 - lambda_mult) * alike[at] for at in left}
        best = max(left, key=lambda at: values[at])
        left.remove(best)
        chosen.append(replace(passages[best], score=values[best]))
        for at in left:
            alike[at] = max(alike[at], cosine(vectors[at], vectors[best]))
    return chosen


def by_bm25(passages: list[Passage], query: Query, k: int) -> list[Passage]:
    """Return the passages by BM25 among themselves; those without a word of the query last, in their order."""
    from dspex_nb.retrieval.bm25 import BM25

    return _searched(BM25, passages, query)[:k]


def by_trigram(passages: list[Passage], query: Query, k: int) -> list[Passage]:
    """Return the passages by the three-letter pieces they share with the query."""
    from dspex_nb.retrieval.trigram import Trigram

    return _searched(Trigram, passages, query)[:k]


def by_judge(passages: list[Passage], query: Query, k: int, *, judge: Judge | None = None) -> list[Passage]:
    """Return the passages by the numbers that a judge, usually a language model, gives them."""
    if judge is None:
        raise RetrieverError(
            'rerank "lm" needs judge=', hint="give a function of query and passages that returns a number for each"
        )
    scores = list(judge(_one(query), list(passages)))
    numbers = [one for one in scores if isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)]
    if len(numbers) != len(scores) or len(scores) != len(passages):
        raise RetrieverError(
            f"the judge gave {len(numbers)} numbers for {len(passages)} passages",
            hint="it must return one finite number for each passage",
        )
    judged = [replace(passage, score=float(score)) for passage, score in zip(passages, scores, strict=True)]
    return sorted(judged, key=lambda one: -one.score)[:k]


METHODS: dict[str, tuple[Callable[..., list[Passage]], tuple[str, ...]]] = {
    "mmr": (mmr, ("lambda_mult", "embeddings", "query_embedding")),
    "bm25": (by_bm25, ()),
    "lexical": (by_bm25, ()),
    "trigram": (by_trigram, ()),
    "lm": (by_judge, ("judge",)),
}


def _searched(cls: Any, passages: list[Passage], query: Query) -> list[Passage]:
    index = cls({str(at): one.text for at, one in enumerate(passages)})  # by place: two passages may share an id
    scores = {int(one.id): one.score for one in index.search(query, len(passages))}
    order = [*scores, *(at for at in range(len(passages)) if at not in scores)]
    return [replace(passages[at], score=scores.get(at, 0.0)) for at in order]


def _vectors(
    passages: list[Passage], query: Query, embeddings: Any, query_embedding: Iterable[float] | None
) -> tuple[list[Vector], list[Vector]]:
    """Return the vectors of the passages and those of the query's wordings."""
    if embeddings is None:
        queries = [query] if isinstance(query, str) else list(query)
        vectors = word_vectors([*(one.text for one in passages), *queries])
        return vectors[: len(passages)], vectors[len(passages) :]
    if isinstance(embeddings, Mapping):
        given = [embeddings[one.id] for one in passages if one.id in embeddings]
    else:
        given = list(embeddings)
    if len(given) != len(passages):
        raise RetrieverError(
            f"{len(given)} embeddings for {len(passages)} passages",
            hint="give one for each passage: a list, or a dict by passage id",
        )
    return [unit_vector(one) for one in given], [] if query_embedding is None else [unit_vector(query_embedding)]


def _one(query: Query) -> str:
    return query if isinstance(query, str) else "\n".join(query)
