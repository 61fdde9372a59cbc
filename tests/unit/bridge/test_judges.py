"""Judges ask through DSPy's own modules on our client: same prompts as plain DSPy, one cache, one stop, one event log."""

import inspect
import json
import re

import cloudpickle
import dspy
import pytest

import dspex_nb as dx
from dspex_nb.ambient import Session
from dspex_nb.api import metric_names
from dspex_nb.bridge import BridgeLM, Judge
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.errors import Cancelled, MetricError, StudyError
from dspex_nb.events import Bus, LMCalled
from dspex_nb.metrics import BUILTIN, resolve_metric
from dspex_nb.scopes import Scope

EXAMPLE = dx.Example({"question": "Who?", "answer": "Ada Lovelace"}, ["question"])
PREDICTION = dx.Prediction({"answer": "Ada"})
SAID = {
    "reasoning": "r", "recall": 0.5, "precision": 1.0, "completeness": 0.5, "groundedness": 0.25, "ground_truth_key_ideas": "i",
    "system_response_key_ideas": "i", "discussion": "d", "system_response_claims": "c", "met": [True, False], "feedback": "too short",
}  # fmt: skip


def answering(**changes):
    said = {**SAID, **changes}

    def answer(body):
        asked = re.findall(r"`([a-z_]+)`", body["messages"][-1]["content"].rpartition("Respond with")[2])
        return json.dumps({name: said[name] for name in asked})

    return answer


@pytest.fixture
def session(stub, client):
    stub.answer = answering()
    return Session(lm=client, adapter="json", cache=Cache(), bus=Bus())


def test_semantic_f1_is_dspys_own_on_our_client(stub, session):
    judge = Judge("semantic_f1", response="answer").bound(session)
    assert judge(EXAMPLE, PREDICTION).score == pytest.approx(2 / 3)
    ours = stub.bodies[-1]["messages"]
    plain = dspy.LM(
        "openai/stub", api_base=judge._session.lm._wire.url.removesuffix("/chat/completions"), api_key="x", cache=False
    )
    with dspy.context(lm=plain, adapter=dspy.JSONAdapter()):
        theirs = dspy.evaluate.SemanticF1()(
            dspy.Example(question="Who?", response="Ada Lovelace"), dspy.Prediction(response="Ada")
        )
    assert theirs.score == pytest.approx(2 / 3)
    assert stub.bodies[-1]["messages"] == ours
    assert judge(EXAMPLE, PREDICTION, []).score is True  # 2/3 reaches DSPy's threshold of 0.66: what bootstrapping asks
    assert len(stub.bodies) == 2  # the same question again came from the cache


def test_complete_and_grounded_reads_an_inner_context(stub, session):
    inner = dx.Prediction({"answer": "Ada"}, dx.predictions.Facts(fields={"docs": ["one", "two"]}))
    judge = Judge("complete_and_grounded", response="answer", context="docs").bound(session)
    assert judge(EXAMPLE, inner).score == pytest.approx(1 / 3)
    assert "one\n\ntwo" in stub.bodies[-1]["messages"][-1]["content"]
    assert len(stub.bodies) == 2


