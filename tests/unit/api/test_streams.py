"""`p.stream(…)` and `p.astream(…)` as users have them: events, a live cell, a text outside a notebook."""

import asyncio
import itertools
import time

import pytest

import dspex_nb as dx
from dspex_nb.errors import AdapterParseError, Cancelled, DSPexError, LMError, MissingInputError
from dspex_nb.testing import ScriptedLM
from dspex_nb.views import StreamState, stream_html, stream_text
from dspex_nb.widgets import live
from dspex_nb.widgets.html_view import HtmlView

ANSWER = "[[ ## answer ## ]]\nParis it is\n\n[[ ## size ## ]]\n7\n\n[[ ## completed ## ]]"


@pytest.fixture
def predict(fresh):
    dx.configure(lm=ScriptedLM(lambda request: ANSWER))
    return dx.Predict("question -> answer, size: int")


def test_the_events_of_a_call(predict):
    *events, done = predict.stream(question="q")
    assert "".join(event.text for event in events if event.field == "answer" and event.kind == "delta") == "Paris it is"
    assert isinstance(done, dx.Prediction)
    assert (done.answer, done.size, done.usage.calls) == ("Paris it is", 7, 1)
    assert all(isinstance(event, dx.FieldEvent) for event in events)
    assert predict(question="q").cached == "memory"


def test_the_prediction_of_a_stream_read_halfway(predict):
    stream = predict.stream(question="q")
    assert next(stream) == dx.FieldEvent("start", "answer")
    assert stream.prediction.size == 7
    assert list(stream) == []
    assert stream.prediction.answer == "Paris it is"


@pytest.mark.parametrize("answer", [ANSWER, "nonsense"], ids=["closed", "failed"])
def test_a_stream_that_ended_without_a_prediction_says_so(fresh, answer):
    dx.configure(lm=ScriptedLM(lambda request: answer), adapter="json" if answer == "nonsense" else "chat")
    stream = dx.Predict("question -> answer, size: int").stream(question="q")
    if answer == ANSWER:
        next(stream)
        stream.close()
    else:
        with pytest.raises(AdapterParseError):
            list(stream)
    with pytest.raises(DSPexError, match="closed, or failed"):
        stream.prediction
    with pytest.raises(DSPexError, match="closed, or failed"):
        stream.show()


def test_an_async_stream_that_was_closed_says_so(predict):
    async def cell():
        stream = predict.astream(question="q")
        await anext(stream)
        await stream.aclose()
        with pytest.raises(DSPexError, match="closed, or failed"):
            await stream.prediction()
        with pytest.raises(DSPexError, match="closed, or failed"):
            await stream.show()

    asyncio.run(cell())


def test_a_stream_that_was_read_shows_its_end(predict, capsys):
    stream = predict.stream(question="q")
    list(stream)
    stream.show()
    out = capsys.readouterr().out
    assert "Paris it is" in out
    assert "(streaming)" not in out


def test_async(predict):
    async def cell():
        stream = predict.astream(question="q")
        kinds = [event.kind async for event in stream if isinstance(event, dx.FieldEvent)]
        return kinds, (await stream.prediction()).size

    kinds, size = asyncio.run(cell())
    assert (kinds[0], kinds[-1], size) == ("start", "end", 7)


def test_options_are_those_of_a_call_and_the_session_is_the_callers(predict):
    other = ScriptedLM(['{"answer": "x", "size": 1}'])
    with dx.context(lm=other, adapter="json"):
        stream = predict.stream(question="q", temperature=0.3)
    assert stream.prediction.answer == "x"
    assert other.requests[0].options["temperature"] == 0.3
    with pytest.raises(MissingInputError, match="question=…"):
        predict.stream("q")
    with pytest.raises(MissingInputError):
        predict.astream()


def test_outside_a_notebook_the_text_is_printed_at_the_end(predict, capsys):
    stream = predict.stream(question="q").show()
    out = capsys.readouterr().out
    assert "Paris it is" in out
    assert "native engine" in out
    stream._ipython_display_()  # a cell whose last expression is `p.stream(…).show()`: shown already
    assert capsys.readouterr().out == ""
    assert asyncio.run(shown_async(predict)).size == 7
    assert "Paris it is" in capsys.readouterr().out


async def shown_async(predict):
    stream = await predict.astream(question="q").show()
    return await stream.prediction()


