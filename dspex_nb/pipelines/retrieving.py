"""The steps of retrieval: `retriever`, `rerank` and `respond`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.pipelines.arguments import Argument, Call, Construct
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.options import OPTIONS, STEP_OPTIONS, sort
from dspex_nb.pipelines.targets import Parameter, Parameters, is_retriever

PASSAGES = list[Passage]
_QUERY = Parameters((Parameter("query", str | list[str]), Parameter("filter", dict, None, required=False, said=True)))
_RERANK = Parameters((Parameter("passages"), Parameter("query", str | list[str])))
_RESPOND = Parameters((
    Parameter("answer"),
    Parameter("passages", PASSAGES, None, required=False, said=True),
))  # fmt: skip


def retriever_step(call: Call) -> StepDraft:
    """Return the step that searches an index: one made here of a kind's name and its options, or one of the user's own.

    Raises:
        PipelineSyntaxError: Neither a kind's name nor a retriever.
        PlanError: An unknown kind.
    """
    call.refuse_more_than(1, "a retriever's kind or a retriever")
    first = call.first("a retriever's kind or a retriever")
    given = first.user
    if is_retriever(given):
        return searching(given, replace(call, args=()))
    if not isinstance(given, str):
        raise first.place.syntax_error(
            f"expected a retriever's kind or a retriever, found {first.described}",
            'write e.g. retriever("bm25", index=texts, k=5)',
        )
    named = {
        name: argument
        for name, argument in call.keywords.items()
        if name in (*_QUERY.names, *OPTIONS["retriever"], *STEP_OPTIONS)
    }
    config = {name: argument for name, argument in call.keywords.items() if name not in named}
    _check_kind(given, first, config)
    return searching(Construct(_maker(given), config), replace(call, args=(), keywords=named))


def colbertv2_step(call: Call) -> StepDraft:
    """Return the step that searches a ColBERTv2 server: `colbertv2(url="http://host:8893/api/search", k=10, query=query)`."""
    call.refuse_more_than(0, "nothing without a name: url=")
    return retriever_step(replace(call, args=(Argument("colbertv2", call.place),)))


def searching(target: Any, call: Call) -> StepDraft:
    """Return the step that searches `target`, which reads `query` and, where an argument says so, `filter`."""
    call = call.by_name(_QUERY, call.name)
    _check_filter(call.keywords.get("filter"))
    return StepDraft(
        "retriever", "retriever", target=target, parameters=_QUERY, gives=PASSAGES, place=call.place,
        **sort(call, _QUERY, OPTIONS["retriever"]),
    )  # fmt: skip


def rerank_step(call: Call) -> StepDraft:
    """Return the step that puts passages into a better order: `rerank(hits, query=query, method="mmr", k=5)`."""
    call = call.by_name(_RERANK, "rerank")
    parts = sort(call, _RERANK, OPTIONS["rerank"])
    return StepDraft("rerank", "rerank", parameters=_RERANK, gives=PASSAGES, place=call.place, **parts)


def respond_step(call: Call) -> StepDraft:
    """Return the step that writes an answer with its sources: `respond(answer, passages=ranked, format="markdown")`."""
    from dspex_nb.retrieval import Report

    call = call.by_name(_RESPOND, "respond")
    parts = sort(call, _RESPOND, OPTIONS["respond"])
    return StepDraft("respond", "respond", parameters=_RESPOND, gives=Report, place=call.place, **parts)


def _check_kind(kind: str, argument: Argument, config: Mapping[str, Argument]) -> None:
    from dspex_nb.retrieval import options_of

    try:
        known = options_of(kind)
    except DSPexError as error:
        raise argument.place.plan_error(error.message, error.hint) from None
    for name, given in config.items():
        if name not in known:
            hint = f"{did_you_mean(name, known)}it takes {', '.join(known)}"
            raise given.place.plan_error(f"the retriever {kind!r} has no option {name!r}", hint)


def _check_filter(given: Argument | None) -> None:
    """Refuse a filter that means nothing, where it is written out and not a field."""
    if given is None or not isinstance(given.value, dict):
        return
    from dspex_nb.retrieval.filters import read_filter

    try:
        read_filter(given.value)
    except DSPexError as error:
        raise given.place.plan_error(error.message, error.hint) from None


def _maker(kind: str) -> Any:
    def make(**config: Any) -> Any:
        from dspex_nb.retrieval import retriever

        return retriever(kind, **config)

    make.__name__ = f"retriever {kind!r}"
    return make


def check_method(name: str, value: Any) -> Any:
    """Return a reranking method or a format of `respond` if there is one called so.

    Raises:
        ValueError: There is none.
    """
    from dspex_nb.retrieval import FORMATS, METHODS
    from dspex_nb.retrieval.reranking import is_method

    known = tuple(METHODS if name == "method" else FORMATS)
    if isinstance(value, str) and value not in known and not (name == "method" and is_method(value)):
        raise ValueError(f"no such {name}; {did_you_mean(value, known)}known: {', '.join(known)}")
    return value
