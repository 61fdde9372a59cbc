"""The grammar: what is written is read back, DSPy reads the same, and no text crashes it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Optional, Union

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex_nb.errors import SignatureSyntaxError
from dspex_nb.signatures import MISSING, Signature, parse_cell, read_type, type_text

QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6) | st.sampled_from(
    ["a->b", "a # b", "it's", 'q"', "[", "\\", ","]
)
LITERALS = st.lists(WORDS | st.integers(-9, 9) | st.booleans(), min_size=1, max_size=3).map(lambda values: Literal[tuple(values)])
LEAVES = st.sampled_from([str, int, float, bool, Any, list, dict, bytes, dt.date]) | LITERALS
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),
        st.tuples(inner, inner).map(lambda pair: dict[str, pair[0]]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),
        inner.map(lambda kind: Optional[kind]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda pair: Union[pair]),  # noqa: UP007
    ),
    max_leaves=4,
)
NAMES = st.lists(
    st.from_regex(r"[a-zé][a-z0-9_é]{0,8}", fullmatch=True).filter(lambda name: not __import__("keyword").iskeyword(name)),
    min_size=2,
    max_size=5,
    unique=True,
)
DEFAULTS = {
    str: WORDS,
    int: st.integers(),
    bool: st.booleans(),
    list: st.just([]),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def declarations(draw: st.DrawFn) -> tuple[list[tuple[str, Any, Any]], int]:
    """Return (name, type, default) triples and how many of them are inputs."""
    names = draw(NAMES)
    fields = []
    for name in names:
        kind = draw(TYPES)
        default = draw(DEFAULTS[kind]) if kind in DEFAULTS and draw(st.booleans()) else MISSING
        fields.append((name, kind, default))
    return fields, draw(st.integers(1, len(names) - 1))


@QUICK
@given(TYPES)
def test_types_are_read_back(kind):
    assert read_type(type_text(kind)) == kind


@QUICK
@given(declarations())
def test_one_line_form_round_trips_through_spec(drawn):
    fields, cut = drawn
    texts = [f"{name}: {type_text(kind)}" + ("" if default is MISSING else f" = {default!r}") for name, kind, default in fields]
    signature = Signature(f"{', '.join(texts[:cut])} -> {', '.join(texts[cut:])}")
    assert [(field.name, field.type, field.default) for field in signature.fields.values()] == fields
    assert Signature(signature.spec) == signature
    assert Signature(signature.spec).digest == signature.digest


@QUICK
@given(declarations(), st.lists(st.text("abc äß.:", min_size=1, max_size=20), max_size=5))
def test_cells_mean_what_their_lines_say(drawn, words):
    fields, cut = drawn
    descs = [" ".join(words[index].split()) if index < len(words) else "" for index in range(len(fields))]
    lines = [f"{name}: {type_text(kind)}" + ("" if default is MISSING else f" = {default!r}") + (f"   # {desc}" if desc else "")
             for (name, kind, default), desc in zip(fields, descs, strict=True)]  # fmt: skip
    cell = parse_cell("S", "\n".join(["Do the task.", "", *lines[:cut], "->", *lines[cut:]]))
    assert cell.instructions == "Do the task."
    assert [(field.name, field.type, field.default) for field in cell.fields.values()] == fields
    assert [field.desc for field in cell.fields.values()] == descs


@QUICK
@given(st.text("ab:[],->#='\"\n é(){}.|3", max_size=40))
def test_any_text_is_read_or_refused_with_a_caret_inside_it(text):
    try:
        signature = parse_cell("S", text)
    except SignatureSyntaxError as error:  # most texts are refused; which ones, the grammar decides
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)  # noqa: PT017 - either outcome is checked
        assert 0 <= error.column <= len(lines[error.line - 1])  # noqa: PT017
        assert error.hint  # noqa: PT017
    else:
        assert signature.outputs
