"""DSPy's agents on the compact adapter, which is what the embedded model gets."""

from __future__ import annotations

import json

import dspex_nb as dx
from dspex_nb.testing.scripted import ScriptedLM


def hours(day: str) -> str:
    """Say when the shop is open."""
    return f"closed on {day}"


def test_react_tells_the_model_what_its_tools_said():
    step = {"next_thought": "look", "next_tool_name": "hours", "next_tool_args": [{"key": "day", "value": "Sunday"}]}
    end = {"next_thought": "enough", "next_tool_name": "finish", "next_tool_args": []}
    lm = ScriptedLM([json.dumps(one) for one in (step, end, {"reasoning": "r", "answer": "closed"})])
    pipe = dx.Pipeline("p", answer=dx.react("question -> answer", tools=[hours], max_iters=3, adapter="compact"))
    with dx.context(lm=lm, cache=False):
        assert pipe(question="Open on Sunday?").answer == "closed"
    assert "closed on Sunday" in lm.requests[1].messages[-1]["content"]
    assert "closed on Sunday" in lm.requests[2].messages[-1]["content"]


def test_a_modules_forward_is_read_without_dspys_warning(caplog):
    import logging

    import dspy

    class Echo(dspy.Module):
        def forward(self, text):
            return dspy.Prediction(said=text)

    logger = logging.getLogger("dspy")
    logger.addHandler(caplog.handler)
    try:
        pipe = dx.Pipeline("p", said=Echo())
    finally:
        logger.removeHandler(caplog.handler)
    assert pipe.required == ["text"]
    assert "discouraged" not in caplog.text
