"""Reranking by a service: the API that Cohere, Jina, Voyage, vLLM and LiteLLM's proxy share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex_nb.cache.keys import digest
from dspex_nb.clients.faults import invalid_response
from dspex_nb.clients.services import serve
from dspex_nb.events import LMCalled
from dspex_nb.passages import Passage
from dspex_nb.retrieval.asking import Asker
from dspex_nb.retrieval.base import Query

_VERSION = 1


def by_service(passages: list[Passage], query: Query, k: int, *, model: str, asker: Asker, **options: Any) -> list[Passage]:
    """Return the best passages by a service's relevance scores; an answer received is kept and not paid for again.

    Args:
        passages: The passages.
        query: What they are to answer.
        k: At most so many.
        model: `"provider/model"` as in LiteLLM, e.g. `"cohere/rerank-v3.5"`; any name together with `api_base`.
        asker: The run it belongs to, and its cache.
        **options: `api_key`, `api_base`, `headers`, `num_retries`, `timeout_s`, `rpm`.

    Raises:
        LMError: The service failed; see its kinds.
    """
    service = serve(model, "rerank", **options)
    body = {
        "query": query if isinstance(query, str) else "\n".join(query),
        "documents": [one.text for one in passages],
        "top_n": k,
    }
    key = digest(("rerank", _VERSION, service.identity, service.options, body))
    hit = asker.cache.get(key) if asker.cache is not None else None
    started = time.perf_counter()
    error: BaseException | None = None
    try:
        results = hit.value["results"] if hit is not None else service.ask(body, cancel=asker.scope.cancel)["results"]
        found = _read(results, passages, model)
    except BaseException as failure:
        error = failure
        raise
    finally:
        asker.scope.publish(
            LMCalled(
                run_id=asker.scope.run_id, model=model, key=key, step=asker.scope.step, cached=hit.tier if hit else None,
                elapsed_s=time.perf_counter() - started, error=f"{type(error).__name__}: {error}" if error else None,
            )
        )  # fmt: skip
    if asker.cache is not None and hit is None:
        asker.cache.put(key, {"results": [{"index": at, "relevance_score": score} for at, score in found]})
    return [replace(passages[at], score=score) for at, score in found][:k]


def _read(results: Any, passages: list[Passage], model: str) -> list[tuple[int, float]]:
    try:
        found = [_place(one) for one in results]
        if len({at for at, _ in found}) != len(found) or any(not 0 <= at < len(passages) for at, _ in found):
            raise ValueError("an index that is no passage's")  # noqa: TRY301 - one error for all that does not fit
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_response("", "", model, f"the answer is no list of ranked documents: {error}") from None
    return sorted(found, key=lambda pair: -pair[1])


def _place(one: Mapping[str, Any]) -> tuple[int, float]:
    return int(one["index"]), float(one["relevance_score"])
