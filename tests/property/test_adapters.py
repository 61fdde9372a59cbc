"""chat and json against the installed DSPy: the same messages, request options and parse results on generated signatures and answers.

2,300 cases under the profile 'ci', each for both adapters; `DSPEX_ADAPTER_CASES=10` takes ten times as many, and new ones.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import os
from decimal import Decimal
from typing import Any, Literal, Optional, Union

import dspy
import pydantic
import pytest
from dspy.adapters.json_adapter import _get_structured_outputs_response_format
from dspy.clients.legacy_requests import _strict_json_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from dspex_nb.adapters import ChatAdapter, CompactAdapter, JSONAdapter
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures import MISSING, Field, Signature
from dspex_nb.signatures.fields import wording

CASES = int(os.environ.get("DSPEX_ADAPTER_CASES", "1"))
settings.register_profile(
    "ci", max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=CASES == 1
)
CI = settings.get_profile("ci")

PAIRS = [(dspy.ChatAdapter(), ChatAdapter()), (dspy.JSONAdapter(), JSONAdapter())]


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Word(str, enum.Enum):  # noqa: UP042 - users of DSPy write it so
    YES = "yes"


class Item(pydantic.BaseModel):
    label: str = pydantic.Field(description="a label", max_length=5)
    count: Optional[int] = None  # noqa: UP045
    parts: list[Item] = []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=24) | st.sampled_from(
    [
        "«x»",
        "a\nb",
        "[[ ## a ## ]]",
        "{}",
        "  pad ",
        "\u2028",
        "x\x0cy",
        '"q"',
        "Literal['a']",
        "1",
        "null",
        "True",
        "nan",
        "None",
    ]
)
ITEMS = st.builds(Item, label=st.text("ab«é", max_size=5), count=st.none() | st.integers(0, 9))
DATES = st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(),
    float: st.floats(),
    bool: st.booleans(),
    Colour: st.sampled_from(Colour),
    Word: st.sampled_from(Word),
    Item: ITEMS,
    Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=2),
    dt.date: DATES,
    dt.datetime: st.datetimes(),
    Any: TEXT | st.integers() | st.none(),
    dict: st.dictionaries(TEXT, TEXT, max_size=2),
    list: st.lists(TEXT | st.integers(), max_size=3),
    Literal["a", "it's", 'x"y', "both'\"", 2, True]: st.sampled_from(["a", "it's", 2, True]),
    list[str]: st.lists(TEXT, max_size=3),
    list[Item]: st.lists(ITEMS, max_size=2),
    list[Literal["p", "q"]]: st.lists(st.sampled_from(["p", "q"]), max_size=2),
    dict[str, int]: st.dictionaries(TEXT, st.integers(), max_size=2),
    dict[str, list[Colour]]: st.dictionaries(TEXT, st.lists(st.sampled_from(Colour), max_size=2), max_size=2),
    tuple[int, str]: st.tuples(st.integers(), TEXT),
    set[int]: st.sets(st.integers(), max_size=3),
    Optional[int]: st.none() | st.integers(),  # noqa: UP045
    str | None: st.none() | TEXT,
    Union[int, str]: st.integers() | TEXT,  # noqa: UP007
    Union[str, int, None]: TEXT | st.integers() | st.none(),  # noqa: UP007
    Item | None: st.none() | ITEMS,
}
NAMES = st.lists(
    st.sampled_from(["question", "context", "a", "b", "answer", "someText", "x1", "completed_"]),
    min_size=2,
    max_size=5,
    unique=True,
)
RULES = st.sampled_from([{}, {}, {"ge": 1}, {"ge": 1, "le": 5}, {"gt": 0, "multiple_of": 2}])


@st.composite
def signatures(draw: st.DrawFn) -> tuple[type[dspy.Signature], Signature]:
    """Return one signature in DSPy's form and in ours."""
    names = draw(NAMES)
    cut = draw(st.integers(1, len(names) - 1))
    theirs: dict[str, tuple[Any, Any]] = {}
    ours: list[Field] = []
    for index, name in enumerate(names):
        kind = draw(st.sampled_from(list(KINDS)))
        desc = draw(st.none() | st.sampled_from(["", "short", "two\nlines", f"${{{name}}}"]))
        rules = draw(RULES) if kind in (int, float) else {}
        default = draw(KINDS[kind]) if draw(st.integers(0, 4)) == 0 and not rules else PydanticUndefined
        make = dspy.InputField if index < cut else dspy.OutputField
        options = dict(rules) if desc is None else {"desc": desc, **rules}
        theirs[name] = (kind, make(**options, **({} if default is PydanticUndefined else {"default": default})))
        field = Field(name=name, type=kind, is_input=index < cut, constraints=wording(rules), rules=rules,
                      default=MISSING if default is PydanticUndefined else default)  # fmt: skip
        ours.append(field if desc is None else field.described(desc))
    text = draw(st.none() | st.sampled_from(["Do it.", "Two\n  lines\n", "", "\n  Indented\n    more\n  less"]))
    return dspy.Signature(theirs, text), Signature(ours, text)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, Signature, list[dict[str, Any]], dict[str, Any]]:
    """Return a signature with demos, whole and partial, and inputs of the right and the wrong type."""
    theirs, ours = draw(signatures())
    anything = st.one_of(*KINDS.values())

    def values(fields: Any) -> dict[str, Any]:
        kept = {name: draw(KINDS[field.type]) if draw(st.integers(0, 3)) else draw(anything) for name, field in fields.items()}
        return {name: value for name, value in kept.items() if draw(st.integers(0, 5))}

    demos = [values(ours.fields) for _ in range(draw(st.integers(0, 3)))]
    return theirs, ours, demos, values(ours.inputs)


