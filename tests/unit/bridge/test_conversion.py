"""Signatures cross to DSPy and back without loss."""

from typing import Annotated, Literal, Optional

import annotated_types
import dspy
import pydantic
import pytest

from dspex_nb.bridge import from_dspy, to_dspy
from dspex_nb.signatures import Field, InputField, OutputField, Signature


class Address(pydantic.BaseModel):
    street: str


class Native(Signature):
    """Route a customer message."""

    message: str = InputField(desc="what the customer wrote")
    history: list[str] = InputField(default_factory=list)
    limit: Annotated[int, "kept"] = InputField(default=3)
    desk: Literal["billing", "tech"] = OutputField(desc="")
    urgency: int = OutputField(ge=1, le=5, prefix="How urgent:")
    where: Optional[Address] = OutputField()  # noqa: UP045


class Theirs(dspy.Signature):
    """Route a customer message."""

    message: str = dspy.InputField(desc="what the customer wrote")
    plain = dspy.InputField()
    history: list[str] = dspy.InputField(default=[])
    desk: Literal["billing", "tech"] = dspy.OutputField()
    urgency: int = dspy.OutputField(ge=1, le=5, desc="1 to 5")
    code: str = dspy.OutputField(pattern="x+", max_length=5)


class Bare(dspy.Signature):
    """"""

    q: Annotated[int, annotated_types.Interval(ge=1, le=4), pydantic.Field(title="t", json_schema_extra={"k": 1})] = (
        dspy.InputField()
    )
    a: Annotated[str, dspy.OutputField(desc="inside", validation_alias="v", serialization_alias="s")]
    m: str | None = dspy.OutputField(default=None, description="told", examples=[1], json_schema_extra={"lost": 1})


class Full(Signature):
    """First line.
    Indented more.
    """

    q: str = InputField(examples=["a"], title="T", alias="Q", prefix="P:", min_length=1, frozen=True, repr=False)
    picture: dspy.Image = InputField(desc="${other}")
    n: Annotated[int, annotated_types.Interval(ge=1, le=4), pydantic.AfterValidator(abs)] = InputField(ge=0, default=2)
    tags: list[Annotated[str, "kept"]] = OutputField(default_factory=list, deprecated="old", format=str)
    one: Annotated[float, pydantic.Field(gt=0.5, description="d")] = OutputField(desc="", exclude=True)


class Blank(Signature):
    """"""

    q: str = InputField()
    a: str = OutputField()


@pytest.mark.parametrize(
    "signature",
    [
        Native,
        Full,
        Blank,
        Full.append_instructions("  More,\n    indented."),
        Signature("q: list = [1], n: Annotated[int, Field(ge=1), 'kept'] = 3 -> a: None, b: NoneType, c: dspy.Code | None"),
        Signature("q, n: int -> a: list[str], b"),
        Signature("q -> a", "Answer in verse."),
        Signature("q -> a").with_name("Poem"),
    ],
)
def test_ours_to_theirs_and_back(signature):
    back = from_dspy(to_dspy(signature))
    assert back == signature
    assert (back.name, back.instructions, back.digest) == (signature.name, signature.instructions, signature.digest)


@pytest.mark.parametrize(
    "cls",
    [
        Theirs,
        Bare,
        Theirs.with_instructions("  "),
        dspy.Signature("q: NoneType -> ", ""),
        dspy.Signature("q, n: int -> a: list[str], b"),
        Theirs.with_instructions("Other."),
    ],
)
def test_theirs_to_ours_and_back(cls):
    back = to_dspy(from_dspy(cls))
    assert back.equals(cls)
    assert back.dump_state() == cls.dump_state()
    assert list(back.fields) == list(cls.fields)
    for name, info in cls.fields.items():
        assert (back.fields[name].annotation, back.fields[name].default) == (info.annotation, info.default)
        assert {repr(item) for item in back.fields[name].metadata} == {repr(item) for item in info.metadata}


def test_bounds_given_in_annotated_stay_out_of_the_wording():
    class Bounded(dspy.Signature):
        q: str = dspy.InputField()
        n: Annotated[int, pydantic.Field(le=9)] = dspy.OutputField(ge=1)

    one = from_dspy(Bounded).outputs["n"]
    assert one.constraints == "greater than or equal to: 1"
    assert dict(one.rules) == {"ge": 1, "le": 9}
    assert to_dspy(from_dspy(Bounded)).equals(Bounded)


def test_dspy_writes_the_same_prompt_from_either():
    demos, inputs = [], {"message": "hi", "plain": "x", "history": ["a"]}
    ours = dspy.ChatAdapter().format(to_dspy(from_dspy(Theirs)), demos, inputs)
    assert ours == dspy.ChatAdapter().format(Theirs, demos, inputs)


def test_reading_a_class_leaves_it_alone():
    before = Theirs.dump_state()
    signature = from_dspy(Theirs)
    to_dspy(signature).instructions = "changed"
    assert Theirs.dump_state() == before
    assert isinstance(signature.fields["message"], Field)


def test_the_text_form_is_dspys_own_class():
    for text in ("q, n: int -> a: list[str], b", "question -> answer"):
        assert to_dspy(Signature(text)).equals(dspy.Signature(text))
        assert from_dspy(dspy.Signature(text)) == Signature(text)
        assert from_dspy(dspy.Signature(text)).digest == Signature(text).digest
