"""Each metric against a reference implementation: DSPy's, sacrebleu's, rouge-score's, or a slow definition written here.

The slow definitions of labels and rankings, which have scikit-learn as their reference, were compared with scikit-learn 1.9.1:
see `slow_macro_f1` and its neighbours; it is too heavy (146 MB with SciPy) to be a test's dependency.
"""

import json
import math
from fractions import Fraction
from functools import lru_cache

import dspy
import numpy as np
import pytest
import sacrebleu
from dspy.evaluate import metrics as theirs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from dspex_nb import metrics as ours

pytestmark = pytest.mark.filterwarnings("ignore")
checked = settings(max_examples=150, deadline=None)

# Words that meet each other often, with what normalization takes away; and any text at all (as far as this Python knows Unicode).
WORDS = st.sampled_from(
    [
        "the",
        "a",
        "An",
        "cat",
        "Cat!",
        "sat,",
        "on",
        "mat.",
        "É",
        "e\u0301",
        "ﬁn",
        "3.5",
        "x-y",
        "_",
        "naïve",
        "猫",
        "हिन्दी",
        "don't",
    ]
)
PHRASES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
TEXTS = st.one_of(PHRASES, PHRASES, st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=20))
LATIN = st.lists(st.sampled_from(["the", "Cat", "cat", "sat.", "on", "mat", "A", "x-y", "3.5", "ran;", "_up"]), max_size=12).map(
    " ".join
)
SEVERAL = st.lists(TEXTS, min_size=1, max_size=3)


def test_the_texts_meet():
    """The strategies would prove nothing if no two texts had anything in common."""
    seen = []

    @settings(max_examples=200, database=None, deadline=None, derandomize=True)
    @given(TEXTS, SEVERAL)
    def look(text, several):
        seen.append(ours.f1(text, several))

    look()
    assert sum(0 < score < 1 for score in seen) > 20
    assert any(score == 1 for score in seen)


@checked
@given(TEXTS, SEVERAL)
def test_exact_match_is_dspys(text, several):
    assert ours.exact_match(text, several) == theirs.EM(text, several)
    assert ours.exact_match(text, several[0]) == theirs.em_score(text, several[0])


@checked
@given(TEXTS, SEVERAL)
def test_f1_is_dspys_but_for_two_empty_texts(text, several):
    assume(not (theirs.normalize_text(text) == "" and "" in map(theirs.normalize_text, several)))
    assert ours.f1(text, several) == pytest.approx(theirs.F1(text, several), abs=1e-12)
    assert ours.f1("the", "a") == 1.0


@checked
@given(TEXTS, TEXTS)
def test_precision_is_dspys_and_recall_its_mirror(text, other):
    assume(theirs.normalize_text(text) or theirs.normalize_text(other))
    assert ours.precision(text, other) == pytest.approx(theirs.precision_score(text, other))
    assert ours.recall(text, other) == pytest.approx(theirs.precision_score(other, text))


@checked
@given(TEXTS, TEXTS)
def test_contains_is_a_slice(text, other):
    big, small = theirs.normalize_text(text), theirs.normalize_text(other)
    assert ours.contains(text, other) == any(big[at : at + len(small)] == small for at in range(len(big) - len(small) + 1))


@checked
@given(st.lists(TEXTS, max_size=3), SEVERAL)
def test_passage_match_is_dspys(passages, answers):
    example, prediction = dspy.Example(answer=answers), dspy.Prediction(context=passages)
    assert ours.passage_match(passages, answers) == theirs.answer_passage_match(example, prediction)
    assert ours.resolve_metric("passage_match:context=answer")(example, prediction) == theirs.answer_passage_match(
        example, prediction
    )


NUMBERS = st.one_of(st.integers(-2000, 2000), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)))


@checked
@given(NUMBERS, st.one_of(NUMBERS, st.none()), st.sampled_from([1e-6, 0.01, 0.5]))
def test_numbers_within_a_tolerance(want, got, tolerance):
    got = want + abs(want) * tolerance * 0.99 if got is None else got
    exact = abs(Fraction(got) - Fraction(want)) <= Fraction(tolerance) * max(1, abs(Fraction(want)))
    assert ours.numeric_match(got, want, tolerance) == exact
    assert ours.numeric_match(f"At 7 it was {got!r} in all.", f"{want!r}", tolerance) == exact
    if isinstance(got, int):
        assert ours.numeric_match(f"so: {got:,}", want, tolerance) == exact


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([1.0, 0.5, "a", "A.", "b"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)),
    max_leaves=6,
)


