"""DSPy's own types served natively, case by case; equality with DSPy at large is tests/property/test_calls.py."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import dspy
import pydantic
import pytest
from dspy.adapters.types.citation import Citations
from dspy.adapters.types.decision import Noul

from dspex_nb.adapters import ChatAdapter, CompactAdapter, JSONAdapter, prepare, read
from dspex_nb.ambient import Session
from dspex_nb.bridge import from_dspy
from dspex_nb.clients import connect
from dspex_nb.errors import AdapterError, AdapterParseError, ContextWindowExceededError
from dspex_nb.events import Bus
from dspex_nb.messages import Capabilities, Output
from dspex_nb.modules.predict import Predict
from dspex_nb.routing import route_call
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures import Signature
from dspex_nb.signatures.codecs import codec_for
from dspex_nb.testing.scripted import ScriptedLM

ALL = Capabilities(True, True, True, frozenset({"response_format", "tools", "reasoning_effort"}))
CALLS = ({"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 3}'}},)


def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


class Album(pydantic.BaseModel):
    pictures: list[dspy.Image]


class Agent(dspy.Signature):
    """Use tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()
    why: dspy.Reasoning = dspy.OutputField()
    note: str | None = dspy.OutputField()


AGENT = from_dspy(Agent)
GIVEN = {"question": "3+2?", "tools": [dspy.Tool(add)]}


def server(model: str = "scripted/test", capabilities: Capabilities = ALL, **options: Any) -> ScriptedLM:
    return ScriptedLM([], model=model, capabilities=capabilities, **options)


def scope() -> Scope:
    return Scope(new_run_id(), Bus(keep=0))


@pytest.mark.parametrize(
    "kind", [dspy.Image, list[dspy.Tool], dspy.History, dict[str, dspy.Code], dspy.Image | None, Album, dspy.Code["java"]]
)
@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_the_native_engine_serves_them(kind, adapter):
    signature = Signature({"inputs": {"x": kind}, "outputs": {"a": str}})
    assert route_call("s", signature, Session(lm=server()), adapter=adapter).engine == "native"
    assert route_call("s", signature, Session(lm=server()), adapter="compact").engine == "dspy"


@pytest.mark.parametrize("kind", [Citations, list[Citations], Noul])
def test_what_only_dspy_can_serve_says_so(kind):
    signature = Signature({"inputs": {"x": str}, "outputs": {"a": kind}})
    for adapter in (ChatAdapter(), JSONAdapter(), CompactAdapter()):
        reason = adapter.unsupported(signature)
        assert reason is not None
        assert reason.startswith("field 'a' is a ")
        assert reason.endswith(".")
    assert route_call("s", signature, Session(lm=server())).engine == "dspy"


def test_native_tools_and_reasoning_leave_their_fields_out():
    prompt = prepare(JSONAdapter(), AGENT, [], GIVEN, server(), {})
    assert [tool["function"]["name"] for tool in prompt.options["tools"]] == ["add"]
    assert prompt.options["reasoning_effort"] == "low"
    assert list(prompt.signature.fields) == ["question", "note"]
    assert "why" not in prompt.messages[0]["content"]
    values = read(JSONAdapter(), AGENT, prompt, Output("", CALLS, reasoning="easy"))
    assert values["calls"].tool_calls[0].args == {"x": 3}
    assert values["calls"].tool_calls[0].id == "c1"
    assert values["why"] == "easy"
    assert isinstance(values["why"], dspy.Reasoning)
    assert values["note"] is None


def test_as_text_where_the_server_or_the_adapter_does_not_call_tools():
    for adapter, capabilities in (
        (ChatAdapter(), ALL),
        (JSONAdapter(), Capabilities()),
        (JSONAdapter(use_native_function_calling=False), ALL),
    ):
        prompt = prepare(adapter, AGENT, [], GIVEN, server(capabilities=capabilities), {"tools": [1], "tool_choice": "auto"})
        assert not {"tools", "tool_choice"} & set(prompt.options)
        assert '{"tool_calls": [{"name": "...", "args": {...}}]}' in prompt.messages[-1]["content"]
        assert "It takes arguments" in prompt.messages[-1]["content"]
        text = json.dumps({"calls": [{"name": "add", "args": {"x": 1}}], "why": "w", "note": "n"})
        values = read(JSONAdapter(), AGENT, prompt, Output(text))
        assert values["calls"].tool_calls[0].name == "add"


def test_reasoning_is_asked_for_in_words_where_the_provider_keeps_its_own():
    words = from_dspy(dspy.Signature({"q": (str, dspy.InputField()), "why": (dspy.Reasoning, dspy.OutputField())}))

    def asked(lm, **options):
        prompt = prepare(ChatAdapter(), words, [], {"q": "?"}, lm, options)
        return "why" in prompt.signature.fields, prompt.options.get("reasoning_effort", "absent")

    assert asked(server()) == (False, "low")
    assert asked(server(reasoning_effort="high")) == (False, "high")
    assert asked(server(reasoning_effort="high"), reasoning_effort="medium") == (False, "medium")
    assert asked(server(), reasoning_effort=None) == (True, None)
    assert asked(server(capabilities=Capabilities())) == (True, "absent")
    assert asked(server("openai/gpt-5-mini")) == (True, "absent")
    assert asked(connect("openai/gpt-5-mini", api_key="x", model_type="responses", capabilities=ALL)) == (False, "low")