@pytest.fixture
def kernel(monkeypatch):
    """As in a kernel; gives each update of a widget's HTML with its time, and what was published."""
    updates, published = [], []

    class Counted(HtmlView):
        def __setattr__(self, name, value):
            if name == "html":
                updates.append((time.monotonic(), value))
            super().__setattr__(name, value)

    monkeypatch.setattr(live, "_in_kernel", lambda: True)
    monkeypatch.setattr(live, "_publish", lambda data, display_id, update: published.append((data, update)))
    monkeypatch.setattr("dspex_nb.widgets.html_view.HtmlView", Counted)
    return updates, published


def test_two_thousand_quick_tokens_cost_an_update_each_fifty_milliseconds_at_most(predict, kernel):
    updates, published = kernel
    words = [f"<b>{i}</b>" for i in range(2000)]

    def slowly(request):
        return "[[ ## answer ## ]]\n" + " ".join(words) + "\n\n[[ ## size ## ]]\n7"

    lm = ScriptedLM(slowly)
    real = lm._wire.stream
    lm._wire.stream = lambda *a, **k: paced(real(*a, **k))
    started = time.monotonic()
    with dx.context(lm=lm):
        stream = predict.stream(question="long")
        stream._ipython_display_()
    took = time.monotonic() - started
    times = [at for at, _ in updates]
    assert 3 <= len(times) <= took / 0.05 + 2
    gaps = [after - before for before, after in itertools.pairwise(times[1:-1])]  # the first is the widget made, the last the end
    assert min(gaps) >= 0.049
    assert any("▌" in html for _, html in updates[:-1])
    last = updates[-1][1]
    assert "&lt;b&gt;1999&lt;/b&gt;" in last
    assert "<b>" not in last
    assert "▌" not in last
    assert stream.prediction.size == 7
    assert published[-1][0]["text/html"].count("&lt;b&gt;") == 2000
    assert published[-1][1] is True


def paced(chunks):
    for index, chunk in enumerate(chunks):
        if index % 100 == 0:
            time.sleep(0.02)
        yield chunk


def test_what_ends_it_is_shown_and_raised(fresh, kernel):
    updates, _ = kernel
    dx.configure(lm=ScriptedLM(['{"answer": "<i>half"']), adapter="json")
    with pytest.raises(AdapterParseError):
        dx.Predict("question -> answer, size: int").stream(question="q").show()
    last = updates[-1][1]
    assert "withdrawn: the answer lacks &#x27;size&#x27;" in last
    assert "raise max_tokens" in last
    dx.configure(lm=ScriptedLM([LMError("<down>")]))
    with pytest.raises(LMError):
        dx.Predict("question -> answer").stream(question="q").show()
    assert "&lt;down&gt;" in updates[-1][1]


def test_the_view_follows_the_events():
    state = StreamState(["answer", "size"])
    state.apply(dx.FieldEvent("start", "answer"))
    state.apply(dx.FieldEvent("delta", "answer", "<script>"))
    info = state.info()
    assert (info.fields, info.writing) == ([("answer", "<script>"), ("size", "")], "answer")
    assert "&lt;script&gt;" in stream_html(info)
    assert "streaming" in stream_text(info)
    state.apply(dx.FieldEvent("withdrawn", "answer", "why <not>"))
    assert "withdrawn: why &lt;not&gt;" in stream_html(state.info())
    state.apply(dx.FieldEvent("start", "answer"))
    state.apply(dx.FieldEvent("delta", "answer", "yes"))
    state.apply(dx.FieldEvent("end", "answer"))
    assert (state.info().writing, dict(state.info().notes)) == ("", {})
    state.apply(dx.Prediction({"answer": "yes", "size": 1}))
    assert state.info().prediction is not None
    assert "tokens" in stream_html(state.info())
    other = StreamState(["answer"])
    other.fail("gone\n→ look")
    assert stream_text(other.info()).endswith("gone\n→ look")


@pytest.mark.parametrize(
    "ask",
    [
        lambda predict: predict(question="q"),
        lambda predict: list(predict.stream(question="q")),
        lambda predict: predict.stream(question="q").show(),
    ],
    ids=["call", "stream", "shown stream"],
)
def test_an_interrupt_is_two_lines_and_no_traceback(predict, ask):
    def pressed(_):
        raise KeyboardInterrupt

    dx.configure(lm=ScriptedLM(pressed))
    with pytest.raises(Cancelled) as caught:
        ask(predict)
    assert caught.value._render_traceback_() == ["Cancelled: stopped", "→ what was finished is kept; run again to go on"]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
