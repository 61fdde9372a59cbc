"""A stream says what a call says: the deltas of a field add up to its value, the last event is the call's prediction."""

import asyncio
import json
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dspex_nb.adapters import Prompt, get_adapter
from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.errors import AdapterParseError, DSPexError, LMError, MissingInputError
from dspex_nb.messages import Capabilities, Delta, Output, Request, Response
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.modules.readers import ChatReader, ObjectReader, reader_for
from dspex_nb.modules.streaming import Reading, astream, stream
from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.scopes import Scope
from dspex_nb.signatures import InputField, OutputField, Signature
from dspex_nb.testing import ScriptedLM

CHAT = "[[ ## answer ## ]]\nParis it is\n\n[[ ## size ## ]]\n42\n\n[[ ## completed ## ]]"


class Texts(Signature):
    """Outputs that any text leaves readable."""

    question: str = InputField()
    answer: str = OutputField(default="-")
    note: str = OutputField(default="-")


def chunked(text, sizes):
    """Cut `text` into pieces of these sizes, the last of which is used again and again."""
    at, pieces = 0, []
    for size in [*sizes, *([sizes[-1]] * len(text))]:
        if at >= len(text):
            break
        pieces.append(text[at : at + size])
        at += size
    return pieces


def shown(events):
    """Texts by field as someone who follows the events has them in the end; the order of events is checked on the way."""
    texts, open_ = {}, None
    for event in events:
        if event.kind == "start":
            assert open_ is None
            texts[event.field], open_ = "", event.field
        elif event.kind == "delta":
            assert open_ == event.field
            assert event.text
            texts[event.field] += event.text
        elif event.kind == "end":
            assert open_ == event.field
            open_ = None
        else:
            assert event.kind == "withdrawn"
            texts.pop(event.field)
    assert open_ is None
    return texts


def read_by(reader, pieces):
    return shown([*(event for piece in pieces for event in reader.feed(piece)), *reader.finish()])


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=12)
BITS = st.sampled_from([
    "[[ ## answer ## ]]", "[[ ## note ## ]]", "[[ ## other ## ]]", "[[ ## completed ## ]]", "[[ ## answer", "[[ ##  ## ]]", "[[ ",
    "[", "]]", " ## ", "\n", "\n\n", "\r\n", "\r", "\u2028", "\x1c", "\x0b", " ", "  ", "\t", "\xa0", "\x1f", "Paris", "a b", "é😀", "#",
])  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BITS | st.text(max_size=6), max_size=25).map("".join), SIZES)
@example("[[ ## answer ## ]] Paris \r\n  and\r", [1])
@example("  [[ ## answer ## ]] Paris", [3])
@example("[[ ## answer ## ]]\n[[ ## x\ny", [2])
def test_a_chat_answers_deltas_are_what_the_parser_finds(text, sizes):
    texts = read_by(ChatReader(Texts.outputs), chunked(text, sizes))
    parsed = get_adapter("chat").parse(Texts, text)
    assert {name: texts.get(name, "-") for name in Texts.outputs} == parsed


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(max_size=20) | st.lists(
    st.sampled_from(['"', "\\", "\n", "😀", "é", "/", "{", "}", ",", "\x07", "\ud83d", "x"])
).map("".join)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(["answer", "note", "other", 'a"b', "é"]), TEXTS | VALUES, max_size=5), SIZES, st.booleans(),
    st.sampled_from([None, 2]), st.sampled_from(["", "Here it is:\n```json\n", "  "]),
)  # fmt: skip
def test_a_json_answers_text_deltas_are_its_values(values, sizes, plain, indent, before):
    text = before + json.dumps(values, ensure_ascii=plain, indent=indent)
    texts = read_by(ObjectReader(["answer", "note"]), chunked(text, sizes))
    assert texts.keys() == values.keys() & {"answer", "note"}
    for name, shown_text in texts.items():
        value = values[name]
        assert shown_text == value if isinstance(value, str) else json.loads(shown_text) == value


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["chat", "json", "compact"]),
    st.lists(BITS | st.sampled_from(['{"answer": "', '", "note": "', '"}', "{", "}", '"', ",", ":", "\\", "\\u12", "\\ud83d"])
             | st.text(max_size=5), max_size=20).map("".join),
    SIZES,
)  # fmt: skip
@example("json", '{"answer": "a", "answer": "b"}', [4])
@example("json", '{"answer": "broken \\u12", "note": "x', [1])
def test_whatever_comes_the_fields_shown_in_the_end_are_the_values(name, text, sizes):
    adapter = get_adapter(name)
    try:
        values = adapter.parse(Texts, text)
    except AdapterParseError:
        return
    reading = Reading(name, Texts, Prompt([], {}, Texts))
    events = [event for piece in chunked(text, sizes) for event in reading.take(Delta(piece))]
    events += [*reading.finish(), *reading.settle(values)]
    assert shown(events) == values


