"""`rerank`: passages in a better order for a query, by diversity, words, a cross-encoder, a service, a model, or a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.retrieval.asking import Asker
from dspex_nb.retrieval.base import Query, counted
from dspex_nb.retrieval.cross_encoders import PREFIX, by_cross_encoder
from dspex_nb.retrieval.documents import passages_of
from dspex_nb.retrieval.likeness import Vector, cosine, unit_vector, word_vectors
from dspex_nb.retrieval.listwise import by_listwise
from dspex_nb.retrieval.merging import rrf, weights_of

Judge = Callable[[str, list[Passage]], Sequence[float]]


def rerank(
    passages: Iterable[Any] | None,
    query: Query,
    method: str | Callable[[str, list[Passage]], Any] = "mmr",
    k: int | None = None,
    *,
    asker: Asker | None = None,
    **options: Any,
) -> list[Passage]:
    """Return the passages in a better order, with the method's score.

    Args:
        passages: Passages, or plain texts.
        query: What they are to answer; a list counts as several wordings of it.
        method: `"mmr"`: maximal marginal relevance, each next one both relevant and unlike those before; `lambda_mult=` from
            0 (unlike) to 1 (relevant), `embedder=`, or `embeddings=` and `query_embedding=`, in place of words. `"bm25"` (also
            `"lexical"`) and `"trigram"`: by what they share with the query. `"dense"`: by `embedder=`, the embedded model if
            none is given. `"rrf"`: several methods' orders fused by rank, `methods=("given", "bm25", "trigram")`,
            each counting as `weights=` say.
            `"cross-encoder/…"`: a model that reads query and passage together, by its name at the hub, or a folder with
            `model.onnx`; also `"cross-encoder"` with `model=`. `"late_interaction"`: each query token's best match among a
            passage's tokens, by `encoder=`. `"provider/model"`, e.g. `"cohere/rerank-v3.5"`: a rerank service; any name with
            `api_base=`. `"listwise"`: a language model says the order, `lm=` in place of the session's. `"lm"`: by `judge=`, a
            function of query and passages that gives a number for each. Or a function of query and passages that gives the
            passages.
        k: At most so many; all if None.
        asker: What models are asked with.
        **options: The method's own.

    Raises:
        RetrieverError: An unknown method or option, or a judge whose answer does not fit.
    """
    found = as_passages(passages)
    if k is not None:
        counted(k)
    if callable(method):
        ordered = as_passages(method(_one(query), found, **options))
    else:
        make, known, more = _method(method, options)
        for name in options:
            if name not in known:
                hint = f"{did_you_mean(name, known)}it takes {', '.join(known) or 'no options'}"
                raise RetrieverError(f"rerank {method!r} has no option {name!r}", hint=hint)
        if make in _ASKING:
            more["asker"] = asker or Asker()
        ordered = make(found, query, len(found) if k is None else k, **options, **more) if found else []
    return ordered if k is None else ordered[:k]


def unknown_method(method: Any) -> RetrieverError:
    """Return the error for a rerank method that there is none of."""
    near = did_you_mean(str(method), METHODS)
    return RetrieverError(
        f"there is no rerank method {method!r}",
        hint=f"{near}it is one of {', '.join(METHODS)}, 'cross-encoder/…', a service 'provider/model', or a function of query and"
        " passages",
    )


def is_method(name: Any) -> bool:
    """Say whether a text names a way to rerank: one of `METHODS`, a cross-encoder, or a service's model."""
    return isinstance(name, str) and (name in METHODS or 0 < name.find("/") < len(name) - 1)


def asks_a_model(options: Mapping[str, Any]) -> bool:
    """Say whether a step with these options asks a language model or a service: what it answers is not decided by the options."""
    methods = (options.get("method"), *(options.get("methods") or ()))
    return any(one == "listwise" or (isinstance(one, str) and "/" in one and not one.startswith(PREFIX)) for one in methods)


_Method = tuple[Callable[..., list[Passage]], tuple[str, ...], dict[str, Any]]


def _method(name: Any, options: Mapping[str, Any]) -> _Method:
    """Return the function of a method, the options it takes, and those that its name says."""
    if isinstance(name, str) and name in METHODS:
        return (*METHODS[name], {})
    if isinstance(name, str) and name.startswith(PREFIX) and "api_base" not in options:
        return by_cross_encoder, METHODS["cross-encoder"][1], {"model": name}
    if is_method(name) or (isinstance(name, str) and "api_base" in options):
        return _by_service, _SERVICE, {"model": name}
    raise unknown_method(name)


