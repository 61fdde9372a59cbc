"""What a user says about caching: per LM and per call, on a real HTTP server; neither word is ever sent."""

from __future__ import annotations

import asyncio
import time

import pytest

import dspex_nb as dx
from dspex_nb.cache import Cache
from dspex_nb.errors import LMInvalidRequestError

ANSWER = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"


@pytest.fixture
def cache(tmp_path):
    return Cache(directory=tmp_path / "cache")


@pytest.fixture
def ask(stub, cache):
    """`lm` with the options given, called by a word; returns the answer's text."""
    made = {}

    def call(*, lm=None, **options):
        with dx.context(cache=cache):
            key = repr(lm)
            made.setdefault(key, dx.LM("openai/stub", api_base=stub.url, api_key="sk-x", **(lm or {})))
            return made[key]("hi", **options).text

    return call


def test_a_calls_own_time_to_live_goes_before_the_lms(stub, cache, ask):
    lm = {"ttl_s": 500}
    assert ask(lm=lm) == ask(lm=lm) == "0"
    assert ask(lm=lm, rollout_id=1, ttl_s=0.05) == ask(lm=lm, rollout_id=1) == "1"
    time.sleep(0.06)
    assert ask(lm=lm) == "0"
    assert ask(lm=lm, rollout_id=1) == "2"
    assert all("ttl_s" not in body and "rollout_id" not in body for body in stub.bodies)


def test_the_lms_time_to_live_holds_where_the_call_says_nothing(ask):
    lm = {"ttl_s": 0.05}
    assert ask(lm=lm) == ask(lm=lm) == "0"
    time.sleep(0.06)
    assert ask(lm=lm) == "1"


def test_cache_false_asks_anew_and_keeps_nothing(stub, cache, ask):
    assert [ask(cache=False), ask(), ask(cache=False), ask()] == ["0", "1", "2", "1"]
    assert all("cache" not in body for body in stub.bodies)
    assert cache.stats().entries == 1


def test_as_in_dspy_a_call_may_cache_what_its_lm_does_not(ask):
    lm = {"cache": False}
    assert [ask(lm=lm), ask(lm=lm), ask(lm=lm, cache=True), ask(lm=lm, cache=True)] == ["0", "1", "2", "2"]


@pytest.mark.parametrize("ttl_s", [0, -1, "1h", True, float("nan")])
def test_an_impossible_time_to_live_is_refused(stub, ask, ttl_s):
    with pytest.raises(LMInvalidRequestError, match="ttl_s="):
        ask(ttl_s=ttl_s)
    assert stub.bodies == []


@pytest.mark.parametrize("engine", ["native", "dspy"])
@pytest.mark.parametrize("where", ["call", "config", "program"])
def test_predict_takes_both_words(stub, cache, engine, where, monkeypatch):
    numbers = iter(range(100))
    clock, later = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: clock() + later)
    stub.answer = lambda body: ANSWER.format(next(numbers))

    def ask(**said):
        program = dx.Predict("question -> answer", **(said if where == "program" else {}))
        options = {"config": said} if where == "config" else said if where == "call" else {}
        return program.call({"question": "q"}, session=dx.session(), scope=scope(), engine=engine, **options).answer

    def scope():
        from dspex_nb.scopes import Scope

        return Scope("r")

    with dx.context(cache=cache, lm=dx.LM("openai/stub", api_base=stub.url, api_key="sk-x").client):
        assert [ask(cache=False), ask(ttl_s=60), ask(), ask(cache=False), ask()] == ["0", "1", "1", "2", "1"]
        later = 61.0
        assert ask() == "3"
    assert all("ttl_s" not in body and "cache" not in body for body in stub.bodies)


def test_the_plain_call_and_the_async_one_take_them_too(stub, cache):
    numbers = iter(range(100))
    stub.answer = lambda body: ANSWER.format(next(numbers))
    program = dx.Predict("question -> answer")
    with dx.context(cache=cache, lm=dx.LM("openai/stub", api_base=stub.url, api_key="sk-x").client):
        assert program(question="q", cache=False).answer == "0"
        assert program(question="q", ttl_s=0.1).answer == program(question="q").answer == "1"
        time.sleep(0.11)
        assert asyncio.run(program.acall(question="q", ttl_s=50)).answer == program(question="q").answer == "2"
        assert asyncio.run(program.acall(question="q", cache=False)).answer == "3"


def test_an_input_of_that_name_is_an_input(stub, cache):
    stub.answer = lambda body: ANSWER.format("x")
    with dx.context(cache=cache, lm=dx.LM("openai/stub", api_base=stub.url, api_key="sk-x").client):
        dx.Predict("cache, ttl_s -> answer")(cache="L2", ttl_s="an hour")
    assert "an hour" in stub.bodies[0]["messages"][-1]["content"]


def test_a_pipelines_steps_keep_answers_as_long_as_they_say(stub, cache):
    numbers = iter(range(100))
    stub.answer = lambda body: ANSWER.format(next(numbers))
    pipe = dx.Pipeline("p", short=dx.predict("question -> answer", ttl=0.1))
    with dx.context(cache=cache, lm=dx.LM("openai/stub", api_base=stub.url, api_key="sk-x").client):
        assert [pipe(question="q").answer for _ in range(2)] == ["0", "0"]
        time.sleep(0.11)
        assert pipe(question="q").answer == "1"


def test_what_was_kept_holds_no_key_and_no_prompt(stub, cache, tmp_path):
    with dx.context(cache=cache):
        dx.LM("openai/stub", api_base=stub.url, api_key="sk-very-secret")("the prompt itself")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"outputs" in kept
    assert b"sk-very-secret" not in kept
    assert b"the prompt itself" not in kept
