"""`multi_chain_comparison` by votes: several sampled chains of thought, and the answer that most of them give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dspex_nb.metrics.values import normalize_text
from dspex_nb.modules import ChainOfThought
from dspex_nb.pipelines.records import Step
from dspex_nb.signatures import OutputField

CHAINS = 3
TEMPERATURE = 0.7
CONFIDENCE = "confidence"


def voting_program(step: Step) -> ChainOfThought:
    """Return the program that each chain runs; for a weighted vote it also says how sure it is, if the signature does not ask."""
    signature = step.signature
    assert signature is not None  # noqa: S101 - the constructor takes one
    if step.options.get("aggregation") == "weighted_vote" and CONFIDENCE not in signature.fields:
        sure = OutputField(desc="how sure you are of the answer, from 0 to 1", ge=0, le=1)
        signature = signature.append(CONFIDENCE, sure, float)
    program = ChainOfThought(signature)
    program.demos = [dict(demo) for demo in step.options.get("demos") or ()]
    return program


def vote(chains: Sequence[Mapping[str, Any]], outputs: Sequence[str], *, weighted: bool) -> dict[str, Any]:
    """Return the fields of the winning chain, and `votes`: what each answer got.

    Chains agree if their last output is the same after normalization, as in DSPy's `majority`. The chain that is surest of the
    winning answer speaks for it; of equal ones the first.

    Args:
        chains: The outputs of each chain, in order.
        outputs: The signature's own outputs.
        weighted: Whether a chain's vote counts as its confidence; without any confidence all count the same.
    """
    key = next(name for name in reversed(outputs) if name != CONFIDENCE or len(outputs) == 1)
    weights = [_weight(chain.get(CONFIDENCE)) if weighted else 1.0 for chain in chains]
    if not any(weights):
        weights = [1.0] * len(chains)
    votes: dict[str, float] = {}
    for chain, weight in zip(chains, weights, strict=True):
        votes[_same(chain.get(key))] = votes.get(_same(chain.get(key)), 0.0) + weight
    best = max(votes, key=lambda answer: votes[answer])
    at = max((at for at, chain in enumerate(chains) if _same(chain.get(key)) == best), key=lambda at: (weights[at], -at))
    return {**chains[at], "votes": {answer: round(weight, 6) for answer, weight in votes.items()}}


def _same(value: Any) -> str:
    return normalize_text(value) or str(value)


def _weight(value: Any) -> float:
    """Return a confidence as a vote: nothing where the model gave no number."""
    number = float(value) if isinstance(value, int | float) else math.nan
    return max(number, 0.0) if math.isfinite(number) else 0.0
