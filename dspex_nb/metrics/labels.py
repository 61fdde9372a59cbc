"""Labels over a set of examples: accuracy, macro-F1 and the confusion matrix.

Texts are one label where they differ in case and outer blanks only. A prediction of None is no answer: it misses its
reference and is no label of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import MetricError


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label's precision, recall and F1, and how many references have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered where each was expected.

    Attributes:
        labels: All labels of references and predictions, sorted.
        counts: A row a reference, a column a prediction, in the order of `labels`.
        unanswered: References of each label without a prediction.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    unanswered: tuple[int, ...]

    @property
    def scores(self) -> tuple[LabelScore, ...]:
        """Precision, recall and F1 a label; 0.0 where nothing was answered or expected."""
        found = []
        for at, label in enumerate(self.labels):
            hit, support = self.counts[at][at], sum(self.counts[at]) + self.unanswered[at]
            answered = sum(row[at] for row in self.counts)
            found.append(
                LabelScore(
                    label,
                    hit / answered if answered else 0.0,
                    hit / support if support else 0.0,
                    2 * hit / (answered + support) if answered or support else 0.0,
                    support,
                )
            )
        return tuple(found)


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the share of predictions that are their reference's label.

    Range 0 to 1; higher is better.
    Source: the share of correct classifications; `sklearn.metrics.accuracy_score`.
    """
    pairs = _paired(predictions, references)
    return sum(same_label(got, want) for got, want in pairs) / len(pairs)


def macro_f1(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the mean of each label's F1, over the labels of references and predictions: a rare label counts as a frequent one.

    Range 0 to 1; higher is better.
    Source: Sokolova and Lapalme 2009 (doi:10.1016/j.ipm.2009.03.002); `sklearn.metrics.f1_score(average="macro")`.
    """
    import numpy as np

    pairs = _paired(predictions, references)
    return macro_f1_of_rows(pairs)(np.arange(len(pairs)))


def confusion(predictions: Sequence[Any], references: Sequence[Any]) -> Confusion:
    """Return the confusion matrix, with precision, recall and F1 of each label.

    Range of counts 0 and more; higher is better on the diagonal.
    Source: Stehman 1997 (doi:10.1016/S0034-4257(97)00083-7); `sklearn.metrics.confusion_matrix`.
    """
    pairs = [(_label(got), _label(want)) for got, want in _paired(predictions, references)]
    written = [str(getattr(value, "value", value)).strip() for value in (*predictions, *references) if value is not None]
    shown = {text.casefold(): text for text in written}
    names = sorted(shown)
    at = {name: position for position, name in enumerate(names)}
    counts, unanswered = [[0] * len(names) for _ in names], [0] * len(names)
    for got, want in pairs:
        if want is not None and got is None:
            unanswered[at[want]] += 1
        elif want is not None and got is not None:
            counts[at[want]][at[got]] += 1
    return Confusion(tuple(shown[name] for name in names), tuple(map(tuple, counts)), tuple(unanswered))


def same_label(prediction: Any, reference: Any) -> float:
    """Return 1.0 where both are the same label: one row's part of `accuracy` and `macro_f1`."""
    return float(prediction is not None and _label(prediction) == _label(reference))


def macro_f1_of_rows(pairs: Sequence[tuple[Any, Any]]) -> Callable[[Any], float]:
    """Return the macro-F1 as a function of row numbers: labels are numbered once, and counted for each choice of rows."""
    import numpy as np

    numbers: dict[str | None, int] = {}
    coded = [
        (numbers.setdefault(_label(got), len(numbers)), numbers.setdefault(_label(want), len(numbers))) for got, want in pairs
    ]
    got, want = np.array(coded, dtype=int).T
    nothing = numbers.get(None, -1)

    def total(rows: Any) -> float:
        asked = rows[want[rows] != nothing]
        answered, expected = got[asked], want[asked]
        hits = np.bincount(expected[expected == answered], minlength=len(numbers))
        both = np.bincount(answered, minlength=len(numbers)) + np.bincount(expected, minlength=len(numbers))
        counted = both > 0
        if nothing >= 0:
            counted[nothing] = False
        return float((2 * hits[counted] / both[counted]).mean()) if counted.any() else 0.0

    return total


def _label(value: Any) -> str | None:
    return None if value is None else str(getattr(value, "value", value)).strip().casefold()


def _paired(predictions: Sequence[Any], references: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(predictions) != len(references) or not len(references):
        raise MetricError(
            f"{len(predictions)} predictions and {len(references)} references are no pairs",
            hint="give one prediction a reference",
        )
    return list(zip(predictions, references, strict=True))
