"""DSPy modules run on our client from any thread, and what they took is counted."""

import json
import threading

import dspy
import pytest

from dspex_nb.bridge import run_module
from dspex_nb.cache import Cache
from dspex_nb.errors import AdapterParseError, Cancelled, MissingInputError, PlanError
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature

QA = Signature("question -> answer")


@pytest.fixture
def run(client):
    cache = Cache()

    def call(module, signature=QA, inputs=None, *, scope=None, adapter="json", **options):
        return run_module(
            module, signature, inputs or {"question": "q"}, client=client, adapter=adapter, cache=cache,
            scope=scope or Scope(run_id="r"), options=options,
        )  # fmt: skip

    return call


def reply(stub, *answers):
    """Answer in turn, the last one for ever."""
    left = list(answers)
    lock = threading.Lock()

    def answer(body):
        with lock:
            return json.dumps(left.pop(0) if len(left) > 1 else left[0])

    stub.answer = answer


def test_predict_and_chain_of_thought_count_what_they_took(stub, run):
    reply(stub, {"reasoning": "because", "answer": "yes"})
    first = run("chain_of_thought")
    assert first.outputs == {"reasoning": "because", "answer": "yes"}
    assert (first.usage.calls, first.usage.prompt_tokens, first.cached) == (1, 3, None)
    again = run("chain_of_thought")
    assert (again.outputs, again.usage.calls, again.usage.cache_hits, again.cached) == (first.outputs, 0, 1, "memory")
    assert len(stub.bodies) == 1


def test_lm_options_reach_the_request(stub, run):
    reply(stub, {"answer": "a"})
    run("predict", temperature=0.5, max_tokens=17)
    assert (stub.bodies[0]["temperature"], stub.bodies[0]["max_tokens"]) == (0.5, 17)


@pytest.mark.parametrize("adapter", ["json", "compact"])
def test_an_answer_that_cannot_be_read_is_our_error_with_the_next_act(stub, run, adapter):
    stub.answer = lambda body: "I would rather not."
    with pytest.raises(AdapterParseError) as caught:
        run("react", tools=[len], adapter=adapter)
    assert "I would rather not." in caught.value.message
    assert len(caught.value.message) < 200
    assert "run again" in caught.value.hint


def test_react_calls_its_tool(stub, run):
    used = []

    def lookup(word: str) -> str:
        """Look a word up."""
        used.append(word)
        return "an animal"

    reply(
        stub,
        {"next_thought": "t", "next_tool_name": "lookup", "next_tool_args": {"word": "cat"}},
        {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "r", "answer": "an animal"},
    )
    done = run("react", tools=[lookup], max_iters=3)
    assert (used, done.outputs["answer"]) == (["cat"], "an animal")


def test_multi_chain_comparison_samples_then_compares(stub, run):
    reply(stub, *({"reasoning": f"r{i}", "answer": f"a{i}"} for i in range(3)), {"rationale": "r", "answer": "best"})
    assert run("multi_chain_comparison", chains=3).outputs["answer"] == "best"
    assert len(stub.bodies) == 4


@pytest.mark.parametrize("kind", ["best_of_n", "refine"])
def test_sampling_modules_pay_each_attempt(stub, run, kind):
    advice = [{"discussion": "d", "advice": {"predict": "be better"}}] if kind == "refine" else []
    reply(stub, {"reasoning": "r", "answer": "0"}, *advice, {"reasoning": "r", "answer": "1"})
    done = run(kind, N=2, reward_fn=lambda args, p: float(p.answer == "1"), threshold=1.0)
    assert done.outputs["answer"] == "1"
    assert len(stub.bodies) == 2 + len(advice)


def test_knn_gives_the_nearest_examples_as_demos(stub, run):
    reply(stub, {"answer": "a"})
    near = [dspy.Example(question=w, answer=w.upper()).with_inputs("question") for w in ("aaaa", "bb")]
    embed = dspy.Embedder(
        lambda texts: [[float("a" in t.split()[-1]), float("b" in t.split()[-1])] for t in texts], caching=False
    )
    run("knn", inputs={"question": "aa"}, k=1, trainset=near, vectorizer=embed)
    text = json.dumps(stub.bodies[0]["messages"])
    assert "AAAA" in text
    assert "BB" not in text


class Twice(dspy.Module):
    """A module of the notebook."""

    def __init__(self, signature):
        super().__init__()
        self.step = dspy.Predict(signature)

    def forward(self, question):
        return dspy.Prediction(answer=self.step(question=question).answer * 2)


def test_classes_and_instances_of_the_user(stub, run):
    reply(stub, {"answer": "ha"})
    assert run(Twice).outputs == {"answer": "haha"}
    from dspex_nb.bridge import to_dspy

    assert run(Twice(to_dspy(QA)), None).outputs == {"answer": "haha"}


def test_from_another_thread_and_without_leaving_a_trace(stub, run):
    reply(stub, {"answer": "a"})
    found = []
    thread = threading.Thread(target=lambda: found.append(run("predict").outputs))
    thread.start()
    thread.join(10)
    assert found == [{"answer": "a"}]
    assert dspy.settings.lm is None


def test_a_stopped_scope_is_cancelled_without_a_request(stub, run):
    scope = Scope(run_id="r")
    scope.cancel.cancel()
    with pytest.raises(Cancelled):
        run("predict", scope=scope)
    assert stub.bodies == []


@pytest.mark.parametrize(
    ("kind", "options", "text", "hint"),
    [
        ("recat", {}, "no module kind 'recat'", "did you mean 'react'"),
        ("react", {"tools": [], "max_iter": 2}, "no option 'max_iter'", "did you mean 'max_iters'"),
        ("react", {}, "needs tools=", "add tools="),
        ("best_of_n", {"N": 2}, "needs reward_fn", "a function"),
        ("predict", {"temprature": 1}, "no option 'temprature'", "options of Predict"),
    ],
)
def test_mistakes_are_named_before_any_call(stub, run, kind, options, text, hint):
    with pytest.raises(PlanError, match=text) as caught:
        run(kind, **options)
    assert hint in caught.value.hint
    assert stub.bodies == []


def test_a_missing_input_is_named(run):
    with pytest.raises(MissingInputError, match="'question'"):
        run("predict", inputs={"other": 1})
