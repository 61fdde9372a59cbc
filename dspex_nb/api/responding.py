"""`dx.respond`: an answer with its citations at once, or a step of a pipeline where they are fields."""

from __future__ import annotations

from typing import Any

from dspex_nb.pipelines import respond as step
from dspex_nb.pipelines.records import FieldRef
from dspex_nb.retrieval import respond as written
from dspex_nb.signatures import MISSING


def respond(answer: Any = MISSING, /, **arguments: Any) -> Any:
    """Return an answer formatted, with citations; with fields (`respond(dx.field("answer"), passages=dx.field("hits"))`) a step.

    Args:
        answer: A text, often written by a model.
        **arguments: `passages=`, what it may cite, numbered from 1; `format=`, `"markdown"` if not said, `"html"` or `"json"`;
            `citations=False` for the answer alone. Without passages it is a step.

    Returns:
        A `Report`: `str(report)` is its text, `.citations` what its marks point at.

    Raises:
        RetrieverError: An unknown format, or passages that are none.
    """
    fields = answer is MISSING or any(isinstance(one, FieldRef) for one in (answer, *arguments.values()))
    if fields or "passages" not in arguments:
        return step(**arguments) if answer is MISSING else step(answer, **arguments)
    return written(answer, **arguments)


respond.__dspex_constructor__ = "respond"  # type: ignore[attr-defined]  # `dx.respond(...)` works in a cell too