def test_tools_that_cannot_be_are_told():
    lonely = Signature({"inputs": {"q": str}, "outputs": {"calls": dspy.ToolCalls}})
    with pytest.raises(AdapterError, match="no input holds tools") as error:
        prepare(JSONAdapter(), lonely, [], {"q": "x"}, server(), {})
    assert "list[dspy.Tool]" in error.value.hint
    with pytest.raises(AdapterError, match="is no tool"):
        prepare(JSONAdapter(), AGENT, [], {**GIVEN, "tools": [add]}, server(), {})
    nameless = ({"function": {"name": None, "arguments": "[1]"}},)
    with pytest.raises(AdapterError, match="without a name") as error:
        read(JSONAdapter(), AGENT, prepare(JSONAdapter(), AGENT, [], GIVEN, server(), {}), Output("", nameless))
    assert not isinstance(error.value, AdapterParseError)  # DSPy asks no second time here either


def test_a_conversation_becomes_turns():
    signature = from_dspy(dspy.Signature("question, history: dspy.History -> answer"))
    history = dspy.History(messages=[{"question": "capital?", "answer": "Paris"}])
    messages = ChatAdapter().messages(signature, [], {"question": "sure?", "history": history})
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "history" not in messages[-1]["content"]
    with pytest.raises(AdapterError, match="given as a list") as error:
        ChatAdapter().messages(signature, [], {"question": "sure?", "history": [{"question": "x"}]})
    assert "dspy.History" in error.value.hint
    broken = dspy.History(messages=[{"question": "x", "calls": {"tool_calls": 3}}])
    with pytest.raises(AdapterError, match="turn 1"):
        ChatAdapter().messages(signature, [], {"question": "sure?", "history": broken})


def test_an_unreadable_chat_answer_is_asked_for_again_as_json_and_other_errors_are_not():
    signature = Signature("question -> answer: int")

    def run(*answers, adapter=None):
        lm = ScriptedLM(answers)
        try:
            return lm, Predict(signature, adapter=adapter).call({"question": "?"}, session=Session(lm=lm), scope=scope())[
                "answer"
            ]
        except Exception as error:
            return lm, type(error)

    lm, answer = run("no idea", '{"answer": 3}')
    assert answer == 3
    assert "response_format" not in lm.requests[0].options
    assert "response_format" in lm.requests[1].options
    assert run("", '{"answer": 3}')[1] == 3
    lm, error = run("no idea", "still none")
    assert (len(lm.requests), error) == (2, AdapterParseError)
    lm, error = run("no idea", adapter=ChatAdapter(use_json_adapter_fallback=False))
    assert (len(lm.requests), error) == (1, AdapterParseError)
    lm, error = run("no idea", adapter="json")
    assert (len(lm.requests), error) == (1, AdapterParseError)
    lm, error = run(ContextWindowExceededError("too long"))
    assert (len(lm.requests), error) == (1, ContextWindowExceededError)


def test_the_fallback_calls_tools_as_its_chat_adapter_did():
    lm = ScriptedLM(["what?", "what?"], capabilities=ALL)
    with pytest.raises(AdapterParseError):
        Predict(AGENT, adapter="chat").call(GIVEN, session=Session(lm=lm), scope=scope())
    assert all("tools" not in request.options for request in lm.requests)
    assert lm.requests[1].options["response_format"] == {"type": "json_object"}


def test_classes_made_in_passing_are_let_go():
    kind = dspy.Code["cobol"]
    assert codec_for(kind).note == ""
    gone = weakref.ref(kind)
    del kind
    gc.collect()
    assert gone() is None


def test_what_is_returned_is_the_callers_to_change():
    signature, lm = Signature("q -> a: list[int] = [1]"), server()
    first = prepare(JSONAdapter(), signature, [], {"q": "x"}, lm, {})
    first.options["response_format"]["json_schema"]["schema"].clear()
    first.messages[0]["content"] = ""
    again = prepare(JSONAdapter(), signature, [], {"q": "x"}, lm, {})
    assert again.options["response_format"]["json_schema"]["schema"]["required"] == ["a"]
    assert again.messages[0]["content"]


def test_equal_signatures_are_read_by_their_own_types():
    first, second = (
        Signature({"inputs": {"q": str}, "outputs": {"a": "Union[int, str]"}}),
        Signature({"inputs": {"q": str}, "outputs": {"a": "Union[str, int]"}}),
    )
    text = '[[ ## a ## ]]\n"1"'
    assert ChatAdapter().parse(first, text) == ChatAdapter().parse(second, text) == {"a": "1"}
    for signature, kind in ((first, "Union[int, str]"), (second, "Union[str, int]")):
        assert kind in ChatAdapter().messages(signature, [], {"q": "x"})[0]["content"]
