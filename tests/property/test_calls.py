"""Whole calls against the installed DSPy: `dx.Predict` and `dspy.Predict`, each over a client that records, send the same requests
and return the same fields, whatever the signature, the demos, the conversation, the server and the answers.

700 cases in CI; `DSPEX_ADAPTER_CASES=10` takes ten times as many, and new ones.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import logging
import os
import re
import traceback
import warnings
from typing import Any, Literal, NamedTuple, Optional

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError as DSPyParseError
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from dspex_nb.adapters import ChatAdapter, JSONAdapter
from dspex_nb.ambient import Session
from dspex_nb.bridge import BridgeLM, from_dspy
from dspex_nb.errors import AdapterParseError, DataError
from dspex_nb.events import Bus
from dspex_nb.messages import Capabilities
from dspex_nb.modules.predict import Predict
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.testing.scripted import ScriptedLM

CASES = int(os.environ.get("DSPEX_ADAPTER_CASES", "1"))
PROFILE = settings(
    max_examples=700 * CASES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=CASES == 1
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Album(pydantic.BaseModel):
    title: str
    pictures: list[dspy.Image] = []


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Row(TypedDict):
    key: str
    count: int


class Pair(NamedTuple):
    left: int
    right: str


class Shout(dspy.Type):
    """A user's own type that is text."""

    text: str

    def format(self):
        return self.text.upper()

    @classmethod
    def description(cls):
        return "Words that are\nshouted"


class Clip(dspy.Type):
    """A user's own type that is a content part."""

    url: str

    def format(self):
        return [{"type": "video_url", "video_url": {"url": self.url}}]


def add(x: int, y: int = 2) -> int:
    """Add two numbers."""
    return x + y


def search(query: str, colours: list[Colour]) -> str:
    return query * len(colours)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "«x»",
        "a\nb",
        "[[ ## a ## ]]",
        "{}",
        "  pad ",
        "```python\nx = 1\n```",
        "```y```",
        '"q"',
        "1",
        "null",
        "None",
        "{'code': 'z'}",
    ]
)
IMAGES = st.sampled_from(["https://x.y/z.png", "data:image/png;base64,AAAA"]).map(lambda url: dspy.Image(url=url))
TOOLS = st.sampled_from(
    [dspy.Tool(add), dspy.Tool(search, name="find", desc="Find «things»"), dspy.Tool(add, arg_desc={"x": "one"})]
)
ARGS = st.dictionaries(st.sampled_from(["x", "y", "query"]), st.integers(0, 9) | WORDS, max_size=2)


@st.composite
def tool_calls(draw: st.DrawFn) -> dspy.ToolCalls:
    calls = [
        dspy.ToolCalls.ToolCall(
            id=draw(st.sampled_from(["c1", "c2", None])), name=draw(st.sampled_from(["add", "find"])), args=draw(ARGS)
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    results = None
    if draw(st.booleans()):
        results = dspy.ToolCallResults.from_tool_calls_and_values(calls, [draw(WORDS | st.integers() | ARGS) for _ in calls])
        results = results if draw(st.booleans()) else results.model_dump()
    return dspy.ToolCalls(tool_calls=calls, tool_call_results=results)


CODES = WORDS.map(lambda text: dspy.Code(code=text))
JAVA: Any = dspy.Code["java"]
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.integers(),
    bool: st.booleans(),
    list[str]: st.lists(WORDS, max_size=2),
    dict[str, int]: st.dictionaries(WORDS, st.integers(), max_size=2),
    Colour: st.sampled_from(Colour),
    Literal["a", "it's", 2]: st.sampled_from(["a", "it's", 2]),
    Optional[int]: st.none() | st.integers(),  # noqa: UP045
    str | None: st.none() | WORDS,
    dt.date: st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
    Point: st.builds(Point, st.integers(), st.floats(allow_nan=False)),
    Row: st.fixed_dictionaries({"key": WORDS, "count": st.integers()}),
    Pair: st.builds(Pair, st.integers(), WORDS),
    Album: st.builds(Album, title=WORDS, pictures=st.lists(IMAGES, max_size=2)),
}
OWN: dict[Any, st.SearchStrategy[Any]] = {
    dspy.Image: IMAGES,
    list[dspy.Image]: st.lists(IMAGES, max_size=2),
    dict[str, dspy.Image]: st.dictionaries(WORDS, IMAGES, max_size=2),
    dspy.Image | None: st.none() | IMAGES,
    dspy.Audio: st.just(dspy.Audio(data="AAAA", audio_format="wav")),
    dspy.File: st.sampled_from([dspy.File(file_id="f1"), dspy.File.from_bytes(b"x", filename="a.txt")]),
    dspy.Code: CODES,
    JAVA: WORDS.map(lambda text: JAVA(code=text)),
    list[dspy.Code]: st.lists(CODES, max_size=2),
    dspy.Reasoning: WORDS.map(lambda text: dspy.Reasoning(content=text)),
    list[dspy.Reasoning]: st.lists(WORDS.map(lambda text: dspy.Reasoning(content=text)), max_size=2),
    dspy.ToolCalls: tool_calls(),
    Shout: WORDS.map(lambda text: Shout(text=text)),
    dict[str, Shout]: st.dictionaries(WORDS, WORDS.map(lambda text: Shout(text=text)), max_size=2),
    Clip: st.just(Clip(url="https://x.y/v.mp4")),
}
GIVEN_ONLY: dict[Any, st.SearchStrategy[Any]] = {dspy.Tool: TOOLS, list[dspy.Tool]: st.lists(TOOLS, max_size=2)}
VALUES = {**PLAIN, **OWN, **GIVEN_ONLY}
ANYTHING = st.one_of(*PLAIN.values(), *OWN.values())
INPUTS = st.sampled_from([*PLAIN, *OWN, *OWN, *GIVEN_ONLY, dspy.History, dspy.History])
OUTPUTS = st.sampled_from([*PLAIN, *OWN, dspy.ToolCalls, dspy.Reasoning])
WRITERS = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter()}
UNREADABLE = "cannot be read"
EFFORTS = st.sampled_from(["low", "high", None])