def session(*answers, **more):
    return Session(lm=ScriptedLM(answers, **more))


def events_of(program, now, **options):
    return list(stream(program, {"question": "q"}, session=now, scope=Scope("r"), **options))


def test_a_marker_never_shows_and_the_prediction_comes_last():
    now = session(CHAT)
    *events, done = events_of(Predict("question -> answer, size: int"), now)
    assert isinstance(done, Prediction)
    assert (done.answer, done.size) == ("Paris it is", 42)
    assert [event.text for event in events if event.field == "answer"] == ["", "Paris", " it", " is", ""]
    assert shown(events) == {"answer": "Paris it is", "size": "42"}
    assert (done.usage.calls, done.usage.completion_tokens, done.cost, done.route.engine) == (1, len(CHAT.split()), 0.0, "native")
    assert done.run_id == "r"


def test_the_same_as_a_call_and_the_same_cache():
    program, cache = Predict("question -> answer, size: int", adapter="chat"), Cache()
    now = Session(lm=ScriptedLM([CHAT]), cache=cache)
    streamed = events_of(program, now)[-1]
    called = program.call({"question": "q"}, session=now, scope=Scope("r"))
    assert called == streamed
    assert called.cached == "memory"
    assert len(now.lm.requests) == 1
    again = events_of(program, now)
    assert [(event.kind, event.text) for event in again[:-1] if event.field == "answer"] == [
        ("start", ""), ("delta", "Paris it is"), ("end", ""),
    ]  # fmt: skip
    assert again[-1].cached == "memory"
    assert again[-1].usage.cache_hits == 1
    assert streamed.route == called.route


def test_reasoning_comes_first():
    text = "[[ ## reasoning ## ]]\nSo\nand so\n\n[[ ## answer ## ]]\nParis\n"
    *events, done = events_of(ChainOfThought("question -> answer"), session(text))
    assert [event.field for event in events if event.kind == "start"] == ["reasoning", "answer"]
    assert shown(events) == {"reasoning": "So\nand so", "answer": "Paris"} == dict(done)


@pytest.mark.parametrize("name", ["json", "compact"])
def test_json_fields_and_other_types(name):
    text = '{"answer": "Par\\u00efs \\"x\\"", "size": 42, "tags": ["a", "b, c"]}'
    *events, done = events_of(Predict("question -> answer, size: int, tags: list[str]", adapter=name), session(text))
    assert shown(events) == {"answer": 'Parïs "x"', "size": "42", "tags": '["a", "b, c"]'}
    assert done.tags == ["a", "b, c"]


def test_an_answer_that_cannot_be_read_is_withdrawn_and_asked_for_again_as_a_call_does():
    now = session("[[ ## answer ## ]]\nhalf", '{"answer": "whole", "size": 1}')
    *events, done = events_of(Predict("question -> answer, size: int"), now)
    kinds = [(event.kind, event.field) for event in events]
    assert kinds.index(("withdrawn", "answer")) < kinds.index(("start", "size"))
    assert "size" in next(event.text for event in events if event.kind == "withdrawn")
    assert shown(events) == {"answer": "whole", "size": "1"}
    assert done.usage.calls == 2


def test_where_a_call_fails_the_stream_does():
    seen = []
    program, now = Predict("question -> answer, size: int", adapter="json"), session('{"answer": "half"')
    events = stream(program, {"question": "q"}, session=now, scope=Scope("r"))
    with pytest.raises(AdapterParseError, match="size"):
        list(map(seen.append, events))
    assert shown(seen) == {}
    assert [event.kind for event in seen] == ["start", "delta", "end", "withdrawn"]
    with pytest.raises(LMError):
        events_of(Predict("question -> answer"), session(LMError("down")))


def test_fields_without_text_of_their_own_come_whole():
    signature = Signature("question -> answer").append("extra", OutputField(default="none given"), str)
    *events, done = events_of(Predict(signature), session("[[ ## answer ## ]]\nx"))
    assert shown(events) == {"answer": "x", "extra": "none given"} == dict(done)


def test_what_dspy_serves_comes_whole_at_the_end():
    now = session("[[ ## answer ## ]]\nParis it is\n\n[[ ## tags ## ]]\n[1, 2]\n")
    program = Predict("question -> answer, tags: list[int]")
    *events, done = events_of(program, now, engine="dspy")
    assert [event.kind for event in events] == ["start", "delta", "end"] * 2
    assert shown(events) == {"answer": "Paris it is", "tags": "[1, 2]"}
    assert done.route.engine == "dspy"


def test_one_answer_only_and_inputs_are_checked_at_once():
    with pytest.raises(DSPexError, match="n=3"):
        stream(Predict("question -> answer", n=3), {"question": "q"}, session=session(), scope=Scope("r"))
    with pytest.raises(MissingInputError):
        astream(Predict("question -> answer"), {}, session=session(), scope=Scope("r"))


