"""Signatures drawn at random are DSPy's in every part: fields, order, types, descriptions, bounds, edits, state, and refusals."""

from __future__ import annotations

import enum
import re
import warnings
from functools import partial
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types
import dspy
import pydantic
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dspex_nb.bridge import from_dspy, to_dspy
from dspex_nb.errors import SignatureError, SignatureSyntaxError
from dspex_nb.signatures import InputField, OutputField, Signature
from dspex_nb.signatures.signature import SignatureMeta

MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)


class Model(pydantic.BaseModel):
    label: str


class Colour(enum.Enum):
    RED = "red"


class Spaces:
    class Inner(pydantic.BaseModel):
        n: int


OWN = {"Model": Model, "Colour": Colour, "Spaces": Spaces, "dspy": dspy, "NoneType": type(None)}

WORDS = st.text("ab ,'\"[]\\(){}#é:=|-", max_size=6)
LITERALS = st.lists(
    WORDS.map(repr)
    | st.integers(0, 99).map(str)
    | st.sampled_from(["True", "None", "b'x'", "1.5", "Colour.RED", "Literal['in']"]),
    min_size=1,
    max_size=3,
).map(lambda items: f"Literal[{', '.join(items)}]")
BOUNDED = st.sampled_from(
    [
        "Annotated[int, Field(ge=1, le=9)]",
        "Annotated[str, Field(max_length=5, description='short')]",
        "Annotated[list[int], 'note']",
        "Annotated[float, Field(gt=0), 'in metres']",
    ]
)
PLAIN = st.sampled_from(
    ["str", "int", "float", "bool", "list", "dict", "bytes", "Any", "NoneType", "datetime.date", "typing.Any", "None", "(int)"]
) | st.sampled_from(
    ["Model", "Colour", "Spaces.Inner", "dspy.Image", "dspy.History", "dspy.Tool", "dspy.Code", "pathlib.Path", "decimal.Decimal"]
)


def nested(inner):
    return st.one_of(
        inner.map("list[{}]".format),
        inner.map("List[ {} ]".format),
        inner.map("dict[str, {}]".format),
        inner.map("Dict[str,{}]".format),
        inner.map("tuple[{}, ...]".format),
        inner.map("Optional[{}]".format),
        inner.map("set[{}]".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"Union[{', '.join(parts)}]"),
        st.lists(inner, min_size=2, max_size=3).map(" | ".join),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: f"tuple[{', '.join(parts)}]"),
    )


KINDS = st.recursive(PLAIN | LITERALS, nested, max_leaves=4) | BOUNDED
NAMES = st.lists(
    st.sampled_from(["question", "HTMLText2", "camelCase", "a_b", "x1", "copy", "reasoning", "über", "type", "k_9_k", "answer"]),
    min_size=2,
    max_size=5,
    unique=True,
)
SEPARATORS = st.sampled_from([", ", ",", " , ", ",\n  ", ", # a note\n"])
INSTRUCTIONS = st.none() | st.sampled_from(["", "Do it.", "  Two\n    lines.\n", "  "])


@st.composite
def specs(draw):
    names = draw(NAMES)
    fields = [
        name if draw(st.booleans()) else f"{name}{draw(st.sampled_from([': ', ':', ' : ']))}{draw(KINDS)}" for name in names
    ]
    cut = draw(st.integers(0, len(names) - 1))
    comma = draw(SEPARATORS)
    return (
        f"{comma.join(fields[:cut])}{draw(st.sampled_from([' -> ', '->', chr(10) + '->' + chr(10)]))}{comma.join(fields[cut:])}"
    )


