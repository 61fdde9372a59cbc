"""The value: declared by text, map and class; changed by copies; saved as DSPy saves."""

from __future__ import annotations

import datetime as dt
import enum
import pickle
import subprocess
import sys
from typing import Annotated, Any, Literal, Optional

import dspy
import pydantic
import pytest

from dspex_nb.errors import SignatureError
from dspex_nb.signatures import MISSING, Field, InputField, OutputField, Signature, read_type, register_module, type_text


class Colour(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    label: str


class Base(Signature):
    """Answer briefly."""

    question: str = InputField(desc="what to answer")
    context: list[str] = InputField(default=[])
    answer = OutputField()


class Extended(Base):
    score: Optional[int] = OutputField(ge=1, le=5)  # noqa: UP045 - DSPy users write it so
    item: Item = OutputField()


def test_text_form_has_dspys_meaning():
    signature = Signature("question, context: list[str] -> answer: Literal['yes', 'no'], n: int | None")
    assert list(signature.inputs) == ["question", "context"]
    assert signature.outputs["answer"].type == Literal["yes", "no"]
    assert signature.inputs["question"].untyped
    assert not signature.inputs["context"].untyped
    assert signature.instructions == dspy.Signature("question, context -> answer, n").instructions


def test_class_bodies_give_values_and_inherit():
    assert isinstance(Base, Signature)
    assert Base.name == "Base"
    assert Base.instructions == "Answer briefly."
    assert Extended.instructions == "Answer briefly."
    assert list(Extended.fields) == ["question", "context", "answer", "score", "item"]
    assert Extended.fields["item"].type is Item
    assert Extended.fields["answer"].untyped
    assert Extended.fields["score"].constraints == "greater than or equal to: 1, less than or equal to: 5"


def test_a_subclass_stays_through_changes():
    class Rich(Signature, as_class=True):
        def shout(self) -> str:
            return self.name.upper()

    class Mine(Rich):
        q: str = InputField()
        a: str = OutputField()

    assert Mine.shout() == "MINE"
    assert Mine.append("b", OutputField()).with_instructions("x").shout() == "MINE"
    assert type(Rich("q -> a")) is Rich


def test_fields_of_a_class_need_a_side():
    with pytest.raises(SignatureError, match="neither input nor output"):

        class Bad(Signature):
            q: str


def test_annotated_is_set_apart():
    s = Signature({"inputs": {"q": str}, "outputs": {"n": Annotated[int, pydantic.Field(ge=1)]}})
    assert s.fields["n"].type is int
    assert s.json_schema()["properties"]["n"]["minimum"] == 1


def test_values_are_immutable_hashable_and_picklable():
    with pytest.raises(AttributeError, match="value"):
        Base._name = "x"
    again = pickle.loads(pickle.dumps(Extended))  # noqa: S301 - our own bytes
    assert again == Extended
    assert hash(again) == hash(Extended)
    assert again.digest == Extended.digest
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    "other",
    ["q -> b", "q: str = 'x' -> a", "q -> a: int", "q, r -> a", "q -> a: Literal['x']"],
)
def test_digest_tells_signatures_apart(other):
    assert Signature("q -> a").digest != Signature(other, "Given the fields `q`, produce the fields `a`.").digest


def test_digest_tells_same_named_enums_apart():
    first, second = enum.Enum("E", {"A": 1}), enum.Enum("E", {"A": 2})
    assert Signature("q -> a: E", types={"E": first}).digest != Signature("q -> a: E", types={"E": second}).digest


def test_insertion_deletion_and_update():
    s = Signature("a -> b")
    assert list(s.prepend("r", OutputField()).outputs) == ["r", "b"]
    assert list(s.append("c", InputField(), int).inputs) == ["a", "c"]
    assert s.append("c", InputField(), int).inputs["c"].type is int
    assert s.delete("zzz") == s
    assert list(s.delete("b").outputs) == []
    assert s.with_updated_fields("b", int, desc="n").outputs["b"].desc == "n"
    with pytest.raises(SignatureError, match="no field 'bb'"):
        s.with_updated_fields("bb", desc="x")
    with pytest.raises(SignatureError, match="cannot insert"):
        s.insert(7, "x", OutputField())
    assert s == Signature("a -> b")