def test_native_reasoning_fills_its_field():
    import dspy

    from dspex_nb.bridge import from_dspy

    signature = from_dspy(dspy.Signature("question -> thought: dspy.Reasoning, answer"))
    message = {"role": "assistant", "content": "[[ ## answer ## ]]\nx", "reasoning_content": "hm, so"}
    lm = ScriptedLM([{"choices": [{"finish_reason": "stop", "message": message}]}], capabilities=Capabilities(reasoning=True))
    *events, done = events_of(Predict(signature, adapter="chat"), Session(lm=lm))
    assert done.route.engine == "native"
    assert shown(events) == {"thought": "hm, so", "answer": "x"}
    assert [event.field for event in events if event.kind == "start"] == ["thought", "answer"]
    assert str(done.thought) == "hm, so"


def test_an_unknown_format_shows_its_fields_at_the_end():
    assert list(reader_for("yaml", ["answer"]).feed("answer: x")) == []
    reading = Reading("yaml", Texts, Prompt([], {}, Texts))
    assert list(reading.take(Delta("answer: x"))) == list(reading.finish()) == []
    assert shown(reading.settle({"answer": "x", "note": "-"})) == {"answer": "x", "note": "-"}


def test_async_events_are_the_same():
    program = Predict("question -> answer, size: int")

    async def collected(now):
        return [event async for event in astream(program, {"question": "q"}, session=now, scope=Scope("r"))]

    assert asyncio.run(collected(session(CHAT))) == events_of(program, session(CHAT))
    both = ("[[ ## answer ## ]]\nhalf", '{"answer": "whole", "size": 1}')
    assert asyncio.run(collected(session(*both))) == events_of(program, session(*both))


def slow_server(bad, peers):
    """Streams one field's words for as long as somebody listens; notes when nobody does."""

    def script(peer):
        import time

        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        pieces = ["[[ ## answer ## ]]\n", *(f"word{i} " for i in range(400))]
        try:
            for piece in pieces:
                peer.sendall(b"data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}).encode() + b"\n\n")
                time.sleep(0.01)
        except OSError:
            peers.set()
        return "close"

    return bad.BadServer(script)


@pytest.fixture
def bad():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[1] / "transport" / "misbehaving.py"
    spec = importlib.util.spec_from_file_location("misbehaving", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_closing_early_closes_the_socket(bad):
    import threading

    from dspex_nb.clients import connect
    from dspex_nb.events import LMCalled

    gone, seen = threading.Event(), []
    with slow_server(bad, gone) as server:
        client = connect("openai/m", api_base=server.url, api_key="k", num_retries=0)
        scope = Scope("r")
        scope.bus.subscribe(seen.append)
        program, now = Predict("question -> answer"), Session(lm=client)

        async def some():
            events = astream(program, {"question": "q"}, session=now, scope=scope)
            texts = [event.text async for event in first(events, 4)]
            await events.aclose()
            assert await asyncio.to_thread(gone.wait, 3)
            return texts

        assert asyncio.run(some()) == ["", "word0", " word1", " word2"]
        gone.clear()
        events = stream(program, {"question": "q"}, session=now, scope=scope)
        assert [next(events).text for _ in range(3)] == ["", "word0", " word1"]
        events.close()
        assert gone.wait(3)
    assert ["reader left" in event.error for event in seen if isinstance(event, LMCalled)] == [True, True]


async def first(events, count):
    for _ in range(count):
        yield await anext(events)


def test_a_stop_ends_it(bad):
    import threading

    from dspex_nb.clients import connect
    from dspex_nb.errors import Cancelled

    gone = threading.Event()
    with slow_server(bad, gone) as server:
        client = connect("openai/m", api_base=server.url, api_key="k", num_retries=0)
        scope = Scope("r")
        events = stream(Predict("question -> answer"), {"question": "q"}, session=Session(lm=client), scope=scope)
        next(events)
        scope.cancel.cancel()
        with pytest.raises(Cancelled):
            list(events)
        assert gone.wait(3)


def test_a_long_answer_that_comes_whole_is_read_in_one_pass():
    value = "line of text\n" * 200_000
    text, began = json.dumps({"answer": value}), time.thread_time()
    deltas = [event.text for event in ObjectReader(["answer"]).feed(text) if event.kind == "delta"]
    taken = time.thread_time() - began
    assert "".join(deltas) == value
    assert taken < 5  # half a second of this thread's own; with the rest copied at every escape it is a quarter of a minute


def test_a_delta_is_true_when_it_brings_something():
    assert Delta("x")
    assert Delta("", "y")
    assert not Delta()
    request, scope = Request([{"role": "user", "content": "q"}]), Scope("r")
    lm = ScriptedLM(["a b"])
    *pieces, last = lm.deltas(request, scope=scope)
    assert pieces == [Delta("a"), Delta(" b")]
    assert isinstance(last, Response)
    assert last.outputs == (Output("a b", finish_reason="stop"),)
    assert FieldEvent("delta", "x", "y").text == "y"