def outcome(call: Any) -> Any:
    """Return what a call returned, or that it raised."""
    try:
        return "returned", call()
    except Exception:
        return "raised", None


def same(first: Any, second: Any) -> bool:
    """Equality that takes NaN as equal to itself and tells 1 from True."""
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, Decimal) and first.is_nan():
        return second.is_nan()
    return first == second


@settings(CI, max_examples=700 * CASES)
@given(calls())
def test_messages_are_dspys(call):
    theirs, ours, demos, inputs = call
    for dspys, mine in PAIRS:
        want = outcome(lambda a=dspys: a.format(theirs, demos, inputs))
        got = outcome(lambda a=mine: a.messages(ours, demos, inputs))
        assert got == want


@settings(CI, max_examples=300 * CASES)
@given(signatures())
def test_response_format_and_state_are_dspys(pair):
    theirs, ours = pair
    assert ours.dump_state() == theirs.dump_state()
    got = JSONAdapter().options(ours, Capabilities(response_schema=True, params=frozenset({"response_format"})))[
        "response_format"
    ]
    kwargs: dict[str, Any] = {}

    class Server:
        supported_params = ("response_format",)
        supports_response_schema = True

    dspy.JSONAdapter()._prepare_response_format(Server(), kwargs, theirs)
    want = kwargs["response_format"]
    if not isinstance(want, dict):
        schema = _strict_json_schema(_get_structured_outputs_response_format(theirs).model_json_schema())
        want = {"type": "json_schema", "json_schema": {"name": want.__name__, "schema": schema, "strict": True}}
    assert json.dumps(got) == json.dumps(want)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Any, Signature, list[str]]:
    """Return a signature and answers to it: right, slightly wrong, and wild."""
    theirs, ours = draw(signatures())
    values = {name: draw(KINDS[field.type]) for name, field in ours.outputs.items()}
    if draw(st.booleans()):
        values = {name: value if draw(st.integers(0, 4)) else draw(st.one_of(*KINDS.values())) for name, value in values.items()}
    if draw(st.integers(0, 5)) == 0:
        values.pop(draw(st.sampled_from(list(values))))
    texts = []
    for dspys, _ in PAIRS:
        text = dspys.format_assistant_message_content(theirs, values, missing_field_message="none")
        kind = draw(st.sampled_from(["as is", "cut", "chatter", "quoted", "noise"]))
        at = draw(st.integers(0, max(len(text), 1)))
        if kind == "cut":
            text = text[:at]
        elif kind == "chatter":
            text = f"Sure! {text}\nAnything else? {{"
        elif kind == "quoted":
            text = f"```json\n{text.replace(chr(34), chr(39))}\n```"
        elif kind == "noise":
            text = text[:at] + draw(TEXT) + text[at:]
        texts.append(text)
    return theirs, ours, texts


@settings(CI, max_examples=1100 * CASES)
@given(answers())
def test_parse_results_are_dspys(answer):
    theirs, ours, texts = answer
    for (dspys, mine), text in zip(PAIRS, texts, strict=True):
        want = outcome(lambda a=dspys, t=text: a.parse(theirs, t))
        if want[0] == "raised":
            with pytest.raises(AdapterParseError):
                mine.parse(ours, text)
        else:
            got = mine.parse(ours, text)
            assert same(got, want[1]), (got, want[1])


@settings(CI, max_examples=200 * CASES)
@given(signatures(), st.data())
def test_compact_reads_back_what_its_demos_show(pair, data):
    _, ours = pair
    compact = CompactAdapter()
    if compact.unsupported(ours):
        return
    easy = {
        str: TEXT,
        Any: st.just("word"),
        dict: st.just({"k": "v"}),
        list: st.just(["w"]),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }
    demo = {name: data.draw(easy.get(field.type, KINDS[field.type])) for name, field in ours.fields.items()}
    if any(isinstance(value, float | str | None) for value in demo.values()):
        demo = {name: value for name, value in demo.items() if value is not None}
    turns = compact.messages(ours, [demo], {name: demo.get(name) for name in ours.inputs})
    shown = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if not shown:
        return
    held = json.loads(shown[0])
    readable = {
        name
        for name in ours.outputs
        if ours.outputs[name].type in (str, int, bool, Colour, Item, dict[str, int], list[str], dt.date)
    }
    if set(ours.outputs) <= readable and set(held) == set(ours.outputs):
        assert compact.parse(ours, shown[0]) == {name: demo[name] for name in ours.outputs}
