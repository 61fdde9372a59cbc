"""The `%%signature` body: what it means, and where the caret of an error stands."""

from __future__ import annotations

import enum
from typing import Literal

import pytest

from dspex_nb.errors import SignatureSyntaxError
from dspex_nb.signatures import Signature, parse_cell

TRIAGE = """Route a customer message to the right desk.

message: str                     # what the customer wrote
history: list[str] = []          # earlier messages, oldest first
->
desk: Literal["billing", "tech", "sales"]
urgency: int                     # 1 (can wait) to 5 (now)
"""


class Desk(enum.Enum):
    TECH = "tech"


def test_the_cell_of_the_manual():
    s = parse_cell("Triage", TRIAGE)
    assert s.name == "Triage"
    assert s.instructions == "Route a customer message to the right desk."
    assert s.inputs["message"].desc == "what the customer wrote"
    assert s.inputs["history"].default == []
    assert not s.inputs["history"].required
    assert s.outputs["desk"].type == Literal["billing", "tech", "sales"]
    assert s.outputs["urgency"].desc == "1 (can wait) to 5 (now)"


def test_one_line_is_a_whole_cell():
    assert parse_cell("S", "question, context: list[str] -> answer: str") == Signature(
        "question, context: list[str] -> answer: str"
    )
    assert parse_cell("S", "Be brief.\nq -> a").instructions == "Be brief."
    assert parse_cell("S", "q -> a  # be brief").instructions == "be brief"


def test_a_hash_or_arrow_in_a_string_is_text():
    s = parse_cell("S", "q: str = 'a # b -> c'  # note\n->\ntag: Literal['#1', '->']\n")
    assert s.inputs["q"].default == "a # b -> c"
    assert s.inputs["q"].desc == "note"
    assert s.outputs["tag"].type == Literal["#1", "->"]


def test_prose_may_hold_colons_and_arrows():
    s = parse_cell("S", "Map x -> y.\nNote: be kind.\nExample: answer in one word\n\nq: str\n->\na: str")
    assert s.instructions == "Map x -> y.\nNote: be kind.\nExample: answer in one word"
    assert list(s.fields) == ["q", "a"]


def test_brackets_may_span_lines():
    s = parse_cell("S", "q: str\n->\ndesk: Literal[\n    'a',  # first\n    'b',\n]  # where to\nn: int")
    assert s.outputs["desk"].type == Literal["a", "b"]
    assert s.outputs["desk"].desc == "first where to"
    assert s.outputs["n"].type is int


def test_descriptions_go_on_in_indented_comments():
    s = parse_cell("S", "q: str  # the question\n        # in full\n# a remark\n->\na  # short")
    assert s.inputs["q"].desc == "the question in full"
    assert s.outputs["a"].desc == "short"
    assert s.outputs["a"].untyped


def test_defaults_of_enums_and_names_of_the_notebook():
    s = parse_cell("S", "q: Desk = Desk.TECH\n->\na: str", {"Desk": Desk})
    assert s.inputs["q"].default is Desk.TECH


BAD = [
    ("message: list[strr]\n->\nb: int", 1, 14, "unknown type 'strr'", "did you mean 'str'"),
    ("Do.\n\nnote: srt\n->\nb", 3, 6, "unknown type 'srt'", "did you mean 'str'"),
    ("a: str\nb: int", 2, 6, "expected '->'", "'->' on a line of its own"),
    ("a: str\n->\n", 2, 2, "no output field", "answer: str"),
    ("a: str\n->\nb: list[str\nc: int", 3, 7, "never closed", "close the bracket"),
    ("a: str\n->\nb: str]", 3, 6, "without its opening bracket", "brackets"),
    ("a: str\n->\nb\nb", 4, 0, "declared twice", "distinct names"),
    ("a: str\n->\na", 3, 0, "declared twice", "distinct names"),
    ("a: str\n->\nb\n->\nc", 4, 0, "second '->'", "below the first"),
    ("a: str =\n->\nb", 1, 8, "expected a default", "history: list[str] = []"),
    ("a: int = 'x'\n->\nb", 1, 9, "is not a int", "change the default"),
    ("a: int = f()\n->\nb", 1, 9, "a default is a literal", "such as 3"),
    ("a: Desk = Desk.TEHC\n->\nb", 1, 10, "no member 'TEHC'", "did you mean 'TECH'"),
    ("a:\n->\nb", 1, 2, "expected a type after ':'", "urgency: int"),
    ("a: str\n->\nmy field: str", 3, 2, "is not a field name", "my_field"),
    ("a: str\n->\nclass: str", 3, 0, "Python keyword", "class_"),
    ("a: str\n->\n_b: str", 3, 0, "underscore", "'b'"),
    ("a: str\n->\nb: 3", 3, 3, "found the value 3", "Literal"),
    ("a: str\n->\nb: x.y.z", 3, 3, "unknown type 'x'", "above"),
    ("a: str\n->\nb: datetime.dat", 3, 3, "no type 'dat'", "did you mean 'date'"),
    ("a: str\n->\nb: data", 3, 3, "is not a type but a int", "class"),
    ("a: str\n->\nb: __import__('os')", 3, 3, "expected a type", "list[str]"),
    ("a: str\n->\nb: list[\n   strr,\n]", 4, 3, "unknown type 'strr'", "did you mean 'str'"),
    ("é: str\n->\nb: Literal['é', zz]", 3, 16, "unknown name 'zz' in Literal", "Literal['é', 'zz']"),
    (
        "a: str\n->\nb: Literal[food, 'x y', drink]",
        3,
        11,
        "unknown name 'food'",
        "quote the words: Literal['food', 'x y', 'drink']",
    ),
    ("a: str\n->\nb: Literal['x, y]", 3, 11, "never closed", "quotes"),
    ("a: str\n->\nb: Optional[int, str]", 3, 3, "is no type", ""),
    ("a: str\n->\nb: Literal[()]", 3, 3, "at least one value", "Literal['yes', 'no']"),
    ("", 1, 0, "no fields", "question -> answer"),
    ("just prose", 1, 10, "expected '->'", "of its own"),
    ("a -> b -> c", 1, 7, "second '->'", "after one"),
    ("a, 1b -> c", 1, 3, "is not a field name", "question"),
    ("a ->", 1, 4, "no output field", "question -> answer"),
    ("a,, b -> c", 1, 2, "expected a field name", "question: str"),
    ("a -> b\nmore words", 2, 0, "behind the one-line form", "lone '->'"),
]


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), BAD)
def test_errors_have_line_caret_and_next_act(text, line, column, message, hint):
    with pytest.raises(SignatureSyntaxError) as caught:
        parse_cell("S", text, {"Desk": Desk, "data": 3})
    error = caught.value
    assert message in error.message
    assert hint in error.hint
    assert (error.line, error.column) == (line, column)
    assert error.text == (text.split("\n")[line - 1])
