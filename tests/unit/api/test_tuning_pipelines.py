"""Pipelines and DSPy's optimizers: the pipeline as a `dspy.Module`, and what was learned back in its steps."""

from __future__ import annotations

import copy
import re

import dspy
import pytest

import dspex_nb as dx
from dspex_nb.errors import DataError
from dspex_nb.testing import ScriptedLM

SAID = {"desk": "tech", "reply": "hello", "reasoning": "because"}


def answer(request):
    asked = str(request.messages[-1]["content"]).rpartition("starting with the field")[2]
    names = [name for name in re.findall(r"\[\[ ## (\w+) ## ]]", asked) if name != "completed"]
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{SAID.get(name, 'x')}" for name in names), "[[ ## completed ## ]]"])


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(answer, model="scripted/tuning")
    dx.configure(lm=scripted, cache=None)
    return scripted


def count(reply: str) -> int:
    return len(reply)


def support():
    return dx.Pipeline(
        "support",
        triage=dx.predict("message -> desk"),
        why=dx.chain_of_thought("message, desk, tone -> reply", tone=dx.field("hint"), temperature=0.5),
        n=dx.native(count),
        inputs={"message": str, "hint": (str, "calm")},
    )


TRAIN = [dspy.Example(message=f"m{number}", desk="tech", reply="hello", n=5).with_inputs("message") for number in range(4)]


def last_prompts(lm, pipe):
    before = len(lm.requests)
    pipe(message="new")
    return [request.messages for request in lm.requests[before:]]


def test_each_lm_step_is_a_named_predictor_and_the_result_is_the_same(lm):
    pipe = support()
    module = pipe.as_dspy()
    assert [name for name, _ in module.named_predictors()] == ["triage", "why.predict"]
    native = last_prompts(lm, pipe)
    before = len(lm.requests)
    assert module(message="new").toDict() == pipe(message="new").to_dict() == {"n": 5}
    assert [request.messages for request in lm.requests[before : before + 2]] == native
    assert lm.requests[before + 1].options["temperature"] == 0.5


@pytest.mark.parametrize(
    "optimizer",
    [
        dspy.LabeledFewShot(k=2),
        dspy.BootstrapFewShot(
            metric=lambda example, found, trace=None: found.n == 5, max_bootstrapped_demos=2, max_labeled_demos=0
        ),
    ],
    ids=["labeled", "bootstrap"],
)
def test_an_optimizer_changes_the_prompts_of_the_pipeline(optimizer, lm):
    pipe = support()
    plain = last_prompts(lm, pipe)
    compiled = optimizer.compile(pipe.as_dspy(), trainset=TRAIN)
    assert all(len(predictor.demos) == 2 for predictor in compiled.predictors())
    assert last_prompts(lm, pipe) == plain
    pipe.adopt(compiled)
    tuned = last_prompts(lm, pipe)
    assert [len(messages) for messages in tuned] == [6, 6]
    before = len(lm.requests)
    compiled(message="new")
    assert [request.messages for request in lm.requests[before:]] == tuned


def test_the_state_loads_in_plain_dspy_and_back(lm, tmp_path):
    pipe = support()
    pipe.adopt(dspy.LabeledFewShot(k=1).compile(pipe.as_dspy(), trainset=TRAIN))
    pipe.as_dspy().save(tmp_path / "state.json")

    class Plain(dspy.Module):
        def __init__(self):
            super().__init__()
            self.triage, self.why = dspy.Predict("message -> desk"), dspy.ChainOfThought("message, desk, tone -> reply")

    plain = Plain()
    plain.load(tmp_path / "state.json")
    assert [len(predictor.demos) for predictor in plain.predictors()] == [1, 1]
    plain.triage.signature = plain.triage.signature.with_instructions("Sort it.")
    other = support().adopt(plain)
    assert other.spec["triage"].state["signature"]["instructions"] == "Sort it."
    assert "Sort it." in last_prompts(lm, other)[0][0]["content"]
    path = other.save(tmp_path / "tuned.json")
    again = dx.load(path, modules=[__name__])
    assert last_prompts(lm, again) == last_prompts(lm, other)
    assert again.dump_state() == other.dump_state()


def test_copies_are_apart(lm):
    module = support().as_dspy()
    for copied in (module.deepcopy(), copy.deepcopy(module), module.reset_copy()):
        copied.triage.demos = [dspy.Example(message="a", desk="b")]
        copied(message="x")
        assert len(lm.requests[-2].messages) == 4
        assert module.triage.demos == []
    module(message="x")
    assert len(lm.requests[-2].messages) == 2


def test_threads_and_async(lm):
    module = support().as_dspy()
    found = dspy.Parallel(num_threads=4, disable_progress_bar=True)([(module, example) for example in TRAIN * 3])
    assert [one.n for one in found] == [5] * 12
    import asyncio

    assert asyncio.run(module.acall(message="x")).n == 5


def test_branches_children_fallbacks_and_inner_pipelines(lm):
    inner = dx.Pipeline("inner", a=dx.predict("message -> desk"), inputs={"message": str})
    pipe = dx.Pipeline(
        "p",
        both=dx.parallel(dx.predict("message -> desk"), size=dx.native(len, "message -> size: int")),
        forward=dx.predict("message -> reply", when=lambda k: k > 1, on_error=dx.chain_of_thought("message -> reply")),
        inside=dx.module(inner, on_error="skip"),
        each=dx.chain_of_thought("word, desk -> reply2", over=dx.field("words")),
        last=dx.native(lambda both, each: [both["size"], len(each)], each=dx.field("each.reasoning"), on_error="skip"),
        inputs={"message": str, "words": list[str], "k": (int, 1)},
    )
    module = pipe.as_dspy()
    names = [name for name, _ in module.named_predictors()]
    assert names == ["both.desk", "forward_step", "forward_step_on_error.predict", "inside.a", "each.predict"]
    given = {"message": "hello", "words": ["a", "b"], "k": 2}
    assert module(**given).toDict() == pipe(**given).to_dict() == {"reply": "hello", "last": [5, 2]}
    assert pipe.adopt(module)(**given).last == [5, 2]


def test_a_state_of_another_pipeline_is_refused(lm):
    pipe = support()
    before = pipe.spec
    for state in ({}, {"other": {}}, {**pipe.dump_state(), "more": {}}):
        with pytest.raises(DataError, match="not of the pipeline 'support'"):
            pipe.load_state(state)
    state = pipe.dump_state()
    state["triage"]["signature"]["fields"].pop()
    with pytest.raises(DataError, match="step 'triage' is of a signature with 1 fields"):
        pipe.load_state(state)
    assert pipe.spec is before


def test_votes_and_filled_prompts(fresh):
    scripted = ScriptedLM(lambda request: "[[ ## reasoning ## ]]\nr\n\n[[ ## x ## ]]\n7\n\n[[ ## completed ## ]]")
    dx.configure(lm=scripted, cache=None)
    pipe = dx.Pipeline(
        "p",
        a=dx.multi_chain_comparison("q -> x", chains=3, aggregation="majority"),
        b=dx.template("Say {{ x }}", call=True, temperature=0.3),
        inputs={"q": str},
    )
    module = pipe.as_dspy()
    assert [name for name, _ in module.named_predictors()] == ["a.predict"]
    assert module(q="?").toDict() == pipe(q="?").to_dict()
    asked = [request.messages for request in scripted.requests]
    assert asked[:4] == asked[4:]


def test_a_study_tunes_a_pipeline_in_its_own_process(fresh, chat_server):
    dx.configure(lm=dx.LM("openai/m", api_base=chat_server.url, api_key="x"), adapter="chat")
    pipe = dx.Pipeline(
        "support", triage=dx.predict("message -> desk"), why=dx.predict("desk -> reply"), loud=dx.native(str.upper, "reply -> loud"),
        inputs={"message": str},
    )  # fmt: skip
    train = [{"message": f"m{number}", "desk": "d", "reply": "r", "loud": "R"} for number in range(3)]
    study = dx.optimize(pipe, "LabeledFewShot", trainset=train, k=2)
    assert study.wait(60).status == "done", study.error
    assert "support" in study.name
    assert [len(found.spec[name].state["demos"]) for found in (study.best,) for name in ("triage", "why")] == [2, 2]
    assert pipe.spec["triage"].state is None
    study.adopt()
    before = len(chat_server.bodies)
    pipe(message="new")
    assert [len(body["messages"]) for body in chat_server.bodies[before:]] == [6, 6]
