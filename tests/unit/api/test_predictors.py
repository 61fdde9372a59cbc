"""`dx.Predict` and `dx.ChainOfThought` as users call them."""

import asyncio
import copy
import pickle
import threading
import warnings

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb.adapters import ChatAdapter
from dspex_nb.errors import AdapterParseError, Cancelled, DSPexError, MissingInputError
from dspex_nb.messages import Capabilities
from dspex_nb.scopes import Scope
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": str(i)} for i in range(5)]


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(lambda request: '{"size": 7}')
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def predict(lm):
    return dx.Predict("message -> size: int")


def test_a_call(predict, lm):
    done = predict(message="x")
    assert done.size == done["size"] == 7
    assert done.usage.calls == 1
    assert done.cost == 0
    assert done.route.engine == "native"
    assert done.run_id
    assert predict(message="x").cached == "memory"
    with pytest.raises(AttributeError, match="did you mean 'size'"):
        done.sise


def test_call_options_are_dspys_and_inputs_win(predict, lm):
    predict(message="x", temperature=0.3, max_tokens=5)
    assert lm.requests[0].options["temperature"] == 0.3
    assert lm.requests[0].options["max_tokens"] == 5
    dx.Predict("temperature -> size: int")(temperature="warm")
    assert "warm" in lm.requests[1].messages[-1]["content"]
    assert lm.requests[1].options.get("temperature") != "warm"
    other = ScriptedLM(lambda request: '{"size": 9}', model="scripted/other")
    assert predict(message="x", lm=other).size == 9


def test_a_predictors_own_lm_is_asked_wherever_a_prompt_or_an_answer_depends_on_it(lm):
    own = ScriptedLM(lambda request: '{"size": 9}', model="scripted/own")
    own.default_adapter = "compact"
    predict = dx.Predict("message -> size: int", lm=own)
    with dx.context(adapter=None):
        assert predict(message="x").size == predict.stream(message="y").prediction.size == 9
        assert [done.size for done in predict.batch([{"message": "z"}])] == [9]
        assert predict.messages(message="x") == own.requests[0].messages
        assert predict.parse('{"size": 9}') == {"size": 9}
    assert lm.requests == []


def test_a_copy_asks_the_same_lm_and_shares_no_demos(lm, model_server):
    server = model_server(lambda body: '{"size": 9}')
    predict = dx.Predict("message -> size: int", adapter="json", lm=dx.LM("openai/own", api_base=server.url, api_key="k"))
    predict.demos.append({"message": "shown", "size": 1})
    predict(message="x")
    copied = copy.deepcopy(predict)  # as `study.best` makes one
    copied.demos[0]["size"] = 2
    assert (predict.demos[0]["size"], copied(message="y").size) == (1, 9)
    assert lm.requests == []
    assert len(server.bodies) == 2


def test_a_predictor_can_be_pickled_after_a_call_whatever_the_sessions_adapter(lm):
    class Local(ChatAdapter):
        """One that no pickle finds."""

    predict = dx.Predict("message -> size: int")
    with dx.context(lm=ScriptedLM(["[[ ## size ## ]]\n7"]), adapter=Local()):
        predict(message="x")
    assert pickle.loads(pickle.dumps(predict))(message="x").size == 7


def test_demos_in_the_call(predict, lm):
    predict(message="x", demos=[{"message": "shown", "size": 1}])
    assert any("shown" in message["content"] for message in lm.requests[0].messages)


def test_async_alone_and_together(predict):
    async def several():
        return [done.size for done in await asyncio.gather(*(predict.acall(message=str(i)) for i in range(4)))]

    assert asyncio.run(several()) == [7] * 4


def test_a_sync_call_inside_a_running_loop(predict):
    async def cell():
        return predict(message="x").size

    assert asyncio.run(cell()) == 7


def test_inputs_without_names(predict):
    with pytest.raises(MissingInputError, match="message=…"):
        predict("x")
    with pytest.raises(MissingInputError):
        asyncio.run(predict.acall("x"))


@pytest.mark.parametrize("rows", [ROWS, pd.DataFrame(ROWS), [dx.Example(row) for row in ROWS], tuple(ROWS)])
def test_batch_takes_rows_of_every_kind(predict, rows):
    assert [done.size for done in predict.batch(rows, n_jobs=3)] == [7] * 5


