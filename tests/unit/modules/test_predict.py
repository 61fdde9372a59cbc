from __future__ import annotations

import asyncio
import json
import warnings
from typing import Literal

import pytest

from dspex_nb.adapters import get_adapter
from dspex_nb.ambient import Session
from dspex_nb.errors import AdapterParseError, DataError, LMNotConfiguredError, MissingInputError, PlanError
from dspex_nb.events import Bus
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature
from dspex_nb.testing.scripted import ScriptedLM

TRIAGE = Signature("message: str -> desk: Literal['billing', 'tech'], urgency: int")
ANSWER = "[[ ## desk ## ]]\ntech\n\n[[ ## urgency ## ]]\n4\n\n[[ ## completed ## ]]"


def scope():
    return Scope("run", Bus(keep=100))


def session(*answers, **options):
    options.setdefault("adapter", "chat")
    adapter = options.pop("adapter")
    return Session(lm=ScriptedLM(answers, **options), adapter=adapter)


def test_a_call_gives_typed_fields_and_its_facts():
    now = session(ANSWER)
    prediction = Predict(TRIAGE).call({"message": "my modem"}, session=now, scope=scope())
    assert dict(prediction) == {"desk": "tech", "urgency": 4}
    assert prediction.run_id == "run"
    assert prediction.usage.calls == 1
    assert prediction.cached is None
    assert prediction.route.engine == "native"
    assert prediction.route.reason == "native: the chat adapter serves str, Literal and int exactly"


def test_the_prompt_is_the_adapters():
    now = session(ANSWER)
    program = Predict(TRIAGE)
    program.demos = [{"message": "bill", "desk": "billing", "urgency": 1}]
    program.call({"message": "my modem"}, session=now, scope=scope())
    wanted = get_adapter("chat").messages(TRIAGE, program.demos, {"message": "my modem"})
    assert list(now.lm.requests[0].messages) == wanted == program.messages(message="my modem")
    assert program.parse(ANSWER) == {"desk": "tech", "urgency": 4}
    assert program.messages_in({"message": "x"}, session=Session(adapter="compact")) == program.messages(
        adapter="compact", message="x"
    )


def test_async_gives_the_same():
    now = session(ANSWER)
    prediction = asyncio.run(Predict(TRIAGE).acall_in({"message": "my modem"}, session=now, scope=scope()))
    assert dict(prediction) == {"desk": "tech", "urgency": 4}


def test_options_of_the_call_win_over_the_modules_over_the_adapters():
    now = session(ANSWER, ANSWER, "[[x]]", adapter="chat")
    program = Predict(TRIAGE, temperature=0.3, max_tokens=50)
    program.call({"message": "m"}, session=now, scope=scope(), temperature=0.9, rollout_id=3)
    assert now.lm.requests[0].options["temperature"] == 0.9
    assert now.lm.requests[0].options["max_tokens"] == 50
    assert now.lm.requests[0].rollout == 3
    program.call({"message": "m"}, session=now, scope=scope(), config={"max_tokens": 7})
    assert now.lm.requests[1].options["max_tokens"] == 7
    compact = session(json.dumps({"desk": "tech", "urgency": 4}), adapter="compact")
    Predict(TRIAGE).call({"message": "m"}, session=compact, scope=scope())
    own = get_adapter("compact").options(TRIAGE, compact.lm.capabilities)
    assert own
    assert own.items() <= dict(compact.lm.requests[0].options).items()


def test_several_candidates_are_several_requests_and_sampled():
    now = session(ANSWER, ANSWER.replace("4", "5"), ANSWER.replace("4", "3"))
    prediction = Predict(TRIAGE, n=3).call({"message": "m"}, session=now, scope=scope())
    assert {one["urgency"] for one in prediction.completions} == {3, 4, 5}
    assert sorted(request.candidate for request in now.lm.requests) == [0, 1, 2]
    assert {request.options["temperature"] for request in now.lm.requests} == {0.7}
    assert all("n" not in request.options for request in now.lm.requests)
    assert prediction.usage.calls == 3


def test_an_unreadable_chat_answer_is_asked_again_as_json():
    now = session("no markers here", json.dumps({"desk": "billing", "urgency": 2}))
    prediction = Predict(TRIAGE).call({"message": "m"}, session=now, scope=scope())
    assert dict(prediction) == {"desk": "billing", "urgency": 2}
    assert prediction.usage.calls == 2
    broken = session("nothing", "nothing either")
    with pytest.raises(AdapterParseError):
        Predict(TRIAGE).call({"message": "m"}, session=broken, scope=scope())
    again = session("nothing", json.dumps({"desk": "billing", "urgency": 2}))
    assert asyncio.run(Predict(TRIAGE).acall_in({"message": "m"}, session=again, scope=scope())).desk == "billing"


def test_inputs_missing_and_unknown():
    now = session(ANSWER)
    with pytest.raises(MissingInputError, match="missing input 'message'") as caught:
        Predict(TRIAGE).call({"mesage": "x"}, session=now, scope=scope())
    assert "'mesage' was given: did you mean 'message'? " in caught.value.hint
    assert not now.lm.requests
    with pytest.warns(UserWarning, match="'extra' is no input"):
        Predict(TRIAGE).call({"message": "m", "extra": 1}, session=now, scope=scope())
    with pytest.raises(LMNotConfiguredError):
        Predict(TRIAGE).call({"message": "x"}, session=Session(), scope=scope())