def canonical(value):
    """RFC 8785 in small: keys in order, one way to write a number."""
    return json.dumps(value, sort_keys=True) if not isinstance(value, float) else value


def ints(value):
    if isinstance(value, list):
        return [ints(each) for each in value]
    if isinstance(value, dict):
        return {key: ints(each) for key, each in value.items()}
    return int(value) if isinstance(value, float) and value == int(value) else value


@checked
@given(JSON, JSON, st.booleans())
def test_json_values_are_equal_as_their_canonical_texts_are(one, other, same):
    other = one if same else other
    assume(not isinstance(one, str) and not isinstance(other, str))
    equal = canonical(ints(one)) == canonical(ints(other))
    assert ours.json_match(json.dumps(one), json.dumps(other, indent=3)) == equal
    assert ours.json_match(one, other) == equal


def slow_leaves(value, way=""):
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else [(f"#{at}", each) for at, each in enumerate(value)]
        return {key: leaf for name, each in inner for key, leaf in slow_leaves(each, f"{way}/{name}").items()}
    return {way: theirs.normalize_text(value) if isinstance(value, str) else canonical(ints(value))}


@checked
@given(JSON, JSON)
def test_the_share_of_fields(got, want):
    assume(not isinstance(got, str) and not isinstance(want, str))
    mine, asked = slow_leaves(got), slow_leaves(want)
    texts = {key: isinstance(leaf, str) for key, leaf in slow_leaves(want).items()}
    assume(all(texts))
    hits = [key for key in asked if key in mine and mine[key] == asked[key]]
    assert ours.field_match(got, json.dumps(want)) == pytest.approx(len(hits) / len(asked))
    assert ours.field_match(want, want) == 1.0


@checked
@given(
    st.lists(st.sampled_from(["red", "Red.", "blue", "the sky", "green"])),
    st.lists(st.sampled_from(["red", "blue", "sky", "pink"])),
)
def test_list_f1_is_the_harmonic_mean_of_set_precision_and_recall(got, want):
    one, other = {theirs.normalize_text(x) for x in got}, {theirs.normalize_text(x) for x in want}
    if not one and not other:
        expected = 1.0
    elif not one & other:
        expected = 0.0
    else:
        precision, recall = len(one & other) / len(one), len(one & other) / len(other)
        expected = 2 * precision * recall / (precision + recall)
    assert ours.list_f1(got, want) == pytest.approx(expected)
    assert ours.list_f1(json.dumps(got), "; ".join(want)) == pytest.approx(expected)


SCORER = RougeScorer(["rougeL"])


@checked
@given(LATIN, st.lists(LATIN, min_size=1, max_size=3))
def test_rouge_l_is_rouge_scores(text, several):
    assert ours.rouge_l(text, several[0]) == pytest.approx(SCORER.score(several[0], text)["rougeL"].fmeasure)
    assert ours.rouge_l(text, several) == pytest.approx(SCORER.score_multi(several, text)["rougeL"].fmeasure)


@checked
@given(LATIN, st.lists(LATIN, min_size=1, max_size=3))
def test_bleu_and_chrf_are_sacrebleus(text, several):
    assert ours.bleu(text, several) == pytest.approx(sacrebleu.sentence_bleu(text, several).score / 100)
    assert ours.chrf(text, several) == pytest.approx(sacrebleu.sentence_chrf(text, several).score / 100)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(LATIN, LATIN), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_sets_bleu_and_chrf_are_sacrebleus_also_of_a_resample(pairs, random):
    rows = [random.randrange(len(pairs)) for _ in pairs]
    for mine, of_rows, reference in (
        (ours.corpus_bleu, ours.BUILTIN["bleu"].of_rows, sacrebleu.corpus_bleu),
        (ours.corpus_chrf, ours.BUILTIN["chrf"].of_rows, sacrebleu.corpus_chrf),
    ):
        got, want = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        assert mine(got, want) == pytest.approx(reference(got, [want]).score / 100)
        drawn = reference([got[at] for at in rows], [[want[at] for at in rows]]).score / 100
        assert of_rows(pairs)(np.array(rows)) == pytest.approx(drawn)