def test_batch_from_a_file(predict, tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    assert len(predict.batch(tmp_path / "rows.csv")) == 5


def test_batch_keeps_or_raises(predict, lm):
    lm._wire._answer = lambda request: '{"size": "bad"}' if "3" in request.messages[-1]["content"].split() else '{"size": 7}'
    kept = predict.batch(ROWS, on_error="keep")
    assert [isinstance(one, AdapterParseError) for one in kept] == [False, False, False, True, False]
    with pytest.raises(AdapterParseError):
        predict.batch(ROWS)
    for name in ("on_error", "return_as"):
        with pytest.raises(DSPexError, match=name):
            predict.batch(ROWS, **{name: "lst"})


def test_a_generator_gives_rows_in_order_as_they_are_ready(predict, lm):
    held = threading.Event()

    def slow_at_three(request):
        if "3" in request.messages[-1]["content"].split():
            assert held.wait(5)
        return '{"size": 7}'

    lm._wire._lock = threading.Semaphore(8)  # answers at once, so that one may wait
    lm._wire._answer = slow_at_three
    results = predict.batch(ROWS, n_jobs=5, return_as="generator")
    first = [next(results) for _ in range(3)]
    assert [done.size for done in first] == [7] * 3  # the fourth is still asked
    held.set()
    assert len(list(results)) == 2


def test_leaving_a_generator_stops_the_rest(predict, lm):
    results = predict.batch([{"message": str(i)} for i in range(100)], n_jobs=1, return_as="generator")
    next(results)
    results.close()
    assert len(lm.requests) <= 3
    dx.session().store.flush()
    assert [run.status for run in dx.session().store.runs()] == ["cancelled"]


def test_a_generator_checks_before_it_starts(predict):
    with pytest.raises(DSPexError, match="'message'"):
        predict.batch([{"text": "x"}], return_as="generator")


def test_progress(predict):
    seen = []
    predict.batch(ROWS, on_progress=seen.append)
    assert seen[0].kind == "run_started"
    assert max(event.done for event in seen if event.kind == "progress") == 5
    assert len({event.run_id for event in seen}) == 1


def test_progress_can_stop_it(predict, lm):
    def stop(event):
        if event.kind == "progress":
            raise RuntimeError  # a broken view must not fail the run

    assert len(predict.batch(ROWS, on_progress=stop)) == 5


def test_an_interrupt_cancels(predict, lm):
    def interrupt(request):
        raise KeyboardInterrupt

    lm._wire._answer = interrupt
    with pytest.raises((Cancelled, KeyboardInterrupt)):
        predict.batch(ROWS, n_jobs=1)


def test_the_exact_prompt_and_what_an_answer_means(predict, lm):
    predict(message="x")
    assert predict.messages(message="x") == list(lm.requests[0].messages)
    chat = predict.messages(message="x", adapter="chat")
    assert "[[ ## size ## ]]" in chat[0]["content"]
    assert predict.parse('{"size": 3}') == {"size": 3}
    assert predict.parse("[[ ## size ## ]]\n4\n\n[[ ## completed ## ]]", adapter="chat") == {"size": 4}
    with pytest.raises(AdapterParseError):
        predict.parse("{}")


def test_save_and_load(predict, tmp_path):
    predict.demos = [{"message": "m", "size": 2}]
    predict.save(tmp_path / "p.json")
    fresh = dx.Predict("message -> size: int")
    fresh.load(tmp_path / "p.json")
    assert [dict(demo) for demo in fresh.demos] == [{"message": "m", "size": 2}]
    assert fresh.messages(message="x") == predict.messages(message="x")


def test_chain_of_thought(lm):
    lm._wire._answer = lambda request: '{"reasoning": "because", "size": 7}'
    done = dx.ChainOfThought("message -> size: int")(message="x")
    assert (done.reasoning, done.size) == ("because", 7)
    assert list(done) == ["reasoning", "size"]


def test_signatures_of_every_kind(lm):
    class Sized(dx.Signature):
        """Say how big."""

        message: str = dx.InputField()
        size: int = dx.OutputField(desc="metres")

    for signature in (Sized, dx.Signature("message -> size: int"), "message -> size: int", Sized.dspy):
        assert dx.Predict(signature)(message="x").size == 7


def test_to_dspy_and_back():
    import dspy

    ours = dx.Signature("question, ctx: list[str] -> answer: str, sure: bool", "Be brief.")
    theirs = ours.dspy
    assert issubclass(theirs, dspy.Signature)
    assert theirs.instructions == "Be brief."
    back = dx.Signature.from_dspy(theirs)
    assert isinstance(back, dx.Signature)
    assert back.fields == ours.fields
    assert back.instructions == ours.instructions
    assert back.dspy.equals(theirs)


def test_ours_is_kept_by_its_methods():
    longer = dx.Signature("a -> b").append("c", dx.OutputField(desc="more"), int)
    assert isinstance(longer, dx.Signature)
    assert longer.dspy.output_fields["c"].annotation is int
    assert set(longer.json_schema()["properties"]) == {"b", "c"}


def test_a_dspy_served_call_has_its_candidates_too(lm):
    done = dx.Predict("message -> size: int", n=3)
    assert [
        dict(one) for one in done.call({"message": "x"}, session=dx.session(), scope=Scope("r"), engine="dspy").completions
    ] == [{"size": 7}] * 3


def test_candidates(lm):
    sizes = iter(range(9))
    lm._wire._answer = lambda request: f'{{"size": {next(sizes)}}}'
    done = dx.Predict("message -> size: int")(message="x", n=3)
    assert sorted(one["size"] for one in done.completions) == [0, 1, 2]
    assert done.size == done.completions[0]["size"]
    assert done.usage.calls == 3
    assert {request.options["temperature"] for request in lm.requests} == {0.7}


@pytest.mark.parametrize("own", [None, 0, 0.1, 0.5])
@pytest.mark.parametrize("of_lm", [None, 0, 0.1, 0.9])
@pytest.mark.parametrize("count", [None, 2])
def test_the_temperature_sent_is_dspys(fresh, own, of_lm, count):
    import dspy

    from dspex_nb.bridge import BridgeLM

    given = {name: value for name, value in (("temperature", own), ("n", count)) if value is not None}
    lm = ScriptedLM(
        lambda request: "[[ ## size ## ]]\n7", **({} if of_lm is None else {"temperature": of_lm}), capabilities=Capabilities()
    )
    dx.configure(lm=lm, cache=False)
    dx.Predict("message -> size: int", **given)(message="x")
    ours = [lm.options | dict(request.options) for request in lm.requests]
    lm.requests.clear()
    with dspy.context(lm=BridgeLM(lm)):
        dspy.Predict("message -> size: int", **given)(message="x")
    theirs = [lm.options | dict(request.options) for request in lm.requests]
    assert ours == theirs
    assert len(ours) == (count or 1)


def test_a_rollout_at_temperature_zero_is_told_of_as_dspy_does(predict, lm):
    with pytest.warns(UserWarning, match="gives the same answer"):
        predict(message="x", rollout_id=1, temperature=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(message="x", rollout_id=1, temperature=1.0)
        predict(message="x", rollout_id=2)
        assert predict(message="x", rollout_id=2).cached == "memory"
    assert len(lm.requests) == 3


def test_map_gives_the_data_back_with_the_outputs(predict, lm):
    lm._wire._answer = lambda request: '{"size": "bad"}' if "two" in request.messages[-1]["content"] else '{"size": 7}'
    data = pd.DataFrame({"id": [1, 2, 3], "message": ["one", "two", "three"], "size": [1, 2, 7]}, index=[10, 20, 30])
    done = predict.map(data, n_jobs=2)
    assert list(done.columns) == ["id", "message", "expected_size", "size", "error"]
    assert list(done.index) == [10, 20, 30]
    assert done["expected_size"].tolist() == [1, 2, 7]
    assert done["size"].tolist()[::2] == [7, 7]
    assert pd.isna(done["size"].tolist()[1])
    assert "size" in done["error"].tolist()[1]
    assert pd.isna(done["error"].tolist()[0])
    with pytest.raises(AdapterParseError):
        predict.map(data, on_error="raise")
    with pytest.raises(DSPexError, match="'message'"):
        predict.map([{"text": "x"}])


def test_an_lm_for_one_call_in_every_form(predict, lm):
    other = dx.LM("openai/m", api_base="http://127.0.0.1:1/v1", api_key="k", num_retries=0)
    with pytest.raises(dx.DSPexError, match=r"127\.0\.0\.1"):
        predict(message="x", lm=other)