@dataclasses.dataclass
class Call:
    """One case: what both sides are given."""

    signature: Any
    inputs: dict[str, Any]
    demos: list[dict[str, Any]]
    adapter: str
    adapter_options: dict[str, Any]
    options: dict[str, Any]
    client_options: dict[str, Any]
    model: str
    capabilities: Capabilities
    answers: list[Any]


@st.composite
def signatures(draw: st.DrawFn) -> Any:
    names = draw(st.permutations(["question", "a", "b", "answer", "someText"]))
    fields: dict[str, Any] = {}
    count, cut = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    for index, name in enumerate(names[: max(count, cut + 1)]):
        make = dspy.InputField if index < cut else dspy.OutputField
        options: dict[str, Any] = {"desc": "short"} if draw(st.booleans()) else {}
        fields[name] = (draw(INPUTS if index < cut else OUTPUTS), make(**options))
    kinds = [kind for kind, _ in fields.values()]
    if dspy.ToolCalls in kinds[cut:] and draw(st.integers(0, 5)):
        fields = {"tools": (list[dspy.Tool], dspy.InputField()), **fields}
    return dspy.Signature(fields, draw(st.sampled_from([None, "Do it.", "Two\n  lines\n"])))


def values_for(draw: st.DrawFn, fields: Any, skip: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if skip and not draw(st.integers(0, skip)):
            continue
        kind = field.annotation
        if kind is not dspy.History:
            found[name] = draw(VALUES[kind]) if kind in GIVEN_ONLY or draw(st.integers(0, 7)) else draw(ANYTHING)
    return found


@st.composite
def histories(draw: st.DrawFn, signature: Any) -> dspy.History:
    turns = []
    for _ in range(draw(st.integers(0, 3))):
        turn = values_for(draw, signature.fields, skip=3)
        if not draw(st.integers(0, 3)):
            turn["called"] = draw(tool_calls())
        turns.append(turn)
    return dspy.History(messages=turns)


def mutated(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, max(len(text), 1)))
    kind = draw(st.sampled_from([*["as is"] * 7, "cut", "chatter", "quoted", "noise", "noise", "garbage", "empty"]))
    return {
        "as is": text,
        "cut": text[:at],
        "chatter": f"Sure! {text}\nAnything else? {{",
        "quoted": f"```json\n{text.replace(chr(34), chr(39))}\n```",
        "noise": text[:at] + draw(WORDS) + text[at:],
        "garbage": draw(WORDS),
        "empty": "",
    }[kind]


@st.composite
def answers(draw: st.DrawFn, signature: Any, adapter: str) -> dict[str, Any]:
    """Return a chat completion: text in either format, right or damaged, with tool calls and reasoning beside it or not."""
    values = values_for(draw, signature.output_fields, skip=draw(st.sampled_from([0, 0, 0, 6])))
    shown = signature
    for name in signature.output_fields:
        if name not in values:
            shown = shown.delete(name)
    try:
        writer = WRITERS[adapter if draw(st.integers(0, 7)) else draw(st.sampled_from(list(WRITERS)))]
        text = mutated(draw, writer.format_assistant_message_content(shown, values)) if shown.output_fields else draw(WORDS)
    except Exception:
        text = draw(WORDS)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if not draw(st.integers(0, 3)):
        arguments = draw(st.sampled_from(['{"x": 1}', "{'x': 1", "", "[1]"]))
        function = {"name": draw(st.sampled_from(["add", "add", None])), "arguments": arguments}
        message["tool_calls"] = [{"id": "c9", "type": "function", "function": function}]
    if not draw(st.integers(0, 3)):
        message["reasoning_content"] = draw(WORDS)
    return {"choices": [{"finish_reason": "stop", "message": message}], "usage": {}}


