"""`CompactAdapter` in DSPy sends what native compact sends, also through a plain dspy.LM."""

import json
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspex_nb.adapters import CompactAdapter as NativeCompact
from dspex_nb.ambient import Session
from dspex_nb.bridge import BridgeLM, CompactAdapter, to_dspy
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.messages import Capabilities, Request
from dspex_nb.modules import Predict
from dspex_nb.scopes import Scope
from dspex_nb.signatures import InputField, OutputField, Signature


class Triage(Signature):
    """Route a customer message to the right desk."""

    message: str = InputField(desc="what the customer wrote")
    desk: Literal["billing", "tech"] = OutputField()
    urgency: int = OutputField(ge=1, le=5)


DEMOS = [{"message": "charged twice", "desk": "billing", "urgency": 3}, {"message": "no sync", "desk": "tech", "urgency": 2}]
SHARED = ("messages", "response_format", "temperature")


@pytest.fixture
def client(stub):
    # Said here, because a model nobody knows has no capabilities, as in plain DSPy.
    capable = Capabilities(response_schema=True, params=frozenset({"temperature", "max_tokens", "response_format"}))
    return connect("openai/stub", api_base=stub.url, api_key="sk-secret-1234", temperature=0, capabilities=capable)


@pytest.fixture
def native_body(stub, client):
    adapter = NativeCompact()
    request = Request(
        messages=adapter.messages(Triage, DEMOS, {"message": "help"}),
        options=adapter.options(Triage, client.capabilities),
    )
    client.complete(request, scope=Scope(run_id="r"))
    return stub.bodies.pop()


def theirs(lm, adapter):
    program = dspy.Predict(to_dspy(Triage))
    program.demos = [dspy.Example(**demo) for demo in DEMOS]
    with dspy.context(lm=lm, adapter=adapter):
        return program(message="help")


def test_the_same_request_through_our_client(stub, client, native_body):
    prediction = theirs(BridgeLM(client), CompactAdapter())
    assert stub.bodies == [native_body]
    assert (prediction.desk, prediction.urgency) == ("tech", 2)


def test_the_same_request_through_a_plain_dspy_lm(stub, native_body):
    lm = dspy.LM("openai/whatever", api_base=stub.url, api_key="x", temperature=0, cache=False)
    prediction = theirs(lm, CompactAdapter())
    body = stub.bodies[0]
    assert {key: body[key] for key in SHARED} == {key: native_body[key] for key in SHARED}
    assert body["response_format"]["type"] == "json_schema"
    # DSPy 3.4 renames the limit for every openai/ model; servers take either name.
    assert body.get("max_tokens", body.get("max_completion_tokens")) == native_body["max_tokens"]
    assert (prediction.desk, prediction.urgency) == ("tech", 2)


def test_a_program_saved_natively_answers_the_same_in_plain_dspy(stub, client, tmp_path):
    stub.answer = lambda body: json.dumps({"desk": "tech", "urgency": len(str(body["messages"])) % 5 + 1})
    native = Predict(Triage, adapter="compact")
    native.demos = list(DEMOS)
    native.save(tmp_path / "p.json")
    session = Session(lm=client, cache=Cache())
    expected = native.call({"message": "help"}, session=session, scope=Scope(run_id="r"))
    program = dspy.Predict(to_dspy(Triage))
    program.load(str(tmp_path / "p.json"))
    lm = dspy.LM("openai/whatever", api_base=stub.url, api_key="x", temperature=0, cache=False)
    with dspy.context(lm=lm, adapter=CompactAdapter()):
        got = program(message="help")
    assert dict(got.items()) == expected.to_dict()
    assert stub.bodies[0]["messages"] == stub.bodies[1]["messages"]


def test_without_schema_support_none_is_sent(stub):
    lm = dspy.LM("openai/whatever", api_base=stub.url, api_key="x", temperature=0, cache=False)
    theirs(lm, CompactAdapter(response_schema=False))
    assert "response_format" not in stub.bodies[0]


def test_the_callers_limit_wins(stub, client):
    program = dspy.Predict(to_dspy(Triage), max_tokens=99)
    with dspy.context(lm=BridgeLM(client), adapter=CompactAdapter()):
        program(message="help")
    assert stub.bodies[0]["max_tokens"] == 99


def test_an_answer_that_does_not_parse_is_dspys_error(stub, client):
    stub.answer = lambda body: "no idea"
    with pytest.raises(AdapterParseError):
        theirs(BridgeLM(client), CompactAdapter())


def test_signatures_beyond_compact_go_through_dspys_json(stub, client):
    stub.answer = lambda body: '{"answer": "yes"}'
    program = dspy.Predict("history: dspy.History, question -> answer")
    with dspy.context(lm=BridgeLM(client), adapter=CompactAdapter()):
        done: Any = program(question="q", history=dspy.History(messages=[]))
    assert done.answer == "yes"
