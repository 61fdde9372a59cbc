"""`dx.synthesize`: rounds, checks, no repetition, provenance, honesty about too few."""

import json
import re
from typing import Literal

import pytest

import dspex_nb as dx
from dspex_nb.errors import Cancelled, DataError, LMAuthError, LMServerError
from dspex_nb.testing import ScriptedLM

SEEDS = [{"message": "My card was charged twice.", "desk": "billing"}, {"message": "The router is dead.", "desk": "tech"}]
SPEC = "message -> desk: Literal['billing', 'tech']"
SUBJECTS = [
    "apples",
    "boats",
    "cellars",
    "drums",
    "engines",
    "ferries",
    "gardens",
    "horses",
    "islands",
    "jackets",
    "kites",
    "lamps",
]


def number_of(request):
    return int(re.findall(r"number ## \]\]\n(\d+)", request.messages[-1]["content"])[-1])


def inventive(request):
    at = number_of(request)
    return json.dumps(
        {"message": f"{SUBJECTS[at % 12]} {'and ' * (at // 12)}please, {SUBJECTS[(at * 5) % 12]} number {at * 7919}"}
    )


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(inventive)
    dx.configure(lm=scripted, adapter="json", n_jobs=4)
    return scripted


def test_examples_with_their_provenance(lm):
    made = dx.synthesize(SPEC, n=10, seeds=SEEDS)
    assert isinstance(made, list)
    assert len(made) == 10
    assert all(isinstance(one, dx.Example) for one in made)
    assert [one.desk for one in made].count("billing") == 5  # the labels come out even
    assert made[0].inputs() == {"message": made[0].message}
    source = made[0].provenance
    assert source.model == "scripted/test"
    assert lm.key(lm.requests[0]) in {one.provenance.key for one in made}
    assert set(source.seeds) == {0, 1}
    assert source.round == 1
    assert source.given == ("desk",)
    assert len({one.provenance.key for one in made}) == 10
    frame = made.to_frame()
    assert list(frame.columns) == ["message", "desk", "model", "key", "seeds", "round"]
    assert (made.info.asked, made.info.invalid, made.info.duplicates, made.note) == (10, 0, 0, "")
    assert "10 of 10 kept" in dx.api.synthesis.synthesis_text(made.info)


def test_what_the_model_is_shown(lm):
    dx.synthesize(dx.Signature(SPEC, "Route a message."), n=1, seeds=SEEDS, instructions="They run a zoo.", max_calls=1)
    shown = lm.requests[0].messages
    assert "Route a message." in shown[0]["content"]
    assert "They run a zoo." in shown[0]["content"]
    assert "My card was charged twice." in json.dumps(shown)
    assert lm.requests[0].options["temperature"] == 0.7


def test_they_go_straight_into_an_evaluation(lm):
    made = dx.synthesize(SPEC, n=4, seeds=SEEDS)
    lm._wire._answer = lambda request: '{"desk": "tech"}'
    assert dx.evaluate(dx.Predict(SPEC), made, "exact_match:desk").score == 0.5
    assert dx.Example(made[0], ["message"]).with_inputs("message").provenance is None
    assert made[0].with_inputs("message").provenance == made[0].provenance


def test_the_same_call_again_asks_nothing(lm):
    first = dx.synthesize(SPEC, n=10, seeds=SEEDS)
    sent = len(lm.requests)
    again = dx.synthesize(SPEC, n=10, seeds=SEEDS)
    assert [dict(one) for one in again] == [dict(one) for one in first]
    assert len(lm.requests) == sent
    assert dx.synthesize(SPEC, n=2, seeds=SEEDS, seed=1)[0].provenance.key != first[0].provenance.key