@st.composite
def calls(draw: st.DrawFn) -> Call:
    signature, adapter = draw(signatures()), draw(st.sampled_from(["chat", "json"]))
    inputs = values_for(draw, signature.input_fields)
    for name, field in signature.input_fields.items():
        if field.annotation is dspy.History:
            inputs[name] = draw(histories(signature))
    adapter_options: dict[str, Any] = {}
    if draw(st.booleans()):
        adapter_options["use_native_function_calling"] = draw(st.booleans())
    if not draw(st.integers(0, 3)):
        adapter_options["parallel_tool_calls"] = draw(st.booleans())
    options: dict[str, Any] = {}
    for name, strategy in (("reasoning_effort", EFFORTS), ("tools", st.just([{"type": "web"}])), ("parallel_tool_calls", st.booleans()),
                           ("temperature", st.sampled_from([0.0, 0.5])), ("response_format", st.just({"type": "text"})),
                           ("tool_choice", st.just("none"))):  # fmt: skip
        if not draw(st.integers(0, 5)):
            options[name] = draw(strategy)
    params = draw(st.sets(st.sampled_from(["response_format", "response_format", "tools", "reasoning_effort"])))
    return Call(
        signature,
        inputs,
        [values_for(draw, signature.fields, skip=draw(st.sampled_from([0, 5]))) for _ in range(draw(st.integers(0, 2)))],
        adapter,
        adapter_options,
        options,
        {} if draw(st.integers(0, 4)) else {"reasoning_effort": draw(EFFORTS)},
        draw(st.sampled_from(["scripted/test", "scripted/test", "openai/gpt-5-mini"])),
        Capabilities(draw(st.booleans()), draw(st.booleans()), draw(st.booleans()), frozenset(params)),
        [draw(answers(signature, adapter)), draw(answers(signature, "json"))],
    )


def client_of(call: Call) -> ScriptedLM:
    return ScriptedLM(call.answers, model=call.model, capabilities=call.capabilities, **call.client_options)


def through_dspy(call: Call) -> tuple[list[Any], Any]:
    client = client_of(call)
    program = dspy.Predict(call.signature, **call.options)
    program.demos = [dspy.Example(**demo) for demo in call.demos]
    adapter = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter}[call.adapter](**call.adapter_options)
    try:
        with dspy.context(lm=BridgeLM(client), adapter=adapter, disable_history=True, trace=[], warn_on_type_mismatch=False):
            outcome: Any = dict(program(**call.inputs).items())
    except DSPyParseError:
        outcome = UNREADABLE
    except Exception as error:
        outcome = error
    return [(request.messages, request.options) for request in client.requests], outcome


def natively(call: Call) -> tuple[list[Any], Any]:
    client = client_of(call)
    adapter = {"chat": ChatAdapter, "json": JSONAdapter}[call.adapter](**call.adapter_options)
    program = Predict(from_dspy(call.signature), adapter=adapter, **call.options)
    program.demos = [dict(demo) for demo in call.demos]
    scope = Scope(new_run_id(), Bus(keep=0))
    try:
        outcome: Any = dict(program.call(call.inputs, session=Session(lm=client), scope=scope, engine="native").items())
    except AdapterParseError:
        outcome = UNREADABLE
    except Exception as error:
        outcome = error
    return [(request.messages, request.options) for request in client.requests], outcome


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@PROFILE
@given(calls())
def test_requests_and_fields_are_dspys(call):
    sent, fields = through_dspy(call)
    mine, found = natively(call)
    event("raised" if isinstance(fields, Exception) else "unreadable" if isinstance(fields, str) else "fields")
    event(f"{len(sent)} requests")
    if isinstance(found, DataError):
        # A value that is no image, sound or file: DSPy warns and sends it as text, ours says so before anything is sent.
        assert re.match(r"\w+: ", found.message)
        assert any(
            word in str(one.annotation) for one in call.signature.input_fields.values() for word in ("Image", "Audio", "File")
        )
        assert mine == []
        return
    if isinstance(fields, Exception) and not isinstance(found, Exception):
        # DSPy breaks on some texts while it reads them (`[] in enum.__members__`); ours calls such an answer unreadable.
        assert any(frame.name == "parse" for frame in traceback.extract_tb(fields.__traceback__)), fields
        assert mine[: len(sent)] == sent
        return
    assert mine == sent
    assert isinstance(found, Exception) == isinstance(fields, Exception), (fields, found)
    if not isinstance(fields, Exception):
        assert found == fields
    if isinstance(fields, dict):
        assert list(found) == list(fields)
        assert list(map(type, found.values())) == list(map(type, fields.values()))