def as_passages(given: Iterable[Any] | None) -> list[Passage]:
    """Return passages as they are and texts, dicts and documents as passages; None is none."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable | None):
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
    embedder: Any = None,
) -> list[Passage]:
    """Return at most `k` passages, each next one the best sum of relevance and unlikeness to those before.

    Without any likeness to the query the order of the passages stands for their relevance.
    """
    if not 0 <= lambda_mult <= 1:
        raise RetrieverError(
            f"lambda_mult={lambda_mult!r}: expected 0 (unlike each other) to 1 (relevant)", hint="write e.g. lambda_mult=0.7"
        )
    if embedder is not None and embeddings is None:
        return _dense_mmr(passages, query, k, lambda_mult, embedder)
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


def by_embedding(passages: list[Passage], query: Query, k: int, *, embedder: Any = None) -> list[Passage]:
    """Return the passages by the cosine of their vectors with the query's; of several wordings the best counts."""
    from dspex_nb.retrieval.embedders import embedder_of

    rows, wanted = _embedded(passages, query, embedder_of(embedder))
    scores = (rows @ wanted.T).max(axis=1)
    found = [replace(one, score=float(score)) for one, score in zip(passages, scores, strict=True)]
    return sorted(found, key=lambda one: -one.score)[:k]


def by_fusion(
    passages: list[Passage],
    query: Query,
    k: int,
    *,
    methods: Sequence[Any] = ("given", "bm25", "trigram"),
    weights: Sequence[float] | None = None,
    asker: Asker,
) -> list[Passage]:
    """Return the passages by reciprocal rank fusion of several methods' orders; `"given"` is the order they came in."""
    if isinstance(methods, str) or not methods:
        raise RetrieverError(f"methods={methods!r}: expected a list", hint='write e.g. methods=["given", "bm25", "dense"]')
    orders = [passages if one == "given" else rerank(passages, query, one, asker=asker) for one in methods]
    return rrf(orders, None if weights is None else weights_of(weights, list(range(len(orders)))))[:k]


def by_late_interaction(passages: list[Passage], query: Query, k: int, *, encoder: Any = None) -> list[Passage]:
    """Return the passages by late interaction: the sum of each query token's best match among a passage's tokens."""
    from dspex_nb.retrieval.late_interaction import encoder_of, max_sim

    encode = encoder_of(encoder)
    wanted = encode.token_vectors(_one(query))
    found = [replace(one, score=max_sim(wanted, encode.token_vectors(one.text))) for one in passages]
    return sorted(found, key=lambda one: -one.score)[:k]


def _by_service(passages: list[Passage], query: Query, k: int, **options: Any) -> list[Passage]:
    from dspex_nb.retrieval.rerank_service import by_service  # imports LiteLLM's wire: only where it is asked for

    return by_service(passages, query, k, **options)


METHODS: dict[str, tuple[Callable[..., list[Passage]], tuple[str, ...]]] = {
    "mmr": (mmr, ("lambda_mult", "embeddings", "query_embedding", "embedder")),
    "bm25": (by_bm25, ()),
    "lexical": (by_bm25, ()),
    "trigram": (by_trigram, ()),
    "lm": (by_judge, ("judge",)),
    "dense": (by_embedding, ("embedder",)),
    "rrf": (by_fusion, ("methods", "weights")),
    "cross-encoder": (by_cross_encoder, ("model", "max_tokens", "batch_size")),
    "late_interaction": (by_late_interaction, ("encoder",)),
    "listwise": (by_listwise, ("lm", "window", "max_words")),
}
_SERVICE = ("api_key", "api_base", "headers", "num_retries", "timeout_s", "max_concurrency", "rpm")
_ASKING = frozenset({by_listwise, by_fusion, _by_service})


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


def _embedded(passages: list[Passage], query: Query, embedder: Any) -> tuple[Any, Any]:
    """Return the vectors of the passages and those of the query's wordings, one row each."""
    queries = [query] if isinstance(query, str) else list(query) or [""]
    rows = embedder.embed([*(one.text for one in passages), *queries])
    return rows[: len(passages)], rows[len(passages) :]


def _dense_mmr(passages: list[Passage], query: Query, k: int, lambda_mult: float, embedder: Any) -> list[Passage]:
    from dspex_nb.retrieval.embedders import embedder_of

    rows, wanted = _embedded(passages, query, embedder_of(embedder))
    relevance = (rows @ wanted.T).max(axis=1)
    alike = rows @ rows.T
    left, chosen = list(range(len(passages))), list[tuple[int, float]]()
    while left and len(chosen) < k:
        nearest = {at: max((alike[at, one] for one, _ in chosen), default=0.0) for at in left}
        best = max(left, key=lambda at: lambda_mult * relevance[at] - (1 - lambda_mult) * nearest[at])
        chosen.append((best, float(lambda_mult * relevance[best] - (1 - lambda_mult) * nearest[best])))
        left.remove(best)
    return [replace(passages[at], score=score) for at, score in chosen]


def _one(query: Query) -> str:
    return query if isinstance(query, str) else "\n".join(query)