def test_a_default_is_filled_in_and_fresh():
    now = session("[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]")
    signature = Signature("question, history: list[str] = [] -> answer")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Predict(signature).call({"question": "q"}, session=now, scope=scope()).answer == "yes"


def test_chain_of_thought_reasons_first():
    now = session("[[ ## reasoning ## ]]\nbecause\n\n" + ANSWER)
    prediction = ChainOfThought(TRIAGE).call({"message": "m"}, session=now, scope=scope())
    assert list(prediction) == ["reasoning", "desk", "urgency"]
    assert prediction.reasoning == "because"


def test_dspy_serves_what_is_asked_of_it():
    now = session(ANSWER)
    program = Predict(TRIAGE)
    prediction = program.call({"message": "my modem"}, session=now, scope=scope(), engine="dspy")
    assert dict(prediction) == {"desk": "tech", "urgency": 4}
    assert prediction.route.engine == "dspy"
    assert prediction.route.reason == "dspy: engine='dspy' was asked for"
    native = session(ANSWER)
    program.call({"message": "my modem"}, session=native, scope=scope())
    assert list(now.lm.requests[0].messages) == list(native.lm.requests[0].messages)
    with pytest.raises(PlanError, match="engine='rust' is not known"):
        program.call({"message": "x"}, session=now, scope=scope(), engine="rust")


# State, both ways with the installed DSPy


@pytest.fixture
def dspy():
    return pytest.importorskip("dspy")


def dspy_signature(dspy):
    return dspy.Signature({"message": (str, dspy.InputField()), "desk": (Literal["billing", "tech"], dspy.OutputField()),
                           "urgency": (int, dspy.OutputField())}, "Route it.")  # fmt: skip


DEMO = {"augmented": True, "message": "bill", "desk": "billing", "urgency": 1}


def test_dspy_loads_what_we_save(dspy, tmp_path):
    ours = Predict(TRIAGE.with_instructions("Route it well."))
    ours.demos = [DEMO]
    ours.save(tmp_path / "program.json")
    theirs = dspy.Predict(dspy_signature(dspy))
    theirs.load(tmp_path / "program.json")
    assert theirs.signature.instructions == "Route it well."
    assert [dict(demo) for demo in theirs.demos] == [DEMO]
    assert theirs.dump_state() == ours.dump_state()


def test_we_load_what_dspy_saves(dspy, tmp_path):
    theirs = dspy.Predict(dspy_signature(dspy))
    theirs.demos = [dspy.Example(**DEMO).with_inputs("message")]
    theirs.save(tmp_path / "program.json")
    ours = Predict(TRIAGE).load(tmp_path / "program.json")
    assert ours.signature.instructions == "Route it."
    assert ours.demos == [DEMO]
    assert ours.dump_state() == theirs.dump_state()


def test_chain_of_thought_states_are_exchangeable(dspy, tmp_path):
    theirs = dspy.ChainOfThought(dspy_signature(dspy))
    theirs.predict.demos = [DEMO]
    theirs.save(tmp_path / "theirs.json")
    ours = ChainOfThought(TRIAGE).load(tmp_path / "theirs.json")
    assert ours.demos == [DEMO]
    assert ours.dump_state() == theirs.dump_state()
    assert ours.base_signature.instructions == "Route it."
    assert "reasoning" not in ours.base_signature.outputs
    ours.save(tmp_path / "ours.json")
    again = dspy.ChainOfThought(dspy_signature(dspy))
    again.load(tmp_path / "ours.json")
    assert again.dump_state() == theirs.dump_state()


def test_files_that_are_no_programs_are_refused_and_change_nothing(tmp_path):
    program = Predict(TRIAGE)
    program.demos = [DEMO]
    before = program.dump_state()
    (tmp_path / "torn.json").write_text('{"demos": [')
    (tmp_path / "list.json").write_text("[]")
    ChainOfThought(TRIAGE).save(tmp_path / "cot.json")
    Predict("a -> b").save(tmp_path / "other.json")
    for name, message in {
        "torn.json": "is no JSON",
        "list.json": "holds no program",
        "cot.json": r"dspy\.ChainOfThought",
        "other.json": "signature with 2 fields",
        "none.json": "cannot be read",
        "x.pkl": "pickled",
    }.items():
        with pytest.raises(DataError, match=message):
            program.load(tmp_path / name)
    with pytest.raises(DataError, match=r"dspy\.Predict"):
        ChainOfThought(TRIAGE).load(tmp_path / "other.json")
    with pytest.raises(DataError, match="saved as JSON"):
        program.save(tmp_path / "x.pkl")
    program.demos.append({"message": object()})
    with pytest.raises(DataError, match="of type object has no JSON form"):
        program.save(tmp_path / "x.json")
    program.demos.pop()
    assert program.dump_state() == before
