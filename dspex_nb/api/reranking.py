"""`dx.rerank`: passages in a better order at once, or a step of a pipeline where they are a field."""

from __future__ import annotations

from typing import Any

from dspex_nb.api.lms import client_of
from dspex_nb.api.sessions import session
from dspex_nb.pipelines import rerank as step
from dspex_nb.pipelines.records import FieldRef
from dspex_nb.retrieval import rerank as reorder
from dspex_nb.retrieval.asking import Asker
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures import MISSING


def rerank(passages: Any = MISSING, /, **arguments: Any) -> Any:
    """Return passages in a better order for a query; with fields (`rerank(dx.field("hits"), query=dx.field("query"))`) a step.

    Args:
        passages: What a retriever found, or plain texts.
        **arguments: `query=`, what they are to answer; `method=`, `"mmr"` if not said; `k=`; the method's own options. Methods
            are `"mmr"`, `"bm25"`, `"trigram"`, `"dense"`, `"rrf"`, `"cross-encoder/NAME"` or a folder with `model.onnx`,
            `"late_interaction"`, `"PROVIDER/MODEL"` for a rerank service, `"listwise"` by the session's language model or `lm=`,
            `"lm"` by `judge=`, or a function of query and passages.

    Raises:
        RetrieverError: An unknown method or option.
    """
    fields = passages is MISSING or any(isinstance(one, FieldRef) for one in (passages, *arguments.values()))
    if fields or "query" not in arguments:
        return step(**arguments) if passages is MISSING else step(passages, **arguments)
    now = session()
    if arguments.get("lm") is not None:
        arguments = {**arguments, "lm": client_of(arguments["lm"])}
    return reorder(passages, arguments.pop("query"), asker=Asker(now.lm, Scope(new_run_id(), now.bus), now.cache), **arguments)


rerank.__dspex_constructor__ = "rerank"  # type: ignore[attr-defined]  # `dx.rerank(...)` works in a cell too
