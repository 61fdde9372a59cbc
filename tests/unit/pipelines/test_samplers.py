"""Steps inside `best_of_n` and `refine`, and fallbacks that are no steps."""

from __future__ import annotations

import pytest

import dspex_nb as dx
from dspex_nb.errors import PlanError
from dspex_nb.pipelines import describe, read_cell
from dspex_nb.testing.scripted import ScriptedLM
from dspex_nb.views import RunState


@pytest.mark.parametrize("kind", ["best_of_n", "refine"])
def test_what_a_sampler_runs_is_routed_to_dspy(kind):
    body = f'text: str\nhead = {kind}(predict("text -> title"), N=2, reward_fn=len, threshold=1)'
    pipe = dx.Pipeline.of(read_cell("p", body, {}))
    with dx.context(lm=ScriptedLM([])):
        route = pipe.plan()["head.inner"]
    assert (route.engine, route.reason) == ("dspy", f"dspy: {kind} is DSPy's and runs it")


def test_a_run_view_does_not_wait_for_what_never_tells():
    body = 'text: str\nhead = best_of_n(predict("text -> title"), N=2, reward_fn=good, threshold=1)\ntail = up(text, on_error=up)'
    pipe = dx.Pipeline.of(read_cell("p", body, {"up": lambda text: text.upper(), "good": lambda arguments, prediction: 1.0}))
    lm = ScriptedLM(lambda _: '{"title": "t"}')
    with dx.context(lm=lm, cache=False, adapter="json"):
        run = pipe.run(text="a")
        run.result()
    state = RunState(run.id, describe(pipe.spec))
    for event in run.events:
        state.apply(event)
    assert {one.name: one.state for one in state.snapshot().steps} == {
        "head": "done", "head.inner": "done", "tail": "done", "tail.on_error": "skipped",
    }  # fmt: skip


def test_a_fallback_that_is_an_expression_says_what_to_write():
    with pytest.raises(PlanError, match=r"the expression 'up\(text\)'") as caught:
        read_cell("p", "text: str\nout = up(text, on_error=up(text))", {"up": str.upper})
    assert "0x" not in str(caught.value)
    assert "native(" in caught.value.hint
