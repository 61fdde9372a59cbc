"""Our LM errors inside DSPy's code: DSPy's own except clauses know them, and so do ours."""

from __future__ import annotations

import asyncio
import pickle

import dspy
import pytest
from dspy.utils import exceptions as theirs

from dspex_nb import errors as ours
from dspex_nb.bridge import BridgeLM
from dspex_nb.bridge.errors import _BOTH, as_dspy
from dspex_nb.testing import ScriptedLM

TOO_LONG = ours.ContextWindowExceededError("too long", hint="shorten", model="m", status=400)


@pytest.mark.parametrize("cls", sorted(_BOTH, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_each_kind_is_of_both_trees_and_keeps_what_it_says(cls):
    cause = ValueError("below")
    error = cls("found this", hint="do that", model="m", status=429, retry_after_s=3.0)
    error.__cause__ = cause
    both = as_dspy(error)
    assert isinstance(both, cls)
    assert isinstance(both, theirs.LMError)
    assert type(both).__name__ == cls.__name__
    assert (str(both), both._render_traceback_()) == (str(error), error._render_traceback_())
    assert (both.retry_after, both.status, both.model, both.code, both.__cause__) == (
        3.0,
        429,
        "m",
        type(both).default_code,
        cause,
    )
    again = pickle.loads(pickle.dumps(both))
    assert (type(again), vars(again)) == (type(both), vars(both))
    assert theirs.is_retryable_lm_error(both) is (error.retryable or cls is ours.LMUnavailableError)


def test_every_kind_of_ours_has_its_counterpart_of_the_same_name_where_dspy_has_one():
    for cls in vars(ours).values():
        if not (isinstance(cls, type) and issubclass(cls, ours.LMError)):
            continue
        assert cls in _BOTH
        namesake = getattr(theirs, cls.__name__, None)
        assert namesake is None or issubclass(_BOTH[cls], namesake)


@pytest.mark.parametrize("asked", ["sync", "async"])
def test_dspys_except_clauses_catch_what_our_client_raises(asked):
    lm = BridgeLM(ScriptedLM(lambda _: (_ for _ in ()).throw(TOO_LONG)))
    with pytest.raises(dspy.ContextWindowExceededError) as caught:
        lm("x") if asked == "sync" else asyncio.run(lm.acall("x"))
    assert isinstance(caught.value, ours.ContextWindowExceededError)
    assert (caught.value.message, caught.value.hint) == ("too long", "shorten")


def react(lm, calls):
    """Run a ReAct whose history becomes too long once; return its answer and how many requests were sent."""

    def look(word: str) -> str:
        """Look a word up."""
        calls.append(word)
        return "it is blue"

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        return dspy.ReAct("question -> answer", tools=[look], max_iters=4)(question="sky?").answer


def script(raised):
    """Answers for it: two looks, then a prompt too long, then the finish."""
    step = (
        "[[ ## next_thought ## ]]\nx\n\n[[ ## next_tool_name ## ]]\n{}\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]"
    )
    look = step.format("look", '{"word": "sky"}')
    answer = "[[ ## reasoning ## ]]\nx\n\n[[ ## answer ## ]]\nblue\n\n[[ ## completed ## ]]"
    return iter([look, look, raised, step.format("finish", "{}"), answer])


class Plain(dspy.BaseLM):
    """DSPy's own way, for comparison."""

    def __init__(self, answers):
        super().__init__(model="plain", cache=False)
        self._answers = answers
        self.prompts = []

    def __call__(self, prompt=None, messages=None, **kwargs):
        self.prompts.append(messages)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def test_react_shortens_its_history_as_on_dspys_own_lm():
    def answer(_):
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    answers = script(TOO_LONG)
    scripted, ours_called, theirs_called = ScriptedLM(answer), [], []
    assert react(BridgeLM(scripted), ours_called) == "blue"
    plain = Plain(script(dspy.ContextWindowExceededError(model="plain")))
    assert react(plain, theirs_called) == "blue"
    assert ours_called == theirs_called == ["sky", "sky"]
    assert [list(request.messages) for request in scripted.requests] == plain.prompts
