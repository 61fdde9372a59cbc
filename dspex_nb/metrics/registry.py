"""The metrics that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.metrics import facts, labels, overlap, ranking, structures, values

OfRows = Callable[[Sequence[tuple[Any, Any]]], Callable[[Any], float]]
"""Takes the (prediction, reference) pairs of all rows; the result takes row numbers and gives the value of those rows."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """A metric with a name.

    Attributes:
        function: The public function.
        compare: Scores one value against its reference, where `function` takes a whole set.
        argument: Reads what is written behind the `@` of its name, as in `recall@5`; None where it takes nothing.
        lower_is_better: Its direction.
        of_prediction: It takes the prediction alone, with what it took.
        of_rows: Scores a set as a whole, where that is not the mean of its rows.
    """

    function: Callable[..., Any]
    compare: Callable[..., float] | None = None
    argument: Callable[[str], Any] | None = None
    lower_is_better: bool = False
    of_prediction: bool = False
    of_rows: OfRows | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A metric that needs more than its arguments, made from what is written behind the `:` of its name."""

    make: Callable[[str], Any]


BUILTIN: dict[str, Builtin | Made] = {
    "exact_match": Builtin(values.exact_match),
    "f1": Builtin(values.f1),
    "precision": Builtin(values.precision),
    "recall": Builtin(values.recall),
    "contains": Builtin(values.contains),
    "passage_match": Builtin(values.passage_match),
    "numeric_match": Builtin(values.numeric_match),
    "numeric_match@tolerance": Builtin(values.numeric_match, argument=float),
    "json_match": Builtin(structures.json_match),
    "field_match": Builtin(structures.field_match),
    "list_f1": Builtin(structures.list_f1),
    "rouge_l": Builtin(overlap.rouge_l),
    "bleu": Builtin(overlap.bleu, of_rows=overlap.bleu_of_rows),
    "chrf": Builtin(overlap.chrf, of_rows=overlap.chrf_of_rows),
    "edit_distance": Builtin(overlap.edit_distance, lower_is_better=True),
    "edit_similarity": Builtin(overlap.edit_similarity),
    "accuracy": Builtin(labels.accuracy, labels.same_label),
    "macro_f1": Builtin(labels.macro_f1, labels.same_label, of_rows=labels.macro_f1_of_rows),
    "recall@k": Builtin(ranking.recall_at_k, argument=int),
    "mrr": Builtin(ranking.mrr),
    "mrr@k": Builtin(ranking.mrr, argument=int),
    "ndcg": Builtin(ranking.ndcg),
    "ndcg@k": Builtin(ranking.ndcg, argument=int),
    "latency": Builtin(facts.latency, lower_is_better=True, of_prediction=True),
    "cost": Builtin(facts.cost, lower_is_better=True, of_prediction=True),
    "tokens": Builtin(facts.tokens, lower_is_better=True, of_prediction=True),
}
"""Metrics by name, as `%evaluate --metrics` and `dx.evaluate(metrics=…)` take them. Rooms above add those that need them."""


def register(name: str, make: Callable[[str], Any]) -> None:
    """Make a metric known by name; `make` takes what is written behind the colon, and returns a metric or a function."""
    BUILTIN[name] = Made(make)
