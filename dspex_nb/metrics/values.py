"""Texts and numbers: one predicted value against one reference value.

A list of references counts as matched by its best one, as in question answering sets.
"""

from __future__ import annotations

import functools
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"(?:(?<![\d.])-)?(?:\d+(?:\.\d+)?|(?<!\d)\.\d+)(?:[eE][-+]?\d+)?")

Compare = Callable[[Any, Any], float]


def normalize_text(value: Any) -> str:
    """Return lower-case text without punctuation, articles and extra blanks (the SQuAD normalization)."""
    text = unicodedata.normalize("NFD", str(value)).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def _best_of_references(compare: Compare) -> Compare:
    """Let a metric of texts take a list of references: the best one counts."""

    @functools.wraps(compare)
    def best(prediction: Any, reference: Any) -> float:
        if isinstance(reference, list | tuple | set | frozenset):
            return max((compare(prediction, item) for item in reference), default=0.0)
        return compare(prediction, reference)

    return best


def exact_match(prediction: Any, reference: Any) -> float:
    """Return 1.0 where both are equal: texts after normalization, other values as they are.

    Range 0 or 1; higher is better.
    Source: Rajpurkar et al. 2016, SQuAD (arXiv:1606.05250); `dspy.evaluate.EM`.
    """
    if isinstance(reference, list | tuple | set) and not isinstance(prediction, list | tuple | set):
        return max((exact_match(prediction, item) for item in reference), default=0.0)
    if isinstance(prediction, str) or isinstance(reference, str):
        return float(normalize_text(prediction) == normalize_text(reference))
    return float(prediction == reference)


@_best_of_references
def f1(prediction: Any, reference: Any) -> float:
    """Return the harmonic mean of token precision and recall, after normalization.

    Two texts without a token agree, as in SQuAD 2.0; DSPy gives them 0.

    Range 0 to 1; higher is better.
    Source: Rajpurkar et al. 2016, SQuAD (arXiv:1606.05250); `dspy.evaluate.F1`.
    """
    shared, got, want = _overlap(prediction, reference)
    return 2 * shared / (got + want) if got and want else float(got == want)


@_best_of_references
def precision(prediction: Any, reference: Any) -> float:
    """Return the share of the prediction's tokens that the reference has, after normalization.

    Range 0 to 1; higher is better.
    Source: the precision inside SQuAD's F1 (arXiv:1606.05250); `dspy.evaluate.metrics.precision_score`.
    """
    shared, got, want = _overlap(prediction, reference)
    return shared / got if got else float(want == 0)


@_best_of_references
def recall(prediction: Any, reference: Any) -> float:
    """Return the share of the reference's tokens that the prediction has, after normalization.

    Range 0 to 1; higher is better.
    Source: the recall inside SQuAD's F1 (arXiv:1606.05250).
    """
    shared, got, want = _overlap(prediction, reference)
    return shared / want if want else float(got == 0)


def _overlap(prediction: Any, reference: Any) -> tuple[int, int, int]:
    """Return how many tokens both share, each counted as often as both have it, and how many each has."""
    got, want = normalize_text(prediction).split(), normalize_text(reference).split()
    return sum((Counter(got) & Counter(want)).values()), len(got), len(want)


@_best_of_references
def contains(prediction: Any, reference: Any) -> float:
    """Return 1.0 where the normalized reference occurs in the normalized prediction, also inside a word.

    Range 0 or 1; higher is better.
    Source: substring after SQuAD's normalization (arXiv:1606.05250); `passage_match` compares whole words.
    """
    return float(normalize_text(reference) in normalize_text(prediction))


def passage_match(passages: Any, answers: Any) -> float:
    """Return 1.0 where one of the passages contains one of the answers as whole words, after normalization.

    Args:
        passages: Texts or passages; a text alone is one passage.
        answers: A text, or several of which one is enough. An answer without a word, as "the", is found anywhere.

    Range 0 or 1; higher is better.
    Source: the "has answer" of Karpukhin et al. 2020, DPR (arXiv:2004.04906); `dspy.evaluate.answer_passage_match`.
    """
    wanted = [_words(answer) for answer in _several(answers)]
    return float(any(want in text for text in map(_words, _several(passages)) for want in wanted))


def _several(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple | set | frozenset) else [values]


def _words(value: Any) -> str:
    """Return the words and signs of a normalized text, each between blanks."""
    text = unicodedata.normalize("NFD", normalize_text(value))
    found: list[str] = []
    for kind, run in groupby(text, key=_sort_of):
        characters = "".join(run).lower()
        found.extend([characters] if kind == "word" else characters if kind == "sign" else "")
    return "".join(f" {word} " for word in found)


def _sort_of(character: str) -> str:
    category = unicodedata.category(character)[0]
    return "word" if category in "LNM" else "blank" if category in "ZC" else "sign"


def numeric_match(prediction: Any, reference: Any, tolerance: float = 1e-6) -> float:
    """Return 1.0 where the last number in each is the same within `tolerance`, relative to the reference (absolute below 1).

    `1,234.5`, `.5` and `1e-3` are numbers; a sign counts where no digit stands before it.

    Range 0 or 1; higher is better.
    Source: the last-number rule of Cobbe et al. 2021, GSM8K (arXiv:2110.14168).
    """
    got, want = _number(prediction), _number(reference)
    if got is None or want is None:
        return 0.0
    # Every number is within a share of an infinite one.
    return float(got == want or (math.isfinite(want) and abs(got - want) <= tolerance * max(1.0, abs(want))))


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an int beyond 1e308
            return math.inf if value > 0 else -math.inf
    found = _NUMBER.findall(str(value).replace(",", ""))
    return float(found[-1]) if found else None
