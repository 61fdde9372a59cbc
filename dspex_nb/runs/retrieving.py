"""The steps of retrieval, performed: search, rerank, respond; and passages where text is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.passages import Passage
from dspex_nb.pipelines.records import Step
from dspex_nb.retrieval.asking import Asker


def searched(step: Step, values: Mapping[str, Any]) -> list[Passage]:
    """Return what the step's retriever finds; of several queries, each is searched and the results are fused."""
    given = {"filter": values["filter"]} if values.get("filter") is not None else {}
    given.update((name, step.options[name]) for name in ("k", "mode") if name in step.options)
    found: list[Passage] = step.callable.search(as_texts(values.get("query")), **given)
    return found


def reranked(step: Step, values: Mapping[str, Any], asker: Asker) -> list[Passage]:
    """Return the passages in a better order; the dict of a `parallel` step counts as all that its children found."""
    from dspex_nb.retrieval import merge, rerank

    passages = values.get("passages")
    if isinstance(passages, Mapping):
        passages = merge(passages, "union")
    return rerank(passages, as_texts(values.get("query")) or "", asker=asker, **step.options)


def responded(step: Step, values: Mapping[str, Any]) -> Any:
    """Return the answer as a `Report` in the format asked for."""
    from dspex_nb.retrieval import respond

    return respond(values.get("answer"), values.get("passages"), **step.options)


def merged(step: Step, value: Mapping[str, Any]) -> Any:
    """Return what `merge=` makes of the values of a parallel step's children."""
    from dspex_nb.retrieval import merge

    method = step.options.get("merge")
    if method is None:
        return value
    if callable(method):
        made = method(value)
        return made if "k" not in step.options else made[: step.options["k"]]
    return merge(value, method, step.options.get("k"), weights=step.options.get("weights"))


def folded(step: Step, values: dict[str, Any]) -> Any:
    """Return what the function of a `reduce` step makes of the list, element by element."""
    items = values.pop("over")
    if not hasattr(items, "__iter__"):
        raise PipelineError(
            f"reduce goes through a list, found {type(items).__name__}", hint="let the step before it give a list"
        )
    items = list(items)
    if not items and "initial" not in step.options:
        raise PipelineError("the list is empty, and there is no initial= to start from", hint="add initial=, e.g. initial=0")
    start = (step.options["initial"],) if "initial" in step.options else ()
    return reduce(lambda so_far, item: step.callable(so_far, item, **values), items, *start)


def as_texts(value: Any) -> Any:
    """Return the text of a passage, a list of passages or a report; anything else as it is."""
    if isinstance(value, list | tuple):
        return [_text(one) for one in value] if any(_text(one) is not one for one in value) else value
    return _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, Passage):
        return value.text
    return str(value) if type(value).__name__ == "Report" and hasattr(value, "citations") else value