def test_state_is_dspys_in_both_directions():
    theirs = dspy.Signature("someText, HTMLbody2 -> answer", "Do it.").with_updated_fields("answer", desc="short")
    mine = Signature("someText, HTMLbody2 -> answer", "Do it.").with_updated_fields("answer", desc="short")
    assert mine.dump_state() == theirs.dump_state()
    state = {
        "instructions": "New.",
        "fields": [
            {"prefix": "P:", "description": "d"},
            {"prefix": "Q:", "description": ""},
            {"prefix": "R:", "description": "${answer}"},
        ],
    }
    assert mine.load_state(state).dump_state() == state == theirs.load_state(state).dump_state()
    assert mine.load_state(state).outputs["answer"].desc == ""


def test_map_form_takes_types_text_and_fields():
    s = Signature({"inputs": {"q": str, "ctx": "list[str]"}, "outputs": {"a": OutputField(desc="d", annotation=int)}})
    assert s.inputs["ctx"].type == list[str]
    assert s.outputs["a"].type is int
    assert s.outputs["a"].desc == "d"
    with pytest.raises(SignatureError, match="'inputs' and 'outputs'"):
        Signature({"input": {}})


def test_copy_of_a_signature():
    assert Signature(Base, Base.instructions) == Base


def test_options_are_checked():
    with pytest.raises(SignatureError, match="no option 'dsc'") as error:
        InputField(dsc="x")
    assert "did you mean 'desc'" in error.value.hint


def test_unfit_classes_are_refused_at_once():
    class Plain:
        pass

    with pytest.raises(SignatureError, match="Plain"):
        Signature("q -> a: Plain", types={"Plain": Plain})
    with pytest.raises(SignatureError, match="not a type"):
        Signature({"inputs": {"q": 3}, "outputs": {"a": str}})


def test_json_schema_has_bounds_descriptions_and_defaults():
    class S(Signature):
        q: str = InputField()
        n: int = OutputField(ge=1, le=5, desc="how urgent")
        c: Colour = OutputField(default=Colour.RED)

    schema = S.json_schema()
    assert schema["properties"]["n"] == {"description": "how urgent", "maximum": 5, "minimum": 1, "type": "integer"}
    assert schema["required"] == ["n"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Optional[int]", Optional[int]),  # noqa: UP045
        ("dict[str, list[float]]", dict[str, list[float]]),
        ("Literal['a', -1, None, True]", Literal["a", -1, None, True]),  # noqa: PYI061
        ("tuple[int, ...]", tuple[int, ...]),
        ("datetime.date", dt.date),
        ("typing.Any", Any),
        ("Item", Item),
        ("'list[Item]'", list[Item]),
        ("Literal[Colour.RED]", Literal[Colour.RED]),
    ],
)
def test_types_are_read_without_evaluation(text, kind):
    names = {"Item": Item, "Colour": Colour}
    assert read_type(text, names) == kind
    assert read_type(type_text(kind), names) == kind


def test_user_names_win_where_they_are_types_only():
    assert Signature("q: str -> a: list[int]", types={"str": 3, "list": [1]}).outputs["a"].type == list[int]
    assert Signature("q -> a: date", types={"date": dt.date}).outputs["a"].type is dt.date


def test_registered_modules():
    register_module("zzmod", lambda: dt)
    assert Signature("q -> a: zzmod.date").outputs["a"].type is dt.date


def test_default_values_are_fresh():
    field = Base.fields["context"]
    field.default_value().append("x")
    assert field.default_value() == []
    assert Field(name="a", factory=list).required is False


def test_import_loads_no_heavy_module():
    code = "import sys, dspex_nb.signatures, dspex_nb.adapters; print([m for m in ('dspy', 'pydantic', 'json_repair', 'litellm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
