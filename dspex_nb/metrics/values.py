"""Functions that compare one predicted value with one reference value; each returns 0.0 to 1.0."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_text(value: Any) -> str:
    """Return lower-case text without punctuation, articles and extra blanks (the SQuAD normalization)."""
    text = unicodedata.normalize("NFD", str(value)).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: Any, reference: Any) -> float:
    """Return 1.0 where both are equal: texts after normalization, other values as they are.

    A list of references counts as matched by any of them, as in question answering sets.
    """
    if isinstance(reference, list | tuple | set) and not isinstance(prediction, list | tuple | set):
        return max((exact_match(prediction, item) for item in reference), default=0.0)
    if isinstance(prediction, str) or isinstance(reference, str):
        return float(normalize_text(prediction) == normalize_text(reference))
    return float(prediction == reference)


def f1(prediction: Any, reference: Any) -> float:
    """Return the harmonic mean of token precision and recall after normalization (SQuAD's F1)."""
    if isinstance(reference, list | tuple | set):
        return max((f1(prediction, item) for item in reference), default=0.0)
    got, want = normalize_text(prediction).split(), normalize_text(reference).split()
    if not got or not want:
        return float(got == want)
    shared = sum((Counter(got) & Counter(want)).values())
    return 2 * shared / (len(got) + len(want))


def contains(prediction: Any, reference: Any) -> float:
    """Return 1.0 where the normalized reference occurs in the normalized prediction."""
    return float(normalize_text(reference) in normalize_text(prediction))


def numeric_match(prediction: Any, reference: Any, tolerance: float = 1e-6) -> float:
    """Return 1.0 where the last number in each is equal within `tolerance` (relative)."""
    got, want = _number(prediction), _number(reference)
    if got is None or want is None:
        return 0.0
    return float(abs(got - want) <= tolerance * max(1.0, abs(want)))


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    found = re.findall(r"-?\d+(?:\.\d+)?", str(value).replace(",", ""))
    return float(found[-1]) if found else None


BUILTIN: dict[str, Callable[[Any, Any], float]] = {
    "exact_match": exact_match,
    "f1": f1,
    "contains": contains,
    "numeric_match": numeric_match,
}
"""Metrics that can be asked for by name, in `%evaluate --metrics` and `dx.evaluate(metrics=…)`."""
