"""Metrics: pure functions of a prediction and a reference, and how they are applied to examples."""

from dspex_nb.metrics.applied import Metric, resolve_metric, resolve_metrics
from dspex_nb.metrics.facts import cost, latency, tokens
from dspex_nb.metrics.intervals import Interval, bootstrap_interval, mean_interval, paired_interval
from dspex_nb.metrics.labels import Confusion, LabelScore, accuracy, confusion, macro_f1
from dspex_nb.metrics.overlap import bleu, chrf, corpus_bleu, corpus_chrf, edit_distance, edit_similarity, rouge_l
from dspex_nb.metrics.ranking import mrr, ndcg, recall_at_k
from dspex_nb.metrics.registry import BUILTIN, register
from dspex_nb.metrics.significance import PairedTest, approximate_randomization, mcnemar, paired_test, sign_flip
from dspex_nb.metrics.structures import field_match, json_match, list_f1
from dspex_nb.metrics.values import contains, exact_match, f1, numeric_match, passage_match, precision, recall

__all__ = [
    "BUILTIN",
    "Confusion",
    "Interval",
    "LabelScore",
    "Metric",
    "PairedTest",
    "accuracy",
    "approximate_randomization",
    "bleu",
    "bootstrap_interval",
    "chrf",
    "confusion",
    "contains",
    "corpus_bleu",
    "corpus_chrf",
    "cost",
    "edit_distance",
    "edit_similarity",
    "exact_match",
    "f1",
    "field_match",
    "json_match",
    "latency",
    "list_f1",
    "macro_f1",
    "mcnemar",
    "mean_interval",
    "mrr",
    "ndcg",
    "numeric_match",
    "paired_interval",
    "paired_test",
    "passage_match",
    "precision",
    "recall",
    "recall_at_k",
    "register",
    "resolve_metric",
    "resolve_metrics",
    "rouge_l",
    "sign_flip",
    "tokens",
]
