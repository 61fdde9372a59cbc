"""Steps of every kind in a pool of processes: the worker has the notebook's settings, the run hears what it asks of a model."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

import dspex_nb as dx
from dspex_nb import ambient
from dspex_nb.errors import Cancelled, PlanError, StepError, TaskTimeoutError
from dspex_nb.pipelines import read_cell
from dspex_nb.testing import ScriptedLM

TEXTS = ["cats purr at night", "dogs bark", "fish swim"]


@pytest.fixture
def server(fresh, chat_server):
    dx.configure(lm=dx.LM("openai/m", api_base=chat_server.url, api_key="very-secret"), adapter="chat")
    dx.pool("apart", 1, "loky")
    return chat_server


def pipeline(body, **names):
    return dx.Pipeline.of(read_cell("p", body, names))


def calls(run):
    return [(event.step, event.cached) for event in run.events if event.kind == "lm_called"]


STEPS = {
    'predict("text -> mood", pool="apart")': 1,
    'predict("text -> tone", engine="dspy", pool="apart")': 1,
    'chain_of_thought("text -> mood", pool="apart")': 1,
    'multi_chain_comparison("text -> mood", chains=3, aggregation="majority", pool="apart")': 3,
    'template("Say {{ text }}", call=True, pool="apart")': 1,
    'template("Say {{ text }}", pool="apart")': 0,
    'predict("one -> mood", one=texts, over=texts, pool="apart")': 3,
    'best_of_n(predict("text -> feeling"), N=2, reward_fn=good, threshold=1.0, pool="apart")': 1,
    'retriever("bm25", index=corpus, k=2, query=text, pool="apart")': 0,
}


def test_a_step_does_there_what_it_does_here(server):
    def good(_args, _prediction):
        return 1.0

    for step, sent in STEPS.items():
        names = {"good": good, "corpus": TEXTS}
        body = f"text: str\ntexts: list[str] = None\na = {step}"
        given = {"text": "cats at night", "texts": TEXTS}
        before = len(server.bodies)
        there = pipeline(body, **names).run(**given)
        far = there.result()
        assert len(server.bodies) - before == sent, step
        assert calls(there) == [("a", None)] * sent, step
        assert (far.usage.calls, there.usage.calls) == (sent, sent), step
        near = pipeline(body.replace(', pool="apart"', ""), **names)(**given)
        assert dict(far) == dict(near), step
        assert len(server.bodies) - before == sent, step  # what the worker was answered is in the cache of both


def test_a_module_of_the_notebook_runs_there_and_a_fallback_here(server):
    import dspy

    class Mine(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("text -> mood")

        def forward(self, text):
            return dspy.Prediction(mood=self.ask(text=text).mood, pid=os.getpid())

    class Bad(dspy.Module):
        def forward(self, text):
            raise ValueError("no luck")

    found = pipeline('text: str\na = Mine(text=text, pool="apart")', Mine=Mine)(text="x")
    assert found["a"]["mood"].startswith("mood of")
    assert found["a"]["pid"] != os.getpid()
    with pytest.raises(StepError, match=r"step 'a' \(cell line 2\): ValueError: no luck \(in forward"):
        pipeline('text: str\na = Bad(text=text, pool="apart")', Bad=Bad)(text="x")
    body = 'text: str\na = Bad(text=text, pool="apart", on_error=template("so {{ text }}"))'
    assert pipeline(body, Bad=Bad)(text="x")["a"] == "so x"


def test_a_time_limit_and_a_stop_kill_the_process(server):
    import dspy

    class Stuck(dspy.Module):
        def forward(self, text):
            time.sleep(60)

    pool = dx.session().pools.get("apart").warm()
    before = pool.stats().slots[0].pid
    with pytest.raises(StepError, match=r"a: not done after 3 s; its worker process was killed") as caught:
        pipeline('text: str\na = Stuck(text=text, pool="apart", timeout_s=3)', Stuck=Stuck)(text="x")
    assert isinstance(caught.value.cause, TaskTimeoutError)
    assert pool.call(os.getpid) != before
    run = pipeline('text: str\na = Stuck(text=text, pool="apart")', Stuck=Stuck).run(text="x")
    until = time.monotonic() + 20
    while not pool.stats().running and time.monotonic() < until:
        time.sleep(0.01)
    assert pool.stats().slots[0].task == "a"
    run.cancel()
    with pytest.raises(Cancelled):
        run.result()
    assert pool.call(len, "abc") == 3


def test_what_cannot_go_there_is_said(server):
    import dspy

    class Locked(dspy.Module):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, text):
            return dspy.Prediction(a=1)

    with pytest.raises(StepError, match=r"step 'a'.*a: cannot be sent to a worker process.*lock"):
        pipeline('text: str\na = Locked(text=text, pool="apart")', Locked=Locked)(text="x")
    index = dx.retriever("memory")
    with pytest.raises(PlanError, match=r"made of processes, and an open memory index stays in its own"):
        pipeline('text: str\na = retriever(index, query=text, pool="apart")', index=index).plan()
    with pytest.raises(PlanError, match="pool= has no meaning for a parallel step"):
        pipeline('text: str\na = parallel(x=template("{{ text }}"), pool="apart")').plan()


def test_a_retry_there_asks_a_new_question(server):
    answers = iter(["nothing readable", "nothing readable", "nothing readable"])
    answer = server.answer
    server.answer = lambda body: next(answers, None) or answer(body)
    run = pipeline('text: str\na = predict("text -> n: int", retry=3, pool="apart")').run(text="x")
    assert run.result()["n"] == 3
    assert len(calls(run)) == len(server.bodies) >= 3


def test_a_worker_forgets_the_model_of_before(server):
    pool = dx.session().pools.get("apart")

    def model():
        return getattr(dx.session().lm, "model", None)

    assert pool.call(model) == "openai/m"
    with dx.context(lm=dx.LM("openai/other", api_base=server.url, api_key="k")):
        assert pool.call(model) == "openai/other"
    ambient.configure(lm=None)
    assert pool.call(model) is None


def test_a_pool_with_another_python_takes_functions_only(server):
    dx.pool("other", 1, "loky", python=sys.executable)
    with pytest.raises(PlanError, match="line 2: step 'a': pool 'other' runs another Python"):
        pipeline('text: str\na = predict("text -> mood", pool="other")').plan()


def test_a_scripted_model_stays_in_its_process_and_says_so(server):
    dx.configure(lm=ScriptedLM(["good"]))
    with pytest.raises(StepError, match="a ScriptedLM answers in its own process only"):
        pipeline('text: str\na = predict("text -> mood", pool="apart")')(text="x")
    assert dx.session().pools.get("apart").call(len, "abc") == 3
