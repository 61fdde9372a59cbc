"""The port, chat and json at their edges; equality with DSPy at large is tests/property/test_adapters.py."""

from __future__ import annotations

import dspy
import pydantic
import pytest

from dspex_nb.adapters import Adapter, ChatAdapter, JSONAdapter, Prompt, get_adapter
from dspex_nb.errors import AdapterError, AdapterParseError
from dspex_nb.messages import Capabilities, Output
from dspex_nb.signatures import Codec, InputField, OutputField, Signature, register_codec
from dspex_nb.signatures import codecs as codecs_module

JSON_MODE = {"response_format": {"type": "json_object"}}
PARAMS = frozenset({"response_format"})
WITH_SCHEMA = Capabilities(response_schema=True, params=PARAMS)


def test_names_and_port():
    for name in ("chat", "json", "compact"):
        adapter = get_adapter(name)
        assert isinstance(adapter, Adapter)
        assert adapter.name == name
        assert get_adapter(adapter) is adapter
    with pytest.raises(AdapterError, match="'compct'") as error:
        get_adapter("compct")
    assert "did you mean 'compact'" in error.value.hint


def test_a_registered_codec_changes_writing_reading_and_naming(monkeypatch):
    class Shout(pydantic.BaseModel):
        text: str

    monkeypatch.setattr(codecs_module, "_codecs", {})
    register_codec(
        Shout, Codec(write=lambda v: v.text.upper(), read=lambda v: Shout(text=str(v).lower()), name="Loud", note="is loud")
    )
    signature = Signature({"inputs": {"q": Shout}, "outputs": {"a": Shout}})
    system, user = ChatAdapter().messages(signature, [], {"q": Shout(text="hey")})
    assert "(Loud)" in system["content"]
    assert "# note: the value you produce is loud" in system["content"]
    assert "HEY" in user["content"]
    assert ChatAdapter().parse(signature, "[[ ## a ## ]]\nYO")["a"] == Shout(text="yo")


def test_values_of_dspys_types_become_content_parts_as_in_dspy():
    image = dspy.Image(url="https://example.com/a.png")
    theirs = dspy.ChatAdapter().format(dspy.Signature("q: list -> a"), [], {"q": ["see", image]})
    mine = ChatAdapter().messages(Signature("q: list -> a"), [], {"q": ["see", image]})
    assert mine == theirs
    assert any(part["type"] == "image_url" for part in mine[1]["content"])


def test_json_options_follow_capabilities():
    adapter, signature = JSONAdapter(), Signature("q -> a: int")
    assert adapter.options(signature, Capabilities()) == {}
    assert adapter.options(signature, Capabilities(params=PARAMS)) == JSON_MODE
    schema = adapter.options(signature, WITH_SCHEMA)["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["a"]
    assert adapter.options(Signature("q -> a: dict[str, int]"), WITH_SCHEMA) == JSON_MODE
    assert ChatAdapter().options(signature, WITH_SCHEMA) == {}


@pytest.mark.parametrize("text", ["", "no headers", "[[ ## a ## ]]\nx", "[[ ## a ## ]]\n" + "[" * 9000, "{}", "{[]: 1}"])
@pytest.mark.parametrize("name", ["chat", "json", "compact"])
def test_unreadable_answers_say_so(name, text):
    with pytest.raises(AdapterParseError) as error:
        get_adapter(name).parse(Signature("q -> a: int"), text)
    assert error.value.answer == text
    assert error.value.adapter == name
    assert error.value.hint
    assert len(error.value.message) < 300


def test_defaults_and_none_fill_missing_outputs():
    class S(Signature):
        q: str = InputField()
        a: str = OutputField()
        tags: list[str] = OutputField(default=[])
        note: str | None = OutputField()

    for name, text in (("chat", "[[ ## a ## ]]\nx"), ("json", '{"a": "x"}'), ("compact", '{"a": "x"}')):
        first = get_adapter(name).parse(S, text)
        assert first == {"a": "x", "tags": [], "note": None}
        first["tags"].append("y")
        assert get_adapter(name).parse(S, text)["tags"] == []


def read_one(adapter, signature, text):
    return adapter.read(signature, Prompt([], {}, signature), Output(text))


@pytest.mark.parametrize("default", [[], 0.0], ids=["a list where the type says text", "a number whose equal reads otherwise"])
def test_an_answer_read_again_does_not_share_its_defaults(default):
    def declared(value):
        class S(Signature):
            q: str = InputField()
            a: str = OutputField()
            more: str = OutputField(default=value)

        return S

    text = "[[ ## a ## ]]\nx"
    first = read_one(get_adapter("chat"), declared(default), text)
    if isinstance(default, list):
        first["more"].append("y")
        assert read_one(get_adapter("chat"), declared(default), text) == {"a": "x", "more": []}
    else:
        assert str(read_one(get_adapter("chat"), declared(-default), text)["more"]) == "-0.0"


def test_an_answer_read_again_is_another_dict_with_the_same_values():
    adapter, signature = ChatAdapter(), Signature('q -> a: int, b: Literal["x", 1], c: bool')
    text = "[[ ## a ## ]]\n3\n[[ ## b ## ]]\n1\n[[ ## c ## ]]\ntrue"
    first = read_one(adapter, signature, text)
    assert first == adapter.parse(signature, text)
    first["a"] = 4
    again = read_one(adapter, signature, text)
    assert again == {"a": 3, "b": 1, "c": True}
    assert [type(value) for value in again.values()] == [int, int, bool]
    assert read_one(adapter, Signature("q -> a: str"), text) == {"a": "3"}  # the same text, read as another type
    assert read_one(JSONAdapter(), Signature("q -> a: bool"), '{"a": 1}')["a"] is True
    assert type(read_one(JSONAdapter(), Signature("q -> a: int"), '{"a": 1}')["a"]) is int


def test_json_finds_the_object_in_chatter():
    signature = Signature("q -> a: int")
    assert JSONAdapter().parse(signature, 'Sure: {"a": 3} done {')["a"] == 3
    assert JSONAdapter().parse(signature, "```json\n{'a': 3,}\n```")["a"] == 3