def quiet(make, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prefix= is deprecated in DSPy, and field names may shadow a method
        return make(*args, **options)


def facts(info):
    """What a DSPy field says, each part in a form that can be compared."""
    options = (info.title, info.description, info.examples, info.alias, info.exclude, info.frozen)
    factory = info.default_factory
    return (
        info.annotation,
        str(info.annotation),
        repr(info.default),
        factory,
        options,
        sorted(repr(item) for item in info.metadata),
    )


def assert_same(ours, theirs, *, defaults=True):
    assert list(ours.fields) == list(theirs.fields)
    assert list(ours.inputs) == list(theirs.input_fields)
    assert list(ours.outputs) == list(theirs.output_fields)
    assert ours.instructions == theirs.instructions
    assert ours.signature == theirs.signature
    assert ours.dump_state() == theirs.dump_state()
    for name, info in theirs.fields.items():
        one, extra = ours.fields[name], info.json_schema_extra
        assert (one.type, str(one.type)) == (info.annotation, str(info.annotation))
        assert (one.description, one.prefix, one.constraints) == (extra["desc"], extra["prefix"], extra.get("constraints", ""))
        assert one.required == info.is_required() or not defaults
    there = quiet(to_dspy, ours)
    assert there.equals(theirs)
    for name in theirs.fields:
        left, right = facts(there.fields[name]), facts(theirs.fields[name])
        assert left == right or (not defaults and left[:2] == right[:2])
    back = from_dspy(theirs)
    assert back.dump_state() == ours.dump_state()
    if defaults:
        assert back == ours
        assert hash(back) == hash(ours)
        assert back.digest == ours.digest


def both(make_ours, make_theirs):
    """Return what both made, or the errors that both raised."""
    results = []
    for make in (make_ours, make_theirs):
        try:
            results.append(quiet(make))
        except Exception as error:
            results.append(error)
    return results


# Text


@MANY
@given(specs(), INSTRUCTIONS)
def test_texts_are_read_as_dspy_reads_them(text, instructions):
    assume(text.count("->") == 1)  # DSPy takes an arrow inside a string for the arrow
    theirs = quiet(dspy.Signature, text, instructions, custom_types=OWN)
    ours = Signature(text, instructions)  # finds Model, Colour and Spaces where this function sees them
    assert_same(ours, theirs)
    assert Signature(text, instructions, types=OWN) == ours
    assert Signature(text, instructions) == ours


# What DSPy refuses and we read, and why; anything else is a failure.
READ_BY_US = {
    "must contain exactly one '->'": "an arrow inside a string or a comment is text",
    "non-default argument follows default": "fields are given by name, so their order and defaults are independent",
    "UnaryOp": "a negative number in Literal[...] or Field(...) is a value like others",
    "Field types must be types, but received: typing.": "a bare List or Dict means list or dict",
    "<class 'str'>.": "a quoted type is Python's forward reference",
}
# What DSPy reads and we refuse, and why.
REFUSED_BY_US = {
    "no output field": "a call without outputs asks for nothing",
    "is declared twice": "DSPy drops the first silently",
    "is not a field name": "DSPy drops *args, **kwargs and what stands before / silently",
    "expected a field name": "as above",
    "a default is a literal": "DSPy drops defaults unread",
    "expected a default": "as above",
    "the default": "as above; a default that does not fit its type is a mistake",
    "unknown type": "an unknown name quoted inside brackets stays unresolved in DSPy until a call",
    "has no type": "as above",
    "expected a type": "as above",
    "Literal[...] takes": "DSPy puts classes into Literal[...], which no answer can equal",
    "starts with an underscore": "pydantic takes some such names for attributes and drops the field",
    "cannot be written into a prompt": "a final, self or class-variable type is no field's",
    "is no type": "a quoted part inside brackets is read here",
}
SIGNS = st.sampled_from([*"ab:[],->#='\" \n()|.3_*/", "->", "Literal", "int", "None", "List", "Optional", "= 3", "-1", "'int'"])


@st.composite
def damaged(draw):
    text = draw(specs())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(SIGNS | st.just("")) + text[at + draw(st.integers(0, 2)) :]
    return text


@MANY
@given(damaged() | st.text("ab:[],->#='\"\n (){}.|3", max_size=30))
def test_what_one_refuses_the_other_refuses(text):
    ours, theirs = both(lambda: Signature(text, types=OWN), lambda: dspy.Signature(text, custom_types=OWN))
    if isinstance(ours, Exception):
        assert isinstance(ours, SignatureSyntaxError), repr(ours)
        assert 1 <= ours.line <= text.count("\n") + 1
        assert 0 <= ours.column <= len(text.split("\n")[ours.line - 1])
        assert ours.hint
        if not isinstance(theirs, Exception):
            assert any(reason in ours.reason for reason in REFUSED_BY_US), (text, ours)
    elif isinstance(theirs, Exception):
        said = f"{type(theirs).__name__}: {theirs}"
        assert any(reason in said for reason in READ_BY_US), (text, said)
    else:
        assert_same(ours, theirs, defaults=False)


# Classes

TYPES = [str, int, float, bool, list[str], dict[str, Any], Literal["a", "b, c"], Optional[int], Union[int, str], Model, Colour]  # noqa: UP007, UP045
TYPES += [Annotated[int, pydantic.Field(ge=0)], Annotated[str, "kept"], list[Annotated[int, annotated_types.Gt(1)]], dspy.Image]
BOUNDS = {int: {"ge": 1, "lt": 9, "multiple_of": 2}, float: {"gt": 0.5, "le": 2.5, "allow_inf_nan": False}}
BOUNDS |= {str: {"min_length": 1, "max_length": 80, "pattern": "x+"}, list[str]: {"max_length": 3}}
VALUES = {str: "x", int: 4, float: 1.5, bool: True, list[str]: ["a"], Colour: Colour.RED}
OPTIONS = {
    "desc": st.sampled_from(["", "what it is", "${question}", "it's\ntwo lines"]),
    "prefix": st.sampled_from(["Q:", "Question:", ""]),
    "format": st.just(str),
    "description": st.sampled_from(["described"]),
    "title": st.just("Title"),
    "examples": st.just(["one", "two"]),
    "alias": st.just("other"),
    "exclude": st.just(True),
    "frozen": st.just(True),
    "deprecated": st.just("old"),
}
MISSING = object()


@st.composite
def fields(draw):
    """Return a field's type (or none), side and options."""
    kind = draw(st.sampled_from([MISSING, *TYPES]))
    options = {word: draw(OPTIONS[word]) for word in draw(st.lists(st.sampled_from(list(OPTIONS)), max_size=3, unique=True))}
    bounds = BOUNDS.get(kind, {}) if kind is not MISSING else {}
    options |= {
        word: bounds[word] for word in draw(st.lists(st.sampled_from(list(bounds)), unique=True) if bounds else st.just([]))
    }
    if kind is not MISSING and kind in VALUES and draw(st.booleans()):
        value = VALUES[kind]
        options |= {"default_factory": list} if kind == list[str] and draw(st.booleans()) else {"default": value}
    return kind, draw(st.booleans()), options


@st.composite
def bodies(draw):
    return {name: draw(fields()) for name in draw(NAMES)}


def declare(meta, bases, inputs, outputs, body, doc):
    space = {"__module__": __name__, "__annotations__": {}}
    if doc is not None:
        space["__doc__"] = doc
    for name, (kind, is_input, options) in body.items():
        space[name] = (inputs if is_input else outputs)(**options)
        if kind is not MISSING:
            space["__annotations__"][name] = kind
    return meta("Drawn", bases, space)


def declare_ours(body, doc, bases=(Signature,)):
    space = {"__orig_bases__": bases} if bases != (Signature,) else {}

    def meta(name, given, body):
        return SignatureMeta(name, (Signature,), {**body, **space})

    return declare(meta, bases, InputField, OutputField, body, doc)


def declare_theirs(body, doc, bases=(dspy.Signature,)):
    return quiet(declare, type(dspy.Signature), bases, dspy.InputField, dspy.OutputField, body, doc)


@settings(MANY, max_examples=250)
@given(bodies(), INSTRUCTIONS)
def test_classes_declare_the_same(body, doc):
    ours, theirs = declare_ours(body, doc), declare_theirs(body, doc)
    assert_same(ours, theirs)
    assert from_dspy(quiet(to_dspy, ours)) == ours


@settings(MANY, max_examples=60)
@given(bodies(), bodies(), bodies(), INSTRUCTIONS, INSTRUCTIONS, INSTRUCTIONS)
def test_classes_inherit_the_same(first, second, third, doc1, doc2, doc3):
    # What DSPy keeps and a value does not: a parent's blank docstring that is not empty, and where an output stood among
    # its inputs (it shows only if a child makes it an input).
    docs = [doc and doc.strip() and doc for doc in (doc1, doc2, doc3)]
    for body in (second, third):
        for name, (kind, is_input, options) in body.items():
            body[name] = (kind, {**second, **first}.get(name, (kind, is_input))[1], options)
    ours = [declare_ours(body, doc) for body, doc in ((first, docs[0]), (second, docs[1]))]
    theirs = [declare_theirs(body, doc) for body, doc in ((first, docs[0]), (second, docs[1]))]
    assert_same(declare_ours(third, docs[2], (ours[0],)), declare_theirs(third, docs[2], (theirs[0],)))
    assert_same(declare_ours(third, docs[2], tuple(ours)), declare_theirs(third, docs[2], tuple(theirs)))


# Edits

EDITS = st.one_of(
    st.tuples(st.just("with_instructions"), INSTRUCTIONS),
    st.tuples(st.just("append_instructions"), st.sampled_from(["More.", "", "  Indented\n    twice."])),
    st.tuples(st.just("append"), NAMES.map(lambda names: names[0]), fields()),
    st.tuples(st.just("prepend"), NAMES.map(lambda names: names[0]), fields()),
    st.tuples(st.just("insert"), NAMES.map(lambda names: names[0]), fields(), st.integers(-4, 4)),
    st.tuples(st.just("delete"), NAMES.map(lambda names: names[0])),
    st.tuples(
        st.just("with_updated_fields"),
        NAMES.map(lambda names: names[0]),
        st.none() | st.sampled_from(TYPES),
        st.fixed_dictionaries(
            {}, optional={"desc": OPTIONS["desc"], "prefix": OPTIONS["prefix"], "constraints": st.just("c"), "more": st.just(3)}
        ),
    ),
    st.tuples(
        st.just("load_state"),
        st.lists(st.tuples(OPTIONS["prefix"], OPTIONS["desc"]), max_size=4),
        st.sampled_from(["New.", " a\n  b"]),
    ),
)


def edit(signature, step, make):
    kind, *given_ = step
    if kind in ("append", "prepend", "insert"):
        name, (type_, is_input, options), *index = given_
        field = make[0 if is_input else 1](**options)
        type_ = None if type_ is MISSING else type_
        return getattr(signature, kind)(*index, name, field, type_)
    if kind == "with_updated_fields":
        return signature.with_updated_fields(given_[0], given_[1], **given_[2])
    if kind == "load_state":
        saved = [{"prefix": prefix, "description": desc} for prefix, desc in given_[0]]
        return signature.load_state({"instructions": given_[1], "fields": saved})
    return getattr(signature, kind)(*given_)


@MANY
@given(bodies(), INSTRUCTIONS, st.lists(EDITS, min_size=1, max_size=3))
def test_edits_give_the_same(body, doc, steps):
    ours, theirs = declare_ours(body, doc), declare_theirs(body, doc)
    for step in steps:
        left, right = both(
            partial(edit, ours, step, (InputField, OutputField)), partial(edit, theirs, step, (dspy.InputField, dspy.OutputField))
        )
        assert isinstance(left, Exception) == isinstance(right, Exception), (step, left, right)
        if isinstance(left, Exception):
            assert isinstance(left, SignatureError), repr(left)
            return
        ours, theirs = left, right
        assert_same(ours, theirs)


def test_the_lists_of_exceptions_are_true():
    for text in ["a -> b: Literal['->']", "a = 1, b -> c", "a -> b: Literal[-1]", "a -> b: List", "a -> b: 'int'"]:
        ours, theirs = both(partial(Signature, text), partial(dspy.Signature, text))
        assert isinstance(ours, Signature)
        assert any(reason in f"{type(theirs).__name__}: {theirs}" for reason in READ_BY_US), theirs
    for text in ["a ->", "a, a -> b", "*a -> b", "a: int = 'x' -> b", "a: list['Zz'] -> b", "a: Literal[str] -> b"]:
        ours, theirs = both(partial(Signature, text), partial(dspy.Signature, text))
        assert not isinstance(theirs, Exception)
        assert any(re.search(re.escape(reason), ours.reason) for reason in REFUSED_BY_US), ours
