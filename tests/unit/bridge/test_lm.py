"""DSPy through our client: rollouts, candidates, callbacks, copies, stops."""

import asyncio
import copy
import json
import threading
from dataclasses import replace

import cloudpickle
import dspy
import pytest
from dspy.utils.callback import BaseCallback

from dspex_nb.bridge import BridgeLM, Stopped
from dspex_nb.cache import Cache
from dspex_nb.events import Bus, LMCalled
from dspex_nb.scopes import Scope

CHAT = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"


@pytest.fixture
def bus():
    return Bus()


@pytest.fixture
def lm(client, bus):
    return BridgeLM(client, scope=Scope(run_id="r", bus=bus), cache=Cache())


def counted(stub, template="{}"):
    """Answer each request differently."""
    numbers = iter(range(1000))
    stub.answer = lambda body: template.format(next(numbers))


def test_best_of_n_pays_each_rollout_once(stub, lm):
    counted(stub, CHAT)
    seen = []
    program = dspy.BestOfN(
        dspy.Predict("question -> answer"), N=3, reward_fn=lambda args, p: seen.append(p.answer) or 0.0, threshold=1
    )
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        program(question="q")
        assert len(stub.bodies) == 3
        assert sorted(seen) == ["0", "1", "2"]
        assert all(body["temperature"] == 1.0 and "rollout_id" not in body for body in stub.bodies)
        program(question="q")
    assert len(stub.bodies) == 3
    assert sorted(seen[3:]) == ["0", "1", "2"]


def test_equal_requests_without_rollout_are_one(stub, lm):
    counted(stub)
    assert lm("hi") == lm("hi") == ["0"]
    assert len(stub.bodies) == 1
    assert lm.ledger.usage.calls == 1
    assert lm.ledger.usage.cache_hits == 1


def test_candidates_are_requests_of_their_own(stub, lm):
    counted(stub)
    first = lm("hi", n=3, temperature=0.7)
    assert sorted(first) == ["0", "1", "2"]
    assert all("n" not in body for body in stub.bodies)
    assert lm("hi", n=3, temperature=0.7) == first
    assert len(stub.bodies) == 3


def test_async_keeps_rollouts_and_candidates_apart(stub, lm):
    counted(stub)

    async def ask():
        one, two = await asyncio.gather(lm.acall("hi", rollout_id=1, temperature=1), lm.acall("hi", rollout_id=2, temperature=1))
        many = await lm.acall("hi", n=2, temperature=1)
        return [*one, *two, *many]

    assert sorted(asyncio.run(ask())) == ["0", "1", "2", "3"]
    assert asyncio.run(lm.acall("hi", rollout_id=1, temperature=1)) == lm("hi", rollout_id=1, temperature=1)
    assert len(stub.bodies) == 4


def test_copies_share_the_client_and_keep_their_own_options(stub, lm):
    twin = lm.copy(rollout_id=7, temperature=1.0)
    assert twin.kwargs["rollout_id"] == 7
    assert "rollout_id" not in lm.kwargs
    twin("hi")
    assert stub.bodies[0]["temperature"] == 1.0
    assert copy.deepcopy(lm).ledger is lm.ledger
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    assert program.deepcopy().lm.ledger is lm.ledger


def test_cache_false_asks_anew(stub, lm):
    counted(stub)
    assert lm("hi") == ["0"]
    assert lm("hi", cache=False) == ["1"]


def test_callbacks_history_and_usage_are_dspys(stub, lm):
    calls = []

    class Watch(BaseCallback):
        def on_lm_start(self, call_id, instance, inputs):
            calls.append(("start", instance is lm, inputs["prompt"]))

        def on_lm_end(self, call_id, outputs, exception=None):
            calls.append(("end", outputs))

    with dspy.context(callbacks=[Watch()], track_usage=True), dspy.track_usage() as tracker:
        answer = lm("hi")
        lm("hi")
    assert calls == [("start", True, "hi"), ("end", answer)] * 2
    assert tracker.get_total_tokens()["openai/stub"]["total_tokens"] == 5
    assert [entry["outputs"] for entry in lm.history] == [answer, answer]
    assert [entry["usage"] != {} for entry in lm.history] == [True, False]


def test_events_carry_the_trial(client, bus):
    lm = BridgeLM(client, scope=Scope(run_id="r", bus=bus), where=lambda scope: replace(scope, trial=4))
    lm("hi")
    called = [event for event in bus.recent if isinstance(event, LMCalled)]
    assert [(event.run_id, event.trial, event.prompt_tokens) for event in called] == [("r", 4, 3)]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_stop_ends_an_evaluation_at_once(stub, client, threads):
    scope = Scope(run_id="r")
    lm = BridgeLM(client, scope=scope)
    stub.answer = lambda body: (scope.cancel.cancel(), CHAT.format("x"))[1]
    devset = [dspy.Example(question=str(i), answer="x").with_inputs("question") for i in range(20)]
    evaluate = dspy.Evaluate(devset=devset, metric=lambda e, p, t=None: 1.0, num_threads=threads)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()), pytest.raises(Stopped):
        evaluate(dspy.Predict("question -> answer"))
    assert len(stub.bodies) <= threads


def test_it_may_run_in_any_thread_without_configure(lm):
    found = []

    def work():
        with dspy.context(lm=lm):
            found.append(dspy.settings.lm is lm)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert found == [True]
    assert dspy.settings.lm is None


def test_its_saved_state_has_no_secret_and_loads_in_plain_dspy(lm, stub):
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    state = json.loads(json.dumps(program.dump_state()))
    assert "sk-secret" not in json.dumps(state)
    assert stub.url not in json.dumps(state)
    loaded = dspy.Predict("question -> answer")
    loaded.load_state(state)
    assert (type(loaded.lm), loaded.lm.model) == (dspy.LM, "openai/stub")


def test_it_crosses_to_another_process_without_its_run(lm):
    data = cloudpickle.dumps(lm)
    assert b"sk-secret" not in data
    assert cloudpickle.loads(data).model == "openai/stub"


def test_capabilities_are_the_clients(lm, client):
    assert lm.supports_response_schema == client.capabilities.response_schema
    assert lm.supports_function_calling == client.capabilities.function_calling
    assert lm.supported_params == set(client.capabilities.params)
