"""Sampling through our client is sampling as in plain DSPy: the same requests are sent as often, the same answers are drawn.

Each program runs twice against a real HTTP server, once with `dspy.LM` and DSPy's own cache, once with `BridgeLM` over our
client and cache. The server numbers the samples of each request: asked the same twice, it answers something else the second
time, at temperature 0 too. So a rollout or candidate that one side serves from its cache and the other does not shows at once.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import warnings
from collections import Counter

import dspy
import pytest

from dspex_nb.ambient import Session
from dspex_nb.bridge import BridgeLM
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.modules import Predict
from dspex_nb.scopes import Scope
from dspex_nb.transport import close_idle


class Sampler:
    """Answers every output field of a chat prompt; which answer depends on the request and on how often it was asked."""

    def __init__(self, model_server):
        self.sent = []  # (request, candidates asked for), in the order they came
        self.samples = Counter()
        self._lock = threading.Lock()
        self.url = model_server(self.answer).url

    def answer(self, body):
        temperature = body.get("temperature")  # DSPy writes 0 as 0.0
        asked = json.dumps([body["messages"], temperature if temperature is None else float(temperature)], sort_keys=True)
        count = body.get("n") or 1
        with self._lock:
            self.sent.append((asked, count))
            first = self.samples[asked]
            self.samples[asked] += count
        return [_text(body, asked, first + i) for i in range(count)]


def _text(body, asked, sample):
    system = str(body["messages"][0]["content"])
    outputs = re.findall(r"\d+\. `(\w+)` \(([^)]*)\)", system.partition("Your output fields are:")[2].partition("All inter")[0])
    drawn = int(hashlib.sha256(f"{asked}{sample}".encode()).hexdigest(), 16) % 7
    values = {name: json.dumps({"self": f"try {drawn}"}) if "dict" in kind else str(drawn) for name, kind in outputs}
    return "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in values.items()) + "[[ ## completed ## ]]"


@pytest.fixture
def plain_cache(tmp_path):
    """DSPy's cache in a place of its own."""
    before = dspy.cache
    dspy.configure_cache(disk_cache_dir=str(tmp_path / "dspy"), enable_memory_cache=True, disk_size_limit_bytes=10_000_000)
    yield
    dspy.cache.disk_cache.close()
    dspy.cache = before


class Outcome:
    """What a program did with one LM: answers in the order it saw them, requests sent, samples drawn."""

    def __init__(self, seen, sampler):
        self.seen, self.requests, self.samples = seen, Counter(asked for asked, _ in sampler.sent), sampler.samples
        self.order = [asked for asked, _ in sampler.sent]


@pytest.fixture
def both(plain_cache, model_server, tmp_path):
    """Run `program(lm, seen)` with plain DSPy and with our client, each against a server of its own."""

    def run(program):
        outcomes = []
        for ours in (False, True):
            sampler, seen = Sampler(model_server), []
            try:
                with dspy.context(adapter=dspy.ChatAdapter(), lm=(lm := _lm(sampler, tmp_path, ours=ours))):
                    program(lm, seen)
                outcomes.append(Outcome(seen, sampler))
            finally:
                close_idle()
        return outcomes

    return run


def _lm(sampler, tmp_path, *, ours):
    if ours:
        client = connect("openai/stub", api_base=sampler.url, api_key="sk-x")
        return BridgeLM(client, scope=Scope("r"), cache=Cache(directory=tmp_path / "ours"))
    return dspy.LM("openai/stub", api_base=sampler.url, api_key="sk-x", cache=True)


def the_same(plain, ours, *, in_order=True):
    assert plain.requests
    assert ours.requests == plain.requests
    assert ours.samples == plain.samples
    if in_order:
        assert ours.order == plain.order
        assert ours.seen == plain.seen
    assert sorted(map(str, ours.seen)) == sorted(map(str, plain.seen))


def questions(count):
    return [
        dspy.Example(question=f"question {number}", answer=str(number % 7)).with_inputs("question") for number in range(count)
    ]


def watched(seen, least=3):
    """A metric that keeps what it was shown; of the answers 0 to 6 those from `least` on are good."""

    def metric(example, prediction, trace=None):
        seen.append(prediction.answer)
        return float(int(prediction.answer) >= least)

    return metric


@pytest.mark.parametrize("kind", [dspy.BestOfN, dspy.Refine])
@pytest.mark.parametrize("rollout_id", [None, 1, 2])
def test_best_of_n_and_refine(both, kind, rollout_id):
    def program(lm, seen):
        def reward(args, prediction):
            seen.append(prediction.answer)
            return int(prediction.answer) / 10

        sampling = kind(module=dspy.ChainOfThought("question -> answer"), N=3, reward_fn=reward, threshold=1.0)
        chosen = lm.copy(rollout_id=rollout_id, temperature=1.0) if rollout_id is not None else lm
        with dspy.context(lm=chosen):
            for _ in range(2):  # the second time everything is there
                seen.append(sampling(question="q").answer)

    plain, ours = both(program)
    the_same(plain, ours)
    assert sum(plain.requests.values()) >= 3


