"""Chains that vote take the step's worked examples."""

from __future__ import annotations

import json

import pytest

import dspex_nb as dx
from dspex_nb.testing.scripted import ScriptedLM


@pytest.mark.parametrize("aggregation", ["majority", "weighted_vote"])
def test_the_demos_of_a_step_reach_each_chain(aggregation):
    lm = ScriptedLM(lambda request: json.dumps({"reasoning": "r", "answer": "four", "confidence": 1}))
    demo = {"question": "1 + 1", "reasoning": "two ones", "answer": "two"}
    answer = dx.multi_chain_comparison("question -> answer", demos=[demo], chains=2, aggregation=aggregation, adapter="compact")
    pipe = dx.Pipeline("sums", answer=answer)
    with dx.context(lm=lm, cache=False):
        assert pipe(question="2 + 2").answer == "four"
    assert len(lm.requests) == 2
    for request in lm.requests:
        assert [message["role"] for message in request.messages] == ["system", "user", "assistant", "user"]
        assert json.loads(request.messages[2]["content"])["answer"] == "two"
