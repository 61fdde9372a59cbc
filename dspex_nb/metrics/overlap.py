"""Likeness of texts: ROUGE-L, BLEU, chrF and edit distance, on rapidfuzz and sacrebleu."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from dspex_nb.errors import MetricError, MissingDependencyError

Summed = Callable[[Any], float]
"""The value of the rows with these numbers (an array of ints, where one may occur more than once)."""

_TOKEN = re.compile(r"[^\W_]+")


def rouge_l(prediction: Any, reference: Any) -> float:
    """Return the F-measure of the longest common subsequence of tokens; of several references the best counts.

    Tokens are runs of letters and digits in lower case, without stemming. (The reference implementation knows the letters
    a to z only; for texts in those the values are the same.)

    Range 0 to 1; higher is better.
    Source: Lin 2004, ROUGE (aclanthology.org/W04-1013); the package `rouge-score`, rougeL.
    """
    from rapidfuzz.distance import LCSseq

    got = _TOKEN.findall(str(prediction).lower())
    wanted = [_TOKEN.findall(text.lower()) for text in _references(reference)]
    return max((2 * LCSseq.similarity(got, want) / (len(got) + len(want)) for want in wanted if got and want), default=0.0)


def bleu(prediction: Any, reference: Any) -> float:
    """Return the BLEU of one text against one or several references, with the effective order.

    The mean of these is not the BLEU of a set: `corpus_bleu` is, and so is `Metric.over`.

    Range 0 to 1 (sacrebleu's value over 100); higher is better.
    Source: Papineni et al. 2002 (aclanthology.org/P02-1040); `sacrebleu.sentence_bleu`, 13a tokens, exponential smoothing.
    """
    scorer = _sacrebleu().BLEU(effective_order=True)
    return float(scorer.sentence_score(str(prediction), _references(reference)).score) / 100


def corpus_bleu(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the BLEU of a set of texts, each against one or several references.

    Range 0 to 1 (sacrebleu's value over 100); higher is better.
    Source: Papineni et al. 2002 (aclanthology.org/P02-1040); `sacrebleu.corpus_bleu`, 13a tokens, exponential smoothing.
    """
    return _whole(bleu_of_rows, predictions, references)


def chrf(prediction: Any, reference: Any) -> float:
    """Return the chrF2 of one text against one or several references: its character n-grams, of which recall counts double.

    Range 0 to 1 (sacrebleu's value over 100); higher is better.
    Source: Popović 2015 (aclanthology.org/W15-3049); `sacrebleu.sentence_chrf`.
    """
    return float(_sacrebleu().CHRF().sentence_score(str(prediction), _references(reference)).score) / 100


def corpus_chrf(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the chrF2 of a set of texts, each against one or several references.

    Range 0 to 1 (sacrebleu's value over 100); higher is better.
    Source: Popović 2015 (aclanthology.org/W15-3049); `sacrebleu.corpus_chrf`.
    """
    return _whole(chrf_of_rows, predictions, references)


def edit_distance(prediction: Any, reference: Any) -> float:
    """Return how many characters must be put in, taken out or replaced; of several references the nearest counts.

    Range 0 and more; lower is better.
    Source: Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and reversals".
    """
    from rapidfuzz.distance import Levenshtein

    return float(min(Levenshtein.distance(str(prediction), want) for want in _references(reference)))


def edit_similarity(prediction: Any, reference: Any) -> float:
    """Return 1 less the edit distance over the longer text's length; of several references the nearest counts.

    Range 0 to 1; higher is better.
    Source: Levenshtein 1966, normalized as by `rapidfuzz.distance.Levenshtein.normalized_similarity`.
    """
    from rapidfuzz.distance import Levenshtein

    return max(float(Levenshtein.normalized_similarity(str(prediction), want)) for want in _references(reference))


def bleu_of_rows(pairs: Sequence[tuple[Any, Any]]) -> Summed:
    """Return the corpus BLEU as a function of row numbers: n-grams are counted once, and summed for each choice of rows."""
    return _of_rows(_sacrebleu().BLEU(), pairs)


def chrf_of_rows(pairs: Sequence[tuple[Any, Any]]) -> Summed:
    """Return the corpus chrF as a function of row numbers."""
    return _of_rows(_sacrebleu().CHRF(), pairs)


def _of_rows(scorer: Any, pairs: Sequence[tuple[Any, Any]]) -> Summed:
    import numpy as np

    texts = ["" if got is None else str(got) for got, _ in pairs]
    wanted = [[""] if want is None else _references(want) for _, want in pairs]
    most = max((len(each) for each in wanted), default=0)
    columns = [[each[at] if at < len(each) else None for each in wanted] for at in range(most)]  # sacrebleu's shape
    counts = np.array(scorer._extract_corpus_statistics(texts, columns), dtype=float)  # noqa: SLF001 - as its own bootstrap does

    def total(rows: Any) -> float:
        return float(scorer._compute_score_from_stats(counts[rows].sum(axis=0).tolist()).score) / 100  # noqa: SLF001

    return total


def _whole(
    of_rows: Callable[[Sequence[tuple[Any, Any]]], Summed], predictions: Sequence[Any], references: Sequence[Any]
) -> float:
    import numpy as np

    if not predictions:
        raise MetricError("there is no text to score", hint="give at least one prediction and its reference")
    return of_rows(list(zip(predictions, references, strict=True)))(np.arange(len(predictions)))


def _references(reference: Any) -> list[str]:
    several = reference if isinstance(reference, list | tuple | set | frozenset) else [reference]
    if not several:
        raise MetricError("the list of references is empty", hint="give at least one")
    return [str(each) for each in several]


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingDependencyError(
            "BLEU and chrF need the package 'sacrebleu'", hint="pip install 'dspex_nb[metrics]'"
        ) from None
    return metrics
