"""A run tells the texts of its LM steps while they are written, by step and field, over real HTTP."""

import asyncio

import pytest

import dspex_nb as dx
from dspex_nb.errors import StepError
from dspex_nb.events import StepEnded, StepStarted, TokenReceived
from dspex_nb.views import RunState, run_html

PARTS = "[[ ## answer ## ]]\nParis ", "it is\n\n[[ ## completed ## ]]"


def told(events):
    """Return what stands of each step's fields in the end."""
    texts = {}
    for event in events:
        if isinstance(event, TokenReceived):
            key = (event.step, event.field)
            texts[key] = "" if event.withdrawn else texts.get(key, "") + event.text
    return texts


@pytest.fixture
def pipe(fresh, chat_server):
    dx.configure(lm=dx.LM("openai/stub", api_base=chat_server.url, api_key="sk-x"), adapter="chat")
    return dx.Pipeline(
        "two",
        first=dx.predict("question -> answer, size: int"),
        note=dx.template("Note {{ answer }}", call=True),
    )


def test_the_texts_of_each_step_come_by_field(pipe, chat_server):
    run = pipe.run(question="q")
    result = run.result()
    texts = told(run.events)
    assert texts[("first", "answer")] == result.fields["answer"]
    assert texts[("first", "size")] == "3"
    assert texts[("note", "note")] == result.note
    assert all(body["stream"] for body in chat_server.bodies)
    assert run.usage.prompt_tokens == 6


def test_tokens_come_before_the_step_ends_to_async_readers_and_on_progress(pipe):
    seen = []

    async def cell():
        return [event async for event in pipe.run(question="q", on_progress=seen.append)]

    events = asyncio.run(cell())
    kinds = [type(event) for event in events if getattr(event, "step", "") == "first"]
    assert kinds.index(TokenReceived) < kinds.index(StepEnded)
    assert told(seen) == told(events) != {}


def test_a_call_and_a_run_share_their_answers_and_a_quiet_run_tells_nothing(pipe, chat_server):
    first = pipe.run(question="q").result()
    quiet = pipe.run(question="q", stream=False)
    assert quiet.result() == pipe(question="q") == first
    assert len(chat_server.bodies) == 2
    assert told(quiet.events) == {}


def test_a_stream_that_breaks_is_withdrawn_and_the_answer_asked_for_plainly(fresh, bad):
    whole = bad.http(200, {"choices": [{"message": {"role": "assistant", "content": "".join(PARTS)}}], "usage": {}})
    with bad.BadServer(bad.cut_stream(PARTS[0]), whole) as server:
        dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="sk-x"), adapter="chat")
        run = dx.Pipeline("one", ask=dx.predict("question -> answer")).run(question="q")
        assert run.result().answer == "Paris it is"
        assert [event.withdrawn for event in run.events if isinstance(event, TokenReceived)][-1]
        assert len(server.requests) == 2


def test_a_server_that_refuses_streams_is_asked_plainly(fresh, bad):
    refusal = bad.http(400, {"error": {"message": "Your organization must be verified to stream this model."}})
    whole = bad.http(200, {"choices": [{"message": {"role": "assistant", "content": "".join(PARTS)}}], "usage": {}})
    with bad.BadServer(refusal, whole) as server:
        dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="sk-x"), adapter="chat")
        assert dx.Pipeline("one", ask=dx.predict("question -> answer")).run(question="q").result().answer == "Paris it is"
        assert len(server.requests) == 2


def test_any_other_refusal_is_asked_once(fresh, bad):
    with bad.BadServer(bad.http(400, {"error": {"message": "no such parameter"}})) as server:
        dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="sk-x"), adapter="chat")
        with pytest.raises(StepError, match="no such parameter"):
            dx.Pipeline("one", ask=dx.predict("question -> answer")).run(question="q").result()
        assert len(server.requests) == 1


def test_the_live_view_shows_the_growing_text_escaped_until_the_step_ends():
    state = RunState("r", {"name": "p", "steps": [{"name": "ask", "kind": "predict"}]})
    words = [TokenReceived(run_id="r", step="ask", field="answer", text=text) for text in ("<b>bold", " word")]
    for event in (StepStarted(run_id="r", step="ask", reason="exact"), *words):
        state.apply(event)
    assert "answer: &lt;b&gt;bold word" in run_html(state)
    state.apply(TokenReceived(run_id="r", step="ask", field="answer", text="", withdrawn=True))
    assert "bold" not in run_html(state)
    state.apply(words[1])
    assert "answer: word" in run_html(state)
    state.apply(StepEnded(run_id="r", step="ask", status="done"))
    assert "answer: " not in run_html(state)


def test_several_samples_and_items_side_by_side_tell_nothing(fresh, chat_server):
    dx.configure(lm=dx.LM("openai/stub", api_base=chat_server.url, api_key="sk-x"), adapter="chat")
    pipe = dx.Pipeline(
        "many",
        sampled=dx.predict("question -> answer", n=2),
        each=dx.predict("item -> label", item=dx.field("items"), over="items"),
    )
    run = pipe.run(question="q", items=["a", "b"])
    run.result()
    assert told(run.events) == {}
