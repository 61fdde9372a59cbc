"""Which field of a prediction is compared with which of its example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_nb.errors import MetricError, did_you_mean

Pairs = Sequence[tuple[str, str]]
"""(field of the prediction, field of the example); empty means each field that the example labels and the prediction has."""


def field_pairs(text: str) -> Pairs:
    """Read `answer,context=passages`: names of the prediction's fields, each with the example's where that differs.

    Raises:
        MetricError: A name is missing beside `=`.
    """
    pairs = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        got, equals, want = (part.strip() for part in piece.partition("="))
        if not got or (equals and not want):
            raise MetricError(f"{piece!r} names no field on one side of '='", hint="write e.g. passage_match:context=answer")
        pairs.append((got, want or got))
    return tuple(pairs)


def score_by_field(compare: Callable[[Any, Any], float], pairs: Pairs, example: Any, prediction: Any) -> float:
    """Return the mean of the fields' scores.

    Raises:
        MetricError: A named field is not there, or no label is named like an answer.
    """
    wanted = pairs or _shared(example, prediction)
    return sum(compare(value_of(prediction, got), _reference(example, want)) for got, want in wanted) / len(wanted)


def total_by_field(
    of_rows: Callable[[Sequence[tuple[Any, Any]]], Callable[[Any], float]], pairs: Pairs, rows: Sequence[Any]
) -> Callable[[Any], float]:
    """Return the mean of the fields' values over a set, as a function of row numbers.

    Raises:
        MetricError: No field of the rows is both labelled and answered.
    """
    wanted = pairs or [(name, name) for name in (rows[0].labels if rows else ()) if any(name in row.outputs for row in rows)]
    if not wanted:
        raise MetricError("no label of the rows is named like an answer", hint="name the fields, e.g. macro_f1:answer=label")
    parts = [of_rows([(row.outputs.get(got), _of_row(row, want)) for row in rows]) for got, want in wanted]
    return lambda numbers: sum(part(numbers) for part in parts) / len(parts)


def value_of(prediction: Any, name: str) -> Any:
    """Return a field of the prediction, also an inner one of a pipeline's.

    Raises:
        MetricError: It has none of that name; the hint names the nearest.
    """
    inner = getattr(prediction, "fields", None)
    if name in prediction:
        return prediction[name]
    if isinstance(inner, Mapping) and name in inner:
        return inner[name]
    raise _missing("prediction", name, prediction)


def _reference(example: Any, name: str) -> Any:
    if name not in example:
        raise _missing("example", name, example)
    return example[name]


def _of_row(row: Any, name: str) -> Any:
    return row.labels[name] if name in row.labels else row.inputs.get(name)


def _missing(side: str, name: str, values: Any) -> MetricError:
    near = did_you_mean(name, list(values.keys()))
    return MetricError(f"the {side} has no field {name!r}; it has {', '.join(values.keys())}", hint=near or "check the name")


def _shared(example: Any, prediction: Any) -> Pairs:
    labels = list(example.labels().keys())  # ours gives a dict, dspy.Example another Example; both have keys()
    shared = [(name, name) for name in labels if name in prediction]
    if not shared:
        first = next(iter(prediction), "answer")
        raise MetricError(
            f"no label is named like an answer: labels {', '.join(labels) or 'none'}; answers {', '.join(prediction)}",
            hint=f"rename the column, e.g. df.rename(columns={{'your_label': {first!r}}})",
        )
    return shared