def test_rollouts_through_predict(both):
    def program(lm, seen):
        ask = dspy.Predict("question -> answer")
        for rollout_id in (None, 1, 2, 1, None, 2, 0, 0):
            for temperature in (1.0, 0.5):
                seen.append(ask(question="q", config={"rollout_id": rollout_id, "temperature": temperature}).answer)

    plain, ours = both(program)
    the_same(plain, ours)
    assert sorted(ours.requests.values()) == [4, 4]


def test_temperature_0(both):
    """DSPy warns that a rollout changes nothing at temperature 0, and asks anew all the same; so do we."""

    def program(lm, seen):
        ask = dspy.Predict("question -> answer", temperature=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for rollout_id in (None, None, 1, 1, 2):
                seen.append(ask(question="q", config={"rollout_id": rollout_id}).answer)

    plain, ours = both(program)
    the_same(plain, ours)


def test_three_candidates(both):
    """Each candidate is a request of its own, sent once for each rollout."""

    def program(lm, seen):
        ask = dspy.Predict("question -> answer")
        for rollout_id in (None, 1, None, 1):
            options = {"n": 3, "temperature": 1.0, "rollout_id": rollout_id}
            seen.append(sorted(ask(question="q", config=options).completions.answer))

    plain, ours = both(program)
    the_same(plain, ours)
    assert list(ours.requests.values()) == [6]


def test_bootstrap_rounds(both):
    def program(lm, seen):
        optimizer = dspy.BootstrapFewShot(
            metric=watched(seen, 6), metric_threshold=1.0, max_bootstrapped_demos=4, max_labeled_demos=2, max_rounds=3
        )
        made = optimizer.compile(dspy.ChainOfThought("question -> answer"), trainset=questions(5))
        seen.extend(str(demo.get("answer")) for demo in made.predictors()[0].demos if demo.get("augmented"))
        seen.append(made(question="new").answer)

    plain, ours = both(program)
    the_same(plain, ours)
    temperatures = [json.loads(asked)[1] for asked in plain.order]
    assert max(plain.requests.values()) == 2  # the second and the third round asked the same, in rollouts of their own
    assert 1.0 in temperatures
    assert None in temperatures


@pytest.mark.parametrize("threads", [1, 4])
def test_bootstrap_with_random_search(both, threads):
    def program(lm, seen):
        optimizer = dspy.BootstrapFewShotWithRandomSearch(
            metric=watched(seen), max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=2, num_threads=threads
        )
        made = optimizer.compile(dspy.Predict("question -> answer"), trainset=questions(4), valset=questions(8)[4:])
        seen.append(made(question="new").answer)

    plain, ours = both(program)
    the_same(plain, ours, in_order=threads == 1)


def test_simba(both):
    def program(lm, seen):
        optimizer = dspy.SIMBA(metric=watched(seen), bsize=4, num_candidates=3, max_steps=2, max_demos=2, num_threads=1)
        made = optimizer.compile(dspy.Predict("question -> answer"), trainset=questions(8), seed=3)
        seen.append(made(question="new").answer)

    plain, ours = both(program)
    the_same(plain, ours)
    assert max(plain.requests.values()) == 3  # trajectories of one program: as many samples of one request


def test_the_native_predict_samples_as_dspys(plain_cache, model_server, tmp_path):
    """`dx.Predict` against `dspy.Predict`: rollouts and candidates, temperatures chosen and left out, each case twice."""
    calls = [
        *({"rollout_id": rollout_id, "temperature": 1.0} for rollout_id in (None, 1, 2)),
        *({"n": 3, "rollout_id": rollout_id} for rollout_id in (None, 1)),
        {"n": 2, "temperature": 0.9},
        {"temperature": 0.0},
        {},
    ]
    plain, native = Sampler(model_server), Sampler(model_server)
    try:
        with dspy.context(adapter=dspy.ChatAdapter(), lm=_lm(plain, tmp_path, ours=False)):
            ask = dspy.Predict("question -> answer")
            theirs = [sorted(ask(question="q", config=call).completions.answer) for call in [*calls, *calls]]
        client = connect("openai/stub", api_base=native.url, api_key="sk-x")
        session = Session(lm=client, adapter="chat", cache=Cache(directory=tmp_path / "native"))
        program = Predict("question -> answer")
        ours = [program.call({"question": "q"}, session=session, scope=Scope("r"), **call) for call in [*calls, *calls]]
    finally:
        close_idle()
    assert {prediction.route.engine for prediction in ours} == {"native"}
    assert [sorted(each["answer"] for each in prediction.completions) for prediction in ours] == theirs
    assert native.samples == plain.samples
    assert sum(native.samples.values()) == 3 + 6 + 2 + 1 + 1