def slow_distance(one, other):
    @lru_cache(None)
    def between(i, j):
        if not i or not j:
            return i + j
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return between(len(one), len(other))


SHORT = st.text("ab c😀é", max_size=9)


@checked
@given(SHORT, SHORT, SHORT)
def test_edit_distance_is_levenshteins(one, other, third):
    distance = slow_distance(one, other)
    assert ours.edit_distance(one, other) == distance
    assert ours.edit_similarity(one, other) == pytest.approx(1 - distance / (max(len(one), len(other)) or 1))
    assert ours.edit_distance(one, [other, third]) == min(distance, slow_distance(one, third))


LABELS = st.sampled_from(["tech", "billing", "sales", "hr"])
LABELLED = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=25)


def slow_confusion(got, want):
    names = sorted(set(got) | set(want))
    return names, [[sum(g == p and w == r for g, w in zip(got, want, strict=True)) for p in names] for r in names]


def slow_macro_f1(got, want):
    """As `sklearn.metrics.f1_score(want, got, average="macro", zero_division=0)`."""
    names, counts = slow_confusion(got, want)
    scores = []
    for at in range(len(names)):
        hit, answered, expected = counts[at][at], sum(row[at] for row in counts), sum(counts[at])
        precision, recall = hit / answered if answered else 0, hit / expected if expected else 0
        scores.append(2 * precision * recall / (precision + recall) if hit else 0)
    return sum(scores) / len(scores)


@checked
@given(LABELLED, st.randoms(use_true_random=False))
def test_labels(pairs, random):
    got, want = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert ours.accuracy(got, want) == pytest.approx(sum(map(str.__eq__, got, want)) / len(pairs))
    assert ours.macro_f1(got, want) == pytest.approx(slow_macro_f1(got, want))
    found = ours.confusion(got, want)
    names, counts = slow_confusion(got, want)
    assert (list(found.labels), [list(row) for row in found.counts]) == (names, counts)
    assert sum(each.f1 for each in found.scores) / len(names) == pytest.approx(slow_macro_f1(got, want))
    drawn = [random.randrange(len(pairs)) for _ in pairs]
    resampled = ours.BUILTIN["macro_f1"].of_rows(pairs)(np.array(drawn))
    assert resampled == pytest.approx(slow_macro_f1([got[at] for at in drawn], [want[at] for at in drawn]))


ITEMS = st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True)
GAINS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), max_size=8)
CUT = st.one_of(st.none(), st.integers(1, 9))


def slow_ndcg(ranked, gains, k):
    """As `sklearn.metrics.ndcg_score` where every item is ranked."""
    reached = sum(gains.get(item, 0) / math.log2(at + 2) for at, item in enumerate(ranked) if k is None or at < k)
    ideal = sum(gain / math.log2(at + 2) for at, gain in enumerate(sorted(gains.values(), reverse=True)) if k is None or at < k)
    return reached / ideal if ideal else 0.0


@checked
@given(ITEMS, GAINS, CUT)
def test_rankings(ranked, gains, k):
    relevant = {item for item, gain in gains.items() if gain}
    top = ranked if k is None else ranked[:k]
    assert ours.ndcg(ranked, gains, k) == pytest.approx(slow_ndcg(ranked, gains, k))
    assert ours.ndcg(ranked, relevant, k) == pytest.approx(slow_ndcg(ranked, dict.fromkeys(relevant, 1), k))
    assert ours.recall_at_k(ranked, relevant, k) == (len(relevant & set(top)) / len(relevant) if relevant else 0.0)
    ranks = [at for at, item in enumerate(top, start=1) if item in relevant]
    assert ours.mrr(ranked, relevant, k) == (1 / min(ranks) if ranks else 0.0)
    assert all(0 <= metric(ranked + ranked, gains, k) <= 1 for metric in (ours.ndcg, ours.mrr, ours.recall_at_k))


@checked
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_every_metric_of_values_stays_in_its_range(pairs):
    for name, entry in ours.BUILTIN.items():
        if not isinstance(entry, type(ours.BUILTIN["f1"])) or entry.of_prediction:
            continue
        compare = entry.compare or entry.function
        for got, want in pairs:
            score = compare(got, want)
            assert 0 <= score <= (1 + 1e-9 if "distance" not in name else max(len(got), len(want))), name