def test_what_does_not_fit_or_repeats_is_dropped_and_counted(lm):
    def answer(request):
        at = number_of(request)
        if at % 4 == 0:
            return "no JSON at all"
        if at % 4 == 1:
            return json.dumps({"message": "The ROUTER is  dead!", "urgency": 3})  # a seed, but for case and signs
        return json.dumps({"message": f"Router {SUBJECTS[at % 12]} {at * 7919}", "urgency": 9 if at % 4 == 2 else 3})

    class Sort(dx.Signature):
        message: str = dx.InputField()
        desk: Literal["billing", "tech"] = dx.OutputField()
        urgency: int = dx.OutputField(ge=1, le=5)

    lm._wire._answer = answer
    made = dx.synthesize(Sort, n=6, seeds=[{**seed, "urgency": 2} for seed in SEEDS])
    assert len(made) == 6
    assert {one.urgency for one in made} == {3}
    info = made.info
    assert info.asked == 6 + info.invalid + info.duplicates + info.near
    assert info.duplicates >= 4
    assert {one.kind for one in made.dropped} == {"invalid", "duplicate"}
    reasons = {one.reason for one in made.dropped}
    assert any("urgency: input should be less than or equal to 5" in reason for reason in reasons)
    assert any("not a JSON object" in reason for reason in reasons)


def test_near_repetitions(lm):
    lm._wire._answer = lambda request: json.dumps(
        {"message": f"Please tell me when my new router will arrive, order {number_of(request)}"}
    )
    made = dx.synthesize(SPEC, n=5, seeds=SEEDS)
    assert len(made) == 1
    assert made.info.near >= 16
    assert made.info.status == "stopped"
    assert "brought nothing new: the model repeats itself" in made.note
    assert len(dx.synthesize(SPEC, n=5, seeds=SEEDS, max_similarity=1.0)) == 5


def test_a_model_that_cannot(lm):
    lm._wire._answer = lambda request: "hm"
    made = dx.synthesize(SPEC, n=5)
    assert made == []
    assert "do not fit the signature" in made.note
    assert made.info.asked == 20
    assert made.to_frame().empty
    lm._wire._answer = lambda request: LMAuthError("no key", hint="set it")
    with pytest.raises(LMAuthError, match="no key"):
        dx.synthesize(SPEC, n=5, seed=1)


def test_some_calls_fail(lm):
    lm._wire._answer = lambda request: LMServerError("busy", hint="wait") if number_of(request) % 3 == 0 else inventive(request)
    made = dx.synthesize(SPEC, n=8, seeds=SEEDS)
    assert len(made) == 8
    assert made.info.failed >= 2


def test_a_limit_of_calls(lm):
    made = dx.synthesize(SPEC, n=50, seeds=SEEDS, max_calls=12)
    assert (made.info.asked, len(made)) == (12, 12)
    assert "stopped at 12 calls" in made.note


def test_open_answers_without_seeds(lm):
    lm._wire._answer = lambda request: json.dumps(
        {"question": f"{SUBJECTS[number_of(request) % 12]} {number_of(request) * 7919}?", "answer": "yes"}
    )
    made = dx.synthesize("question -> answer", n=6)
    assert {one.answer for one in made} == {"yes"}
    assert made[0].provenance.given == ()
    assert len(dx.synthesize(dx.ChainOfThought("question -> answer"), n=2)) == 2


def test_stopping_keeps_the_answers_in_the_cache(lm):
    def stop(request):
        if number_of(request) == 12:
            raise KeyboardInterrupt
        return inventive(request)

    lm._wire._answer = stop
    with pytest.raises(Cancelled, match="8 of 11 examples were made"):
        dx.synthesize(SPEC, n=11, seeds=SEEDS, n_jobs=1)
    lm._wire._answer = inventive
    sent = len(lm.requests)
    assert len(dx.synthesize(SPEC, n=11, seeds=SEEDS, n_jobs=1)) == 11
    assert len(lm.requests) - sent == 2  # the one that was stopped, and the one behind it


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 0}, "n=0"),
        ({"seeds": [{"message": "x"}]}, "seed 0 is no example of .*: desk is missing"),
        ({"seeds": [{"message": "x", "desk": "garden"}]}, "desk: input should be 'billing' or 'tech'"),
        ({"seeds": [{"message": " ", "desk": "tech"}]}, "message is empty"),
    ],
)
def test_what_it_refuses(lm, options, told):
    with pytest.raises(DataError, match=told):
        dx.synthesize(SPEC, **options)
    assert lm.requests == []


@pytest.mark.model
def test_the_embedded_model_makes_some(fresh):
    dx.configure(lm="local")
    made = dx.synthesize(SPEC, n=4, seeds=SEEDS, n_jobs=2)
    assert 1 <= len(made) <= 4
    assert {one.desk for one in made} <= {"billing", "tech"}
    assert all(one.message.strip() for one in made)
    assert made.info.asked >= len(made)
