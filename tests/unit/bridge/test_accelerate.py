"""`dx.accelerate` against the plain program: requests, values, traces, files and compile results are the same."""

import asyncio
import copy
import enum
import hashlib
import json
from typing import Literal

import cloudpickle
import dspy
import pydantic
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

import dspex_nb as dx
from dspex_nb.api.accelerating import accelerate
from dspex_nb.bridge import BridgeLM, CompactAdapter
from dspex_nb.bridge.accelerate import AcceleratedPredict, _Call
from dspex_nb.errors import DSPexError


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Person(pydantic.BaseModel):
    name: str
    age: int


class Sorted(dspy.Signature):
    """Sort a message.

    Be quick."""

    message: str = dspy.InputField(desc="what came in")
    tags: list[str] = dspy.InputField()
    desk: Literal["tech", "sales"] = dspy.OutputField(desc="who reads it")
    size: int = dspy.OutputField(ge=0, le=9)
    who: Person | None = dspy.OutputField()
    mood: Mood = dspy.OutputField()


class Nested(dspy.Module):
    """Predictors as attributes, in a list, in a dict, in inner modules."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("question -> hint")
        self.steps = [dspy.ChainOfThought("question, hint -> answer"), dspy.Predict("answer -> size: int")]
        self.named = {"last": dspy.Predict("answer, size: int -> verdict: bool")}

    def forward(self, question):
        hint = self.first(question=question).hint
        answer = self.steps[0](question=question, hint=hint).answer
        size = self.steps[1](answer=answer).size
        return self.named["last"](answer=answer, size=size)


WORDS = {"hint": "look", "reasoning": "because of\nit", "answer": "Paris", "size": "7", "verdict": "True", "desk": "tech",
         "who": '{"name": "Ann", "age": 3}', "mood": "good", "next_thought": "on", "next_tool_name": "finish",
         "next_tool_args": "{}"}  # fmt: skip


def chat_answer(body):
    """Every field of the format that the prompt asks for, in a chat answer; a function of the request alone."""
    system = body["messages"][0]["content"]
    asked = system.split("Your output fields are:")[1].split("All interactions")[0]
    fields = [line.split("`")[1] for line in asked.splitlines() if "`" in line]
    digest = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:4]
    values = {name: WORDS.get(name, "x") for name in fields}
    if "answer" in values:
        values["answer"] += f" {digest}"
    if "JSON object with the following fields" in system:
        typed = {"size": 7, "verdict": True, "who": {"name": "Ann", "age": 3}, "next_tool_args": {}}
        return json.dumps({name: typed.get(name, value) for name, value in values.items()})
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()) + "\n\n[[ ## completed ## ]]"


@pytest.fixture
def both(stub, client):
    """Runs a function on a plain and on an accelerated copy of a program, and returns what each sent and gave."""
    stub.answer = chat_answer

    def run(program, work, *, adapter=None, native=True, **settings):
        results = []
        for fast in (False, True):
            used = program.deepcopy()
            if fast:
                accelerate(used)
            stub.bodies.clear()
            lm = BridgeLM(client)
            with dspy.context(lm=lm, adapter=adapter, trace=[], **settings), counting() as reads:
                outcome = work(used)
                trace = [(name_of(used, step[0]), step[1], dict(step[2])) for step in dspy.settings.trace]
                history = [(entry["messages"], entry["outputs"], entry["usage"]) for entry in lm.history]
            assert bool(reads) is (fast and native)
            results.append({"sent": list(stub.bodies), "gave": outcome, "trace": trace, "history": history})
        assert results[0] == results[1]
        return results[0]

    return run


class counting:
    """Counts the answers that our own adapters read."""

    def __enter__(self):
        self.real, self.reads = _Call.read, []
        _Call.read = lambda call, outputs: self.reads.append(outputs) or self.real(call, outputs)
        return self.reads

    def __exit__(self, *_):
        _Call.read = self.real


def name_of(program, predictor):
    return next((name for name, one in program.named_predictors() if one is predictor), None)


def plain(prediction):
    completions = prediction.completions
    return [*prediction.items()], None if completions is None else dict(completions.items()), repr(prediction)


ADAPTERS = [None, dspy.ChatAdapter(), dspy.JSONAdapter(), CompactAdapter(), dspy.ChatAdapter(use_native_function_calling=True)]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["none", "chat", "json", "compact", "calling"])
def test_one_predictor(both, stub, adapter):
    if isinstance(adapter, CompactAdapter):
        stub.answer = lambda body: '{"desk": "tech", "size": 7, "who": {"name": "Ann", "age": 3}, "mood": "good"}'
    program = dspy.Predict(Sorted, temperature=0.5)
    program.demos = [
        dspy.Example(message="m", tags=["a"], desk="sales", size=1, who=None, mood=Mood.BAD),
        dspy.Example(message="m", tags=["a"], desk="sales", size=1, who=Person(name="B", age=1), mood=Mood.BAD),
        {"message": "n", "size": 2},
    ]
    both(program, lambda p: plain(p(message="hello", tags=["x", "y"])), adapter=adapter)
    both(program, lambda p: plain(p(message="hello", tags="wrong", other=1, config={"max_tokens": 5, "rollout_id": 3})),
         adapter=adapter)  # fmt: skip
    both(program, lambda p: plain(p(message="only")), adapter=adapter)


def test_the_order_of_fields_in_an_answer_is_kept_as_dspy_keeps_it(both, stub):
    stub.answer = lambda body: "[[ ## size ## ]]\n2\n[[ ## answer ## ]]\na\n[[ ## completed ## ]]"
    both(dspy.Predict("question -> answer, size: int"), lambda p: plain(p(question="q")))


def test_several_candidates(both):
    gave = both(dspy.Predict("question -> answer", n=3), lambda p: plain(p(question="q")))
    assert len(gave["gave"][1]["answer"]) == 3
    assert {body["temperature"] for body in gave["sent"]} == {0.7}


@pytest.mark.parametrize("adapter", ADAPTERS[:3], ids=["none", "chat", "json"])
def test_a_program_of_modules(both, adapter):
    found = both(Nested(), lambda p: plain(p(question="capital?")), adapter=adapter)
    assert len(found["sent"]) == 4
    assert len(found["trace"]) == 4


def test_async(both):
    both(dspy.Predict("question -> answer"), lambda p: plain(asyncio.run(p.acall(question="q"))))


def test_react_with_tools(both):
    def look(city: str) -> str:
        """Look it up."""
        return city

    found = both(dspy.ReAct("question -> answer", tools=[look]), lambda p: plain(p(question="q")))
    assert len(found["sent"]) == 2


def test_sampling_modules_sample_as_plain_ones(both):
    def best(program):
        return plain(dspy.BestOfN(module=program, N=3, reward_fn=lambda args, got: 0.1, threshold=1.0)(question="q"))

    assert len(both(dspy.Predict("question -> answer"), best)["sent"]) == 3


@pytest.mark.parametrize(
    "adapter", [None, dspy.JSONAdapter(), dspy.ChatAdapter(use_json_adapter_fallback=False), CompactAdapter()]
)
@pytest.mark.parametrize("text", ["garbage", "", "[[ ## answer ## ]]\nx", '{"answer": "x"}', '{"answer": "x", "size": "many"}'])
def test_answers_that_cannot_be_read(both, stub, adapter, text):
    def error(program):
        try:
            return plain(program(question="q"))
        except AdapterParseError as error:
            return error.adapter_name, error.lm_response, error.parsed_result, str(error)

    stub.answer = lambda body: text
    both(dspy.Predict("question -> answer, size: int"), error, adapter=adapter)


def test_a_chat_answer_that_cannot_be_read_is_asked_for_as_json(both, stub):
    stub.answer = lambda body: '{"answer": "x"}' if "JSON" in body["messages"][0]["content"] else "garbage"
    found = both(dspy.Predict("question -> answer"), lambda p: plain(p(question="q")))
    assert len(found["sent"]) == 2
    assert found["gave"][0] == [("answer", "x")]
    both(dspy.Predict("question -> answer"), lambda p: plain(asyncio.run(p.acall(question="q"))))


def test_the_lms_errors_are_the_same(both, stub):
    stub.answer = lambda body: 1 / 0  # the server breaks the connection

    def failed(program):
        with pytest.raises(dspy.utils.exceptions.LMError) as caught:
            program(question="q")
        return type(caught.value)

    from dspex_nb.clients import connect

    client = connect("openai/stub", api_base=stub.url, api_key="k", num_retries=0)
    for fast in (False, True):
        program = dspy.Predict("question -> answer")
        with dspy.context(lm=BridgeLM(client)):
            assert issubclass(failed(accelerate(program) if fast else program), dspy.utils.exceptions.LMError)


class Listening(BaseCallback):
    def __init__(self):
        self.seen = []

    def on_module_start(self, call_id, instance, inputs):
        self.seen.append(("module", type(instance).__name__, inputs))

    def on_module_end(self, call_id, outputs, exception):
        self.seen.append(("module end", dict(outputs)))

    def on_lm_start(self, call_id, instance, inputs):
        self.seen.append(("lm", inputs["messages"], inputs["kwargs"]))

    def on_lm_end(self, call_id, outputs, exception):
        self.seen.append(("lm end", outputs))


class ListeningToAdapters(Listening):
    def on_adapter_format_start(self, call_id, instance, inputs):
        self.seen.append(("format", inputs["inputs"]))

    def on_adapter_parse_end(self, call_id, outputs, exception):
        self.seen.append(("parsed", outputs))


@pytest.mark.parametrize(("kind", "native"), [(Listening, True), (ListeningToAdapters, False)])
def test_callbacks_hear_everything(both, kind, native):
    def listened(program):
        callback = kind()
        with dspy.context(callbacks=[callback]):
            program(question="q")
        return callback.seen

    seen = both(Nested(), listened, native=native)["gave"]
    assert len([one for one in seen if one[0] == "lm"]) == 4
    assert len([one for one in seen if one[0] == "module"]) == 6
    assert bool([one for one in seen if one[0] == "parsed"]) is not native


def test_usage_and_history(both):
    def used(program):
        done = program(question="q")
        return done.get_lm_usage(), [len(one.history) for one in (program, *program.predictors())]

    gave = both(Nested(), used, track_usage=True)["gave"]
    assert gave == ({"openai/stub": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}}, [4, 1, 1, 1, 1])


def test_streaming_and_foreign_types_and_other_lms_go_dspys_way(both, stub):
    class Custom(dspy.Predict):
        pass

    both(Custom("question -> answer"), lambda p: plain(p(question="q")), native=False)
    program = accelerate(dspy.Predict("question -> answer"))
    with dspy.context(lm=dspy.utils.DummyLM([{"answer": "dummy"}])), counting() as reads:
        assert program(question="q").answer == "dummy"
    assert not reads
    both(dspy.Predict("question -> answer"), lambda p: plain(p(question="q")), native=False, send_stream=object())
    both(dspy.Predict("question -> answer", response_format=None), lambda p: plain(p(question="q")), native=False)


def test_predictors_of_frozen_modules_are_served_too():
    program = Nested()
    program.steps[0]._compiled = True
    accelerate(program)
    assert isinstance(program.steps[0].predict, AcceleratedPredict)


def test_a_changed_signature_is_followed(both):
    def changed(program):
        seen = [plain(program(question="q"))]
        program.signature = program.signature.with_instructions("Say it in French.")
        seen.append(plain(program(question="q")))
        program.signature.instructions = "In Latin."  # changes the class itself
        seen.append(plain(program(question="q")))
        program.signature = program.signature.with_updated_fields("answer", desc="one word")
        seen.append(plain(program(question="q")))
        return seen

    sent = both(dspy.Predict("question -> answer"), changed)["sent"]
    systems = [body["messages"][0]["content"] for body in sent]
    assert ["French" in text for text in systems] == [False, True, False, False]
    assert ["Latin" in text for text in systems] == [False, False, True, True]
    assert "one word" in systems[3]


def test_copies(both):
    program = accelerate(Nested())
    for copied in (program.deepcopy(), copy.deepcopy(program), program.reset_copy()):
        assert all(isinstance(one, AcceleratedPredict) for one in copied.predictors())
        assert not {id(one) for one in copied.predictors()} & {id(one) for one in program.predictors()}
        assert [name for name, _ in copied.named_predictors()] == [name for name, _ in program.named_predictors()]
    assert isinstance(copy.copy(program.first), AcceleratedPredict)


def test_pickles_are_plain_ones(tmp_path):
    program = Nested()
    program.first.demos = [{"question": "q", "hint": "h"}]
    fast = accelerate(program.deepcopy())
    for one in (fast.first, fast.steps[1]):
        dumped = cloudpickle.dumps(one)
        loaded = cloudpickle.loads(dumped)
        assert b"dspex_nb" not in dumped
        assert type(loaded) is dspy.Predict
        assert loaded.dump_state() == one.dump_state()
    fast.save(tmp_path / "whole", save_program=True, modules_to_serialize=[])
    loaded = dspy.load(tmp_path / "whole", allow_pickle=True)
    assert loaded.dump_state() == fast.dump_state()


def test_files_are_the_same_bytes(tmp_path):
    program = Nested()
    program.first.demos = [dspy.Example(question="q", hint="h").with_inputs("question")]
    program.steps[1].signature = program.steps[1].signature.with_instructions("Count.")
    fast = accelerate(program.deepcopy())
    program.save(tmp_path / "plain.json")
    fast.save(tmp_path / "fast.json")
    assert (tmp_path / "plain.json").read_bytes() == (tmp_path / "fast.json").read_bytes()
    other = accelerate(Nested())
    other.load(tmp_path / "plain.json")
    assert other.dump_state() == program.dump_state()
    assert isinstance(other.first, AcceleratedPredict)


def test_set_lm_and_an_lm_of_a_predictor(stub, client):
    stub.answer = chat_answer
    program = accelerate(Nested())
    lm = BridgeLM(client)
    program.set_lm(lm)
    assert program.get_lm() is lm
    with counting() as reads:
        assert program(question="q").verdict is True
        assert program.first(question="q", lm=BridgeLM(client, temperature=0.9)).hint == "look"
    assert len(reads) == 5
    assert stub.bodies[-1]["temperature"] == 0.9


def test_parallel_and_evaluate(both):
    data = [dspy.Example(question=f"q{i}", verdict=True).with_inputs("question") for i in range(6)]

    def parallel(program):
        return sorted(map(repr, dspy.Parallel(num_threads=3, disable_progress_bar=True)([(program, row) for row in data])))

    def evaluated(program):
        run = dspy.Evaluate(devset=data, metric=lambda row, got, trace=None: got.verdict == row.verdict, num_threads=1)
        return run(program).score

    found = both(Nested(), evaluated)
    assert found["gave"] == 100.0
    program, fast = Nested(), accelerate(Nested())
    lm = dspy.settings.lm
    assert lm is None
    assert parallel_with(program, parallel) == parallel_with(fast, parallel)


def parallel_with(program, work):
    from dspex_nb.testing import ScriptedLM

    def answer(request):
        return chat_answer({"messages": list(request.messages)})

    with dspy.context(lm=BridgeLM(ScriptedLM(answer))):
        return work(program)


def test_bootstrapping_gives_the_same_demos(both, tmp_path):
    data = [dspy.Example(question=f"q{i}", verdict=True).with_inputs("question") for i in range(4)]

    def compiled(program):
        optimizer = dspy.BootstrapFewShot(metric=lambda row, got, trace=None: got.verdict, max_bootstrapped_demos=2,
                                          max_labeled_demos=2)  # fmt: skip
        best = optimizer.compile(program, trainset=data)
        return best.dump_state(), {type(one).__name__ for one in best.predictors()}

    state, names = both(Nested(), compiled)["gave"]
    assert names == {"Predict"}
    assert len(state["first"]["demos"]) == 2
    assert state["first"]["demos"][0]["augmented"] is True


def test_instruction_search_gives_the_same_program(both):
    data = [dspy.Example(question=f"q{i}", answer="Paris").with_inputs("question") for i in range(3)]

    def compiled(program):
        optimizer = dspy.COPRO(metric=lambda row, got, trace=None: len(got.answer) % 3, breadth=2, depth=1)
        best = optimizer.compile(program, trainset=data, eval_kwargs={"num_threads": 1, "display_progress": False})
        return best.dump_state()

    both(dspy.Predict("question -> answer"), compiled)


def test_it_can_be_undone_and_only_programs_are_taken():
    program = Nested()
    first = program.first
    assert accelerate(program) is program
    assert program.first is first
    assert isinstance(first, dspy.Predict)
    assert repr(first).startswith("Predict(")
    accelerate(program)
    accelerate(program, False)
    assert {type(one) for one in program.predictors()} == {dspy.Predict}
    with pytest.raises(DSPexError, match="not a DSPy program"):
        dx.accelerate("question -> answer")
    with pytest.raises(DSPexError, match="native already"):
        dx.accelerate(dx.Predict("question -> answer"))


def test_where_dspy_has_no_lm_the_session_serves(fresh):
    from dspex_nb.testing import ScriptedLM

    lm = ScriptedLM(lambda request: chat_answer({"messages": list(request.messages)}))
    program = accelerate(Nested())
    with pytest.raises(ValueError, match="No LM is loaded"):
        program(question="q")
    dx.configure(lm=lm)
    with counting() as reads:
        assert program(question="q").verdict is True
        assert program(question="q").verdict is True
    assert len(reads) == 8
    assert len(lm.requests) == 4  # our cache
    assert dx.session().ledger.calls == 4
    dx.configure(adapter="json")
    assert program(question="r").verdict is True
    assert "JSON object" in lm.requests[-1].messages[0]["content"]
    with dx.context(lm=ScriptedLM(['{"hint": "other"}'])):
        assert program.first(question="z").hint == "other"


def test_a_stop_passes(stub, client):
    from dspex_nb.bridge import Stopped
    from dspex_nb.scopes import Scope

    scope = Scope("r")
    program = accelerate(dspy.Predict("question -> answer"))
    scope.cancel.cancel()
    with dspy.context(lm=BridgeLM(client, scope=scope)), pytest.raises(Stopped):
        program(question="q")
    assert stub.bodies == []
