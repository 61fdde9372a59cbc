"""The value: declared by text, map and class; changed by copies; saved as DSPy saves."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import os
import pickle
import subprocess
import sys
import types
from typing import Annotated, Any, ClassVar, Literal, Optional

import cloudpickle
import dspy
import pydantic
import pytest

from dspex_nb.errors import SignatureError, SignatureSyntaxError
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
    again = pickle.loads(pickle.dumps(Extended))
    assert again == Extended
    assert hash(again) == hash(Extended)
    assert again.digest == Extended.digest
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING


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


# Names of the caller's


def test_own_classes_are_found_where_the_signature_is_written():
    class Local(pydantic.BaseModel):
        n: int

    assert Signature("doc: Local -> out: list[Local], item: Item").outputs["out"].type == list[Local]
    assert Signature("q -> a: dict[str, Item]").outputs["a"].type == dict[str, Item]
    with pytest.raises(SignatureSyntaxError, match="unknown type 'Local'"):
        Signature("doc: Local -> out", types={})


def test_a_class_defined_anew_is_never_answered_from_before():
    seen = []
    for _ in range(3):

        class Again(pydantic.BaseModel):
            label: str

        made = Signature("q -> a: Again, b: list[Again]")
        assert made.outputs["a"].type is Again
        assert made.outputs["b"].type == list[Again]
        seen.append(Again)
        holder = type("Holder", (), {"Again": Again})
        assert Signature("q -> a: Space.Again", types={"Space": holder}).outputs["a"].type is Again
    assert len(set(seen)) == 3
    assert Signature("q -> a: Again", types={"Again": seen[0]}).outputs["a"].type is seen[0]
    with pytest.raises(SignatureSyntaxError):
        Signature("q -> a: Again", types={})


def test_the_module_of_a_dotted_name_may_change_what_it_holds():
    space = types.ModuleType("space")
    space.Kind = int
    assert Signature("q -> a: space.Kind").outputs["a"].type is int
    space.Kind = float
    assert Signature("q -> a: space.Kind").outputs["a"].type is float


def test_builtins_and_typing_win_over_the_callers_names_but_not_over_given_ones():
    Text, list = Item, Colour  # noqa: A001 - the point of the test
    assert Signature("q -> a: Text, b: list").outputs["a"].type is str
    assert Signature("q -> a: Text, b: list").outputs["b"].type is type([])
    assert Signature("q -> a: Text", types={"Text": Text, "list": list}).outputs["a"].type is Item


def test_dspys_types_by_dotted_name_and_bare_ones_once_it_is_there():
    code = """
import sys, dspex_nb as dx
try:
    dx.Signature("picture: Image -> a")
except dx.DSPexError as error:
    print(error.hint, "dspy" in sys.modules)
print(dx.Signature("picture: dspy.Image -> a").inputs["picture"].type.__module__)
print(dx.Signature("picture: list[Image], code: Code['python'] -> a: Reasoning").inputs["code"].type.language)
import pydantic
class Image(pydantic.BaseModel): pass
print(dx.Signature("picture: Image -> a: Image").inputs["picture"].type is Image)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["write dspy.Image False", "dspy.adapters.types.image", "python", "True"]


# What texts may say


def test_annotated_as_text_and_its_bounds():
    signature = Signature(
        "n: Annotated[int, Field(ge=1, le=9, description='count'), 'note'] = 3 -> a: list[Annotated[int, Field(gt=0)]]"
    )
    field = signature.inputs["n"]
    assert (field.type, dict(field.rules), field.metadata, field.default) == (
        int, {"description": "count", "ge": 1, "le": 9}, ("note",), 3
    )  # fmt: skip
    assert signature.json_schema()["properties"]["a"]["items"]["exclusiveMinimum"] == 0
    assert type_text(signature.outputs["a"].type) == "list[Annotated[int, Field(gt=0)]]"
    with pytest.raises(SignatureSyntaxError, match="does not fit int") as caught:
        Signature("q -> a: Annotated[int, Field(union_mode='smart')]")
    assert caught.value.column == 8


def test_errors_of_texts_over_lines_show_the_line_and_a_caret():
    with pytest.raises(SignatureSyntaxError) as caught:
        Signature("question: str,\n  context: list[strr]\n-> answer")
    assert (caught.value.line, caught.value.column) == (2, 16)
    assert caught.value._render_traceback_() == [
        "SignatureSyntaxError: line 2: unknown type 'strr'",
        "      context: list[strr]",
        "                    ^",
        "→ did you mean 'str'? builtins, typing's names and your own classes are known",
    ]


def test_comments_and_line_ends_inside_a_text():
    with pytest.raises(SignatureSyntaxError, match="takes the rest of the text"):
        Signature("a -> b # a note")
    assert Signature("a: int, # a -> note, with 'quotes\n b \\\n -> c: Literal['#1']").outputs["c"].type == Literal["#1"]


