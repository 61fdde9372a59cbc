"""`dx.judge`: a metric that asks a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dspex_nb.api.lms import client_of
from dspex_nb.api.sessions import session
from dspex_nb.errors import MetricError
from dspex_nb.metrics import Metric, register
from dspex_nb.metrics.fields import field_pairs


def judge(
    kind: str = "rubric",
    rubric: str | Sequence[str] | Mapping[str, float] | None = None,
    *,
    response: str = "",
    question: str = "",
    reference: str = "",
    context: str = "context",
    lm: Any = None,
    adapter: Any = None,
    name: str = "",
    **options: Any,
) -> Metric:
    """Return a metric that asks a model how good an answer is; scores are 0 to 1, higher is better.

    Args:
        kind: `"semantic_f1"` (key ideas of answer and reference in each other), `"complete_and_grounded"` (ideas of the
            reference that are there, claims that the context supports), both DSPy's; or `"rubric"` (share of criteria met).
        rubric: The criteria: lines of a text, a list, or a mapping to their weights.
        response: The prediction's field to judge; by default `response`, else the one that is labelled.
        question: The example's field with the task; by default `question`, else all inputs.
        reference: The example's field with the right answer; by default named like the response.
        context: The prediction's field with the passages, for `"complete_and_grounded"`.
        lm: The model that judges; by default the session's, in a study the study's.
        adapter: The adapter of its calls; by default the session's.
        name: The metric's name; by default the kind.
        **options: DSPy's: `threshold` (the least score an optimizer takes for good), `decompositional`.

    Raises:
        MetricError: An unknown kind or option, or no rubric.
    """
    from dspex_nb.bridge import Judge

    more = {**options, **({"rubric": rubric} if rubric is not None else {})}
    client = None if lm is None else client_of(lm)
    made = Judge(kind, more, question, response, reference, context, client, adapter)
    return Metric(name or kind, made.bound(session()), bind=made.bound)


def _by_name(kind: str, fields: str) -> Metric:
    pairs = field_pairs(fields)
    if len(pairs) > 1:
        raise MetricError(f"{kind} judges one field, got {fields!r}", hint=f"write e.g. {kind}:{pairs[0][0]}")
    response, reference = pairs[0] if pairs else ("", "")
    return judge(kind, response=response, reference=reference)


for _kind in ("semantic_f1", "complete_and_grounded"):  # a rubric cannot be told by name
    register(_kind, partial(_by_name, _kind))
