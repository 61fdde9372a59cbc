"""On the wire: a real server receives the same bodies from plain `dspy.LM` and from our client, and DSPy's own adapters are reached."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, Optional

import dspy
import pydantic
import pytest

import dspex_nb as dx
from dspex_nb.adapters import get_adapter
from dspex_nb.ambient import Session
from dspex_nb.bridge import BridgeLM, dspy_adapter, from_dspy
from dspex_nb.clients import connect
from dspex_nb.errors import AdapterError
from dspex_nb.events import Bus
from dspex_nb.modules.predict import Predict
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.testing.scripted import ScriptedLM
from dspex_nb.transport import close_idle

MODEL = "openai/gpt-4o-mini"


class Part(pydantic.BaseModel):
    """A part."""

    label: str = pydantic.Field(description="x", max_length=4)
    count: Optional[int] = None  # noqa: UP045


class Item(pydantic.BaseModel):
    part: Part = pydantic.Field(description="the part")
    other: Optional[Part] = None  # noqa: UP045
    parts: list[Part] = []


class Colour(enum.Enum):
    RED = "red"


def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


class Rich(dspy.Signature):
    """Do it."""

    question: str = dspy.InputField()
    pictures: list[dspy.Image] = dspy.InputField()
    item: Item = dspy.OutputField()
    colour: Colour = dspy.OutputField(default=Colour.RED)
    number: Optional[int] = dspy.OutputField()  # noqa: UP045
    kind: Literal["x", "y"] = dspy.OutputField(desc="d")


class Agent(dspy.Signature):
    """Use tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()
    note: str = dspy.OutputField()


CASES = [
    (Rich, {"question": "hi", "pictures": [dspy.Image(url="https://x.y/z.png")]}),
    (Agent, {"question": "hi", "tools": [dspy.Tool(add)]}),
]


@pytest.fixture
def recorder(model_server):
    """A server that answers nonsense and keeps what it is sent: `recorder.url`, `recorder.bodies`."""
    yield model_server(lambda body: "nonsense")
    close_idle()


def ask_dspy(signature: Any, inputs: dict[str, Any], lm: Any, adapter: str) -> None:
    with dspy.context(lm=lm, adapter=dspy_adapter(adapter), disable_history=True), pytest.raises(Exception, match="nonsense"):
        dspy.Predict(signature)(**inputs)


@pytest.mark.parametrize(("signature", "inputs"), CASES)
@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_bodies_are_plain_dspys(recorder, signature, inputs, adapter):
    plain = dspy.LM(MODEL, api_base=recorder.url, api_key="x", cache=False, num_retries=0)
    ask_dspy(signature, inputs, plain, adapter)
    theirs = recorder.bodies[:]
    recorder.bodies.clear()
    client = connect(MODEL, api_base=recorder.url, api_key="x", num_retries=0)
    ask_dspy(signature, inputs, BridgeLM(client), adapter)
    bridged = recorder.bodies[:]
    recorder.bodies.clear()
    session, scope = Session(lm=client), Scope(new_run_id(), Bus(keep=0))
    with pytest.raises(Exception, match="nonsense"):
        Predict(from_dspy(signature), adapter=adapter).call(inputs, session=session, scope=scope, engine="native")
    mine = recorder.bodies[:]
    assert len(mine) == len(theirs) == len(bridged) == (2 if adapter == "chat" else 1)
    for ours, through, wanted in zip(mine, bridged, theirs, strict=True):
        assert json.dumps(ours, sort_keys=True) == json.dumps(wanted, sort_keys=True)
        assert json.dumps(through, sort_keys=True) == json.dumps(wanted, sort_keys=True)
        # The order of a schema's keys is the order in which constrained decoding writes them.
        assert json.dumps(ours.get("response_format")) == json.dumps(wanted.get("response_format"))


ANSWERS = {
    "xml": ["<answer>\nParis\n</answer>\n<score>\n3\n</score>"],
    "baml": ['{"answer": "Paris", "score": 3}'],
    "two_step": ["It is Paris, three points.", "[[ ## answer ## ]]\nParis\n\n[[ ## score ## ]]\n3\n\n[[ ## completed ## ]]"],
}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_dspys_other_adapters_are_reached_by_name(name, fresh):
    lm = ScriptedLM(ANSWERS[name])
    with dx.context(lm=lm, cache=False):
        done = dx.Predict("question -> answer, score: int", adapter=name)(question="capital?")
    assert (done.answer, done.score) == ("Paris", 3)
    assert done.route.engine == "dspy"
    assert name in done.route.reason
    assert len(lm.requests) == len(ANSWERS[name])


@pytest.mark.parametrize("name", list(ANSWERS))
def test_dspys_other_adapters_are_reached_as_objects_and_prompts_are_theirs(name, fresh):
    theirs, mine = ScriptedLM(ANSWERS[name]), ScriptedLM(ANSWERS[name])
    made = dspy_adapter(name, BridgeLM(mine))
    with dspy.context(lm=BridgeLM(theirs), adapter=dspy_adapter(name, BridgeLM(theirs)), disable_history=True):
        dspy.Predict("question -> answer, score: int")(question="capital?")
    with dx.context(lm=mine, cache=False, adapter=made):
        done = dx.Predict("question -> answer, score: int")(question="capital?")
    assert done.score == 3
    assert done.route.engine == "dspy"
    assert [request.messages for request in mine.requests] == [request.messages for request in theirs.requests]


def test_names_nobody_has_are_told_at_once(fresh):
    with pytest.raises(AdapterError, match="'xlm'") as error:
        dx.Predict("q -> a", adapter="xlm")
    assert "did you mean 'xml'" in error.value.hint
    with pytest.raises(AdapterError, match="'xml'"):
        get_adapter("xml")


def test_our_adapters_cross_to_dspy_with_their_options():
    made = dspy_adapter(dx_chat := get_adapter("chat").__class__(use_native_function_calling=True, parallel_tool_calls=False))
    assert (made.use_native_function_calling, made.parallel_tool_calls, made.use_json_adapter_fallback) == (True, False, True)
    assert dx_chat.fallback.use_native_function_calling is True
    assert dspy_adapter("json").use_native_function_calling is True