def test_a_shared_text_shares_no_default():
    first, second = Signature("q: list = [] -> a"), Signature("q: list = [] -> a")
    first.inputs["q"].default.append("x")
    assert second.inputs["q"].default == []
    assert Signature("q: list = [] -> a").inputs["q"].default == []


# Maps


def test_maps_as_dspex_and_dspy_write_them():
    expected = Signature("q: str, n: int = 3 -> a: list[str]").with_updated_fields("a", desc="all of them")
    options = {"type": "list[str]", "description": "all of them"}
    by_name = {"inputs": {"q": str, "n": {"type": "int", "default": 3}}, "outputs": {"a": options}}
    as_list = {
        "inputs": [{"name": "q", "type": "str"}, {"name": "n", "type": int, "default": 3}],
        "outputs": [{"name": "a", **options}],
    }
    dspys = {"q": (str, InputField()), "n": (int, InputField(default=3)), "a": (list[str], OutputField(desc="all of them"))}
    for spec in (by_name, as_list, dspys):
        made = Signature(spec)
        assert [(one.name, one.type, one.desc, one.default) for one in made.fields.values()] == [
            (one.name, one.type, one.desc, one.default) for one in expected.fields.values()
        ]
    with pytest.raises(SignatureSyntaxError, match="field 'q': unknown type 'strr'") as caught:
        Signature({"inputs": {"q": "list[strr]"}, "outputs": {"a": str}})
    assert caught.value.column == 5
    with pytest.raises(SignatureError, match="'name'"):
        Signature({"inputs": ["q"], "outputs": {"a": str}})


# Classes


def test_class_bodies_take_annotated_fields_forward_references_and_class_variables():
    class Mine(Signature):
        q: Annotated[str, InputField(desc="what")]
        items: "list[Item]" = OutputField()  # noqa: UP037 - quoted is the point
        maybe: Optional["Colour"] = OutputField()  # noqa: UP037, UP045
        limit: ClassVar[int] = 3

    assert Mine.inputs["q"].desc == "what"
    assert Mine.outputs["items"].type == list[Item]
    assert Mine.outputs["maybe"].type == Optional[Colour]  # noqa: UP045


def test_dspys_own_fields_and_unfit_bounds_are_refused_in_a_class():
    with pytest.raises(SignatureError, match="DSPy's or pydantic's own function"):

        class Theirs(Signature):
            q = dspy.InputField()

    with pytest.raises(SignatureError, match="does not fit str"):

        class Unfit(Signature):
            q: str = OutputField(pattern="(")

    with pytest.raises(SignatureError, match="cannot insert 'q'"):
        Base.append("q", dspy.InputField())


# Values


def test_mappings_are_read_only_and_made_once():
    assert Base.inputs is Base.inputs
    for mapping in (Base.fields, Base.inputs, Base.outputs):
        with pytest.raises(TypeError):
            mapping["x"] = 1
    assert copy.deepcopy(Base) is Base


def test_order_and_kind_tell_types_and_defaults_apart():
    assert Signature("q -> a: Union[int, str]") != Signature("q -> a: Union[str, int]")
    assert Signature("q -> a: Literal['x', 'y']") != Signature("q -> a: Literal['y', 'x']")
    assert Signature("q = 1 -> a") != Signature("q = True -> a")
    assert Signature("q -> a") == Signature("q: str -> a: str")


def test_digest_and_hash_are_the_same_in_every_process():
    code = """
import enum, dspex_nb as dx
class Mine(dx.Signature):
    q: set[str] = dx.InputField(default={"a", "b", "c", "d"})
    a: int = dx.OutputField(ge=1, default_factory=int)
print(dx.Signature("q: int -> a: Literal['x', 'y']").digest, hash(dx.Signature("q: int -> a")), Mine.digest, hash(Mine))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 4


def test_signatures_of_local_classes_cross_by_cloudpickle():
    class Local(pydantic.BaseModel):
        n: int

    made = Signature("q: str = 'x' -> a: list[Local]", "Do.").with_updated_fields("a", desc="d")
    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert (again.spec, again.dump_state(), again.digest) == (made.spec, made.dump_state(), made.digest)


def test_dspys_names_are_here_too():
    assert Base.append_instructions("Always.").instructions == "Answer briefly.\n\nAlways."
    assert Base.signature == "question, context -> answer"
    assert Base.equals(Signature(Base, Base.instructions))
    # As in DSPy, a signature that has the field already keeps its own: dspy.ChainOfThought relies on it.
    assert Signature("q -> reasoning: int, a").prepend("reasoning", OutputField()).outputs["reasoning"].type is int


def test_import_loads_no_heavy_module():
    code = "import sys, dspex_nb.signatures, dspex_nb.adapters; print([m for m in ('dspy', 'pydantic', 'json_repair', 'litellm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
