"""compact: the words of its prompt, the bounds of its schema, and that every answer the schema allows is read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from dspex_nb.adapters import CompactAdapter
from dspex_nb.adapters.bounds import answer_shape, from_answer, stated_range, to_answer
from dspex_nb.messages import Capabilities
from dspex_nb.signatures import InputField, OutputField, Signature, parse_cell

COMPACT = CompactAdapter()
SERVER = Capabilities(response_schema=True, params=frozenset({"response_format"}))
TRIAGE = parse_cell(
    "Triage",
    """Route a customer message to the right desk.

message: str   # what the customer wrote
history: list[str] = []
->
desk: Literal["billing", "tech"]
urgency: int   # 1 (can wait) to 5 (now)
""",
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Inner(pydantic.BaseModel):
    count: int = pydantic.Field(ge=0, le=1000)
    tags: dict[str, int] = {}


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Row(TypedDict):
    key: str
    seen: bool


class Node(pydantic.BaseModel):
    children: list[Node]


def schema_of(signature: Signature) -> dict[str, Any]:
    return COMPACT.options(signature, SERVER)["response_format"]["json_schema"]["schema"]


def test_the_prompt_is_short_and_says_the_task():
    demo = {"message": "It crashed", "history": ["hi"], "desk": "tech", "urgency": 4}
    messages = COMPACT.messages(TRIAGE, [demo], {"message": "My bill is wrong"})
    assert messages == [
        {
            "role": "system",
            "content": "Route a customer message to the right desk.\nMessage: what the customer wrote\n"
            "Answer in JSON: desk (billing or tech), urgency (1 (can wait) to 5 (now))",
        },
        {"role": "user", "content": 'Message: It crashed\nHistory: ["hi"]'},
        {"role": "assistant", "content": '{"desk": "tech", "urgency": 4}'},
        {"role": "user", "content": "Message: My bill is wrong"},
    ]


def test_default_instructions_are_left_out_and_demos_may_lack_fields():
    signature = Signature("review -> sentiment: Literal['positive', 'negative'], why")
    messages = COMPACT.messages(signature, [{"review": "fine", "sentiment": "positive"}], {"review": "bad"})
    assert messages[0]["content"] == "Answer in JSON: sentiment (positive or negative), why"
    assert messages[2]["content"] == '{"sentiment": "positive"}'
    assert COMPACT.messages(signature.with_instructions("Judge."), [], {})[0]["content"].startswith("Judge.\nAnswer in JSON")


def test_options_by_capability():
    options = COMPACT.options(TRIAGE, SERVER)
    assert options["response_format"]["json_schema"]["strict"] is True
    assert COMPACT.options(TRIAGE, Capabilities(params=frozenset({"response_format"})))["response_format"] == {
        "type": "json_object"
    }
    assert set(COMPACT.options(TRIAGE, Capabilities())) == {"max_tokens"}


def test_schema_bounds_everything():
    class S(Signature):
        q: str = InputField()
        reasoning: str = OutputField()
        answer: str = OutputField(max_length=30)
        text: str = OutputField()
        n: int = OutputField(ge=0, le=1000)
        free: int = OutputField()
        few: list[str] = OutputField(max_length=3)
        many: list[str] = OutputField()

    properties = schema_of(S)["properties"]
    assert properties["reasoning"]["maxLength"] == 240
    assert properties["answer"]["maxLength"] == 30
    assert properties["text"]["maxLength"] == 200
    assert properties["n"] == {"type": "integer", "minimum": 0, "maximum": 1000}
    assert properties["free"]["maximum"] == 10**15 - 1
    assert properties["few"]["maxItems"] == 3
    assert properties["many"]["maxItems"] == 8
    assert schema_of(TRIAGE)["properties"]["urgency"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("1 (can wait) to 5 (now)", (1, 5)),
        ("1-5", (1, 5)),
        ("1–10, ten is best", (1, 10)),  # noqa: RUF001
        ("from 0 to 100", (0, 100)),
        ("between 1 and 7", (1, 7)),
        ("how urgent it is (1 to 5)", (1, 5)),
        ("on a scale of 1 to 5", (1, 5)),
        ("-2 to 2", (-2, 2)),
        ("the year", None),
        ("the minutes, e.g. about 3 to 4 or 5 to 6", None),
        ("a film made in 1990 to 2000 style", None),
        ("flight ABC 10-20", None),
        ("5 to 1", None),
        ("1 to 2.5", None),
        ("10 to 20%", None),
        ("up to 5", None),
    ],
)
def test_stated_ranges(text, bounds):
    assert stated_range(text) == bounds


@pytest.mark.parametrize("kind", [Inner, list[Inner], dict[str, list[int]], Point, Row, tuple[int, str], tuple[int, ...], set[int], Colour,
                                  dt.date, dt.datetime, dt.time, dt.timedelta, uuid.UUID, Decimal, int | None,
                                  Literal["a", 1], list[str] | str, Any, dict, list, bytes])  # fmt: skip
def test_every_object_is_closed_and_requires_all(kind):
    signature = Signature({"inputs": {"q": str}, "outputs": {"a": kind}})
    assert COMPACT.unsupported(signature) is None

    def check(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("type") == "object":
                assert part["additionalProperties"] is False
                assert part["required"] == list(part["properties"])
            if part.get("type") == "array":
                assert "maxItems" in part
            if part.get("type") == "string":
                assert {"maxLength", "pattern", "enum"} & set(part)
            for inner in part.values():
                check(inner)
        elif isinstance(part, list):
            for inner in part:
                check(inner)

    check(schema_of(signature))


def test_what_has_no_bound_goes_elsewhere():
    recursive = Signature({"inputs": {"q": str}, "outputs": {"a": Node}})
    assert "too deeply" in COMPACT.unsupported(recursive)


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Return what a schema allows, by the schema alone: an adversarial model."""
    if "anyOf" in schema:
        return st.one_of(*map(instances, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            return st.fixed_dictionaries({name: instances(part) for name, part in schema["properties"].items()})
        case "array" if "prefixItems" in schema:
            return st.tuples(*map(instances, schema["prefixItems"])).map(list)
        case "array":
            return st.lists(instances(schema["items"]), max_size=schema["maxItems"], min_size=schema.get("minItems", 0))
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"], fullmatch=True).map(lambda text: text.rstrip("\n"))
        case "string":
            return st.text(
                st.characters(exclude_categories=["Cs"]), max_size=schema["maxLength"], min_size=schema.get("minLength", 0)
            )
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False, width=32)
        case "boolean":
            return st.booleans()
    return st.none()


class Everything(Signature):
    q: str = InputField()
    text: str = OutputField()
    desk: Literal["billing", "it's", 3] = OutputField()
    colour: Colour = OutputField()
    level: int = OutputField(desc="1 to 5")
    maybe: int | None = OutputField()
    ratio: float = OutputField()
    money: Decimal = OutputField()
    sure: bool = OutputField()
    day: dt.date = OutputField()
    when: dt.datetime = OutputField()
    at: dt.time = OutputField()
    span: dt.timedelta = OutputField()
    ident: uuid.UUID = OutputField()
    inner: Inner = OutputField()
    inners: list[Inner] = OutputField()
    table: dict[str, list[int]] = OutputField()
    point: Point = OutputField()
    row: Row = OutputField()
    pair: tuple[int, str] = OutputField()
    bag: set[int] = OutputField()


@settings(max_examples=150, deadline=None)
@given(instances(answer_shape(Everything.outputs.values()).schema))
def test_whatever_the_schema_allows_is_read(answer):
    parsed = COMPACT.parse(Everything, json.dumps(answer, indent=2))
    assert list(parsed) == list(Everything.outputs)
    assert parsed["text"] == answer["text"]
    assert parsed["level"] in range(1, 6)
    assert parsed["table"] == {item["key"]: item["value"] for item in answer["table"]}
    assert isinstance(parsed["inner"], Inner)
    assert 0 <= parsed["inner"].count <= 1000


@settings(max_examples=80, deadline=None)
@given(instances(answer_shape(Everything.outputs.values()).schema))
def test_max_tokens_fits_the_longest_answer_in_bytes(answer):
    # A tokenizer of bytes spends at most one token a byte; \uXXXX escapes are the longest way to write text.
    assert len(json.dumps(answer, ensure_ascii=True, indent=4).encode()) <= COMPACT.options(Everything, SERVER)["max_tokens"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[str, int], {"a": 1}),
        (list[dict[str, int]], [{"a": 1}]),
        (dict[str, dict[str, int]], {"a": {"b": 1}}),
        (dict[str, int] | None, None),
        (dict[str, int] | None, {"a": 1}),
        (Inner, {"count": 1, "tags": {"a": 2}}),
        (tuple[int, dict[str, int]], [1, {"a": 2}]),
    ],
)
def test_mappings_cross_as_pairs(kind, value):
    assert from_answer(kind, json.loads(json.dumps(to_answer(kind, value)))) == value


def test_parse_takes_plain_objects_for_mappings_too():
    assert COMPACT.parse(Signature("q -> t: dict[str, int]"), '{"t": {"a": 1}}') == {"t": {"a": 1}}