class TestRubric:
    def test_weights_and_feedback(self, session):
        judge = Judge("rubric", {"rubric": {"names a person": 3, "is long": 1}}, response="answer").bound(session)
        found = judge(EXAMPLE, PREDICTION)
        assert (found.score, found.feedback) == (0.75, "too short")
        assert judge(EXAMPLE, PREDICTION, []).score is True

    def test_lines_of_a_text_and_no_reference(self, stub, session):
        judge = Judge("rubric", {"rubric": "- is polite\n\n- is short\n"}).bound(session)
        assert judge(dx.Example({"a": "1", "b": "2"}, ["a", "b"]), dx.Prediction({"text": "hm"})).score == 0.5
        sent = stub.bodies[-1]["messages"][-1]["content"]
        assert "is polite" in sent
        assert "a: 1\nb: 2" in sent

    def test_a_judge_that_does_not_answer_each_criterion(self, stub, session):
        stub.answer = answering(met=[True])
        with pytest.raises(MetricError, match="for 2 criteria"):
            Judge("rubric", {"rubric": ["x", "y"]}).bound(session)(EXAMPLE, PREDICTION)

    @pytest.mark.parametrize("rubric", [{"x": -1}, {"x": 0}, " \n "])
    def test_no_criteria(self, rubric):
        with pytest.raises(MetricError, match="a rubric needs criteria"):
            Judge("rubric", {"rubric": rubric})

    def test_it_tells_its_range_and_source(self):
        from dspex_nb.bridge.judges import Rubric

        assert re.search(r"^Range 0 to 1; higher is better\.$", inspect.getdoc(Rubric), re.MULTILINE)
        assert "Source: " in inspect.getdoc(Rubric)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Judge("semantic_f2"), "did you mean 'semantic_f1'"),
        (lambda: Judge("semantic_f1", {"treshold": 1}), "did you mean 'threshold'"),
        (lambda: Judge("rubric"), "has no rubric"),
        (lambda: Judge("semantic_f1")(EXAMPLE, PREDICTION), "has no model to ask"),
        (lambda: Judge("semantic_f1", response="anwser")(EXAMPLE, PREDICTION), "no field 'anwser'"),
        (lambda: Judge("semantic_f1", question="q")(EXAMPLE, PREDICTION), "no field 'q'"),
        (lambda: Judge("semantic_f1")(EXAMPLE, dx.Prediction({"x": 1, "y": 2})), "which answer is to be judged: x, y?"),
        (lambda: dx.metrics.resolve_metric("semantic_f1:a,b"), "judges one field"),
    ],
)
def test_what_it_refuses(fresh, make, told):
    with pytest.raises(MetricError) as raised:
        make()
    assert told in str(raised.value)


class TestInARun:
    def test_the_runs_events_and_its_stop(self, fresh, session):
        seen = []
        bus = Bus()
        bus.subscribe(seen.append)
        scope = Scope("run-1", bus)
        with dx.context(lm=session.lm, adapter="json"):
            metric = dx.judge("semantic_f1", response="answer")
        within = metric.within(session, scope)
        assert within(EXAMPLE, PREDICTION) == pytest.approx(2 / 3)
        assert [event.run_id for event in seen if isinstance(event, LMCalled)] == ["run-1"]
        scope.cancel.cancel()
        with pytest.raises(Cancelled):
            within(EXAMPLE, dx.Prediction({"answer": "another"}))

    def test_in_a_study_it_asks_the_studys_model_and_leaves_the_trace_alone(self, stub, session):
        lm = BridgeLM(session.lm, scope=Scope("study"), cache=session.cache)
        judge = Judge("semantic_f1", response="answer").bound(session, Scope("elsewhere"))
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), trace=[]):
            assert judge(EXAMPLE, PREDICTION).score == pytest.approx(2 / 3)
            assert dspy.settings.trace == []
        assert lm.ledger.usage.calls == 1

    def test_a_copy_in_another_process_keeps_its_own_model_only(self, stub, session, client, monkeypatch):
        there = cloudpickle.loads(cloudpickle.dumps(Judge("semantic_f1", response="answer").bound(session)))
        assert (there.client, there._session, there.response) == (None, None, "answer")
        own = connect("openai/judge", api_base=stub.url, api_key="sk-secret-1234", temperature=0)
        with pytest.raises(StudyError, match="key from an argument"):
            cloudpickle.dumps(Judge("semantic_f1", client=own))
        own.close()
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
        own = connect("openai/judge", api_base=stub.url, temperature=0)
        content = cloudpickle.dumps(Judge("semantic_f1", response="answer", client=own))
        assert b"sk-secret" not in content
        there = cloudpickle.loads(content)
        lm = BridgeLM(client, scope=Scope("study"))
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            assert there(EXAMPLE, PREDICTION).score == pytest.approx(2 / 3)
        assert stub.bodies[-1]["model"] == "judge"
        own.close()
        there.client.close()


def test_by_name_and_in_evaluate(fresh, stub, session):
    assert {"semantic_f1", "complete_and_grounded"} <= set(BUILTIN)
    assert "semantic_f1" in metric_names()
    with dx.context(lm=session.lm, adapter="json"):
        metric = resolve_metric("semantic_f1:answer")
        assert metric.name == "semantic_f1:answer"
        rows = [{"question": "Who?", "answer": "Ada"}] * 2
        found = dx.evaluate(lambda question: {"answer": question}, [dx.Example(row, ["question"]) for row in rows], [metric])
    assert found.score == pytest.approx(2 / 3)
    assert len(stub.bodies) == 1  # the second row asks the same, and the session's cache answers
